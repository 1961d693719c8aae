from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from gyrus.audit.checks import run_checks
from gyrus.audit.context import gather
from gyrus.audit.shortcuts import association, predictability
from gyrus.datasets.scan import scan
from gyrus.synthetic.phantom import generate
from gyrus.synthetic.phantom_layouts import write


def test_predictability_of_a_shortcut_and_of_noise() -> None:
    generator = np.random.default_rng(2)
    targets = np.arange(60) % 3
    reached, chance, p_value = predictability(targets[:, None] + generator.normal(0, 0.1, (60, 1)), targets)
    assert reached > 0.95
    assert chance < 0.5
    assert p_value < 0.03
    assert predictability(generator.normal(size=(60, 2)), targets)[2] > 0.05


def test_association_agrees_with_scipy() -> None:
    generator = np.random.default_rng(3)
    targets = np.arange(90) % 3
    age = pd.Series(60 + 5 * targets + generator.normal(0, 3, 90))
    name, strength, p_value = association(age, targets)
    assert name == "epsilon squared"
    assert p_value == pytest.approx(stats.kruskal(*[age[targets == label] for label in range(3)]).pvalue)
    assert strength > 0.3
    name, strength, _ = association(pd.Series(np.array(["F", "M", "F"])[targets]), targets)
    assert name == "Cramer's V"
    assert strength == pytest.approx(1.0)


def test_a_class_with_a_mark_in_the_corner_is_a_shortcut(tmp_path: Path) -> None:
    phantom = generate(subjects=30, slices=2, classes=2, size=64, seed=8)
    phantom.volumes[phantom.labels == 1, :, :4, :4] = 90
    findings = run_checks(gather(scan(write(phantom, tmp_path / "data"))), title="phantom", checks=["shortcuts"])
    assert any(entry.numbers.get("property") == "corners" for entry in findings.entries if entry.severity == "warning")


def test_phantom_data_have_no_shortcut_and_columns_are_tested(tmp_path: Path) -> None:
    phantom = generate(subjects=40, slices=2, classes=2, size=64, seed=9)
    findings = run_checks(gather(scan(write(phantom, tmp_path / "data", "csv"))), title="phantom", checks=["shortcuts"])
    assert not [entry for entry in findings.entries if "property" in entry.numbers]
    assert {entry.numbers["column"] for entry in findings.entries if "column" in entry.numbers} == {"age", "sex"}


def test_only_columns_with_one_value_per_subject_are_tested(tmp_path: Path) -> None:
    phantom = generate(subjects=24, slices=2, classes=2, size=32, seed=9)
    folder = write(phantom, tmp_path / "data", "csv")
    file = next(folder.glob("*.csv"))
    table = pd.read_csv(file)
    generator = np.random.default_rng(0)
    (label,) = (name for name in table if set(table[name]) == {"Control", "Dementia"})
    table["box_left"] = generator.integers(0, 32, len(table)) + 10 * (table[label] == "Dementia")
    table["scanner"] = np.where(table[label] == "Dementia", "A", "B")
    table["note"] = "none"
    table.to_csv(file, index=False)
    known = run_checks(gather(scan(folder)), title="phantom", checks=["shortcuts"]).entries
    assert {entry.numbers["column"] for entry in known if "column" in entry.numbers} == {"age", "sex", "scanner"}
    (left_out,) = [entry.verdict for entry in known if "not tested" in entry.verdict]
    assert "box_left (differs between images of a subject)" in left_out
    assert "note (the same value everywhere)" in left_out
    (scanner,) = [entry for entry in known if entry.numbers.get("column") == "scanner"]
    assert scanner.severity == "warning"
    assert "p < 0.001" in scanner.verdict
    assert "gyrus evaluate RUN --matched scanner" in scanner.verdict

    unknown = scan(folder, subject_rule="none")
    hidden = replace(unknown, table=unknown.table.assign(subject=None), subject_kind="unknown", subject_rule="none")
    entries = run_checks(gather(hidden), title="phantom", checks=["shortcuts"]).entries
    assert "box_left" not in {entry.numbers.get("column") for entry in entries}
    assert any("box_left (may differ between images of a subject" in entry.verdict for entry in entries)
