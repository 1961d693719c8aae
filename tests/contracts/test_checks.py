"""The contract of every check of an audit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gyrus.audit.checks import CHECKS, run_checks
from gyrus.audit.context import AuditContext, gather
from gyrus.audit.findings import SEVERITIES, Findings
from gyrus.audit.subjects_from_pixels import with_inferred_subjects
from gyrus.datasets.scan import scan
from gyrus.errors import DataError, UnknownNameError
from gyrus.reporting.audit_report import write_audit
from gyrus.synthetic.phantom import generate
from gyrus.synthetic.phantom_layouts import write


@pytest.fixture(scope="module", params=["folder", "train-test", "unknown", "one class"])
def context(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AuditContext:
    """Small phantom data of several kinds."""
    phantom = generate(subjects=16, slices=4, classes=2, size=32, seed=0)
    layout = "train-test" if request.param == "train-test" else "folder"
    folder = write(phantom, tmp_path_factory.mktemp("checks") / "data", layout)
    if request.param == "one class":
        return gather(scan(folder / "Control", labelled=False))
    return gather(scan(folder, subject_rule="none" if request.param == "unknown" else None))


@pytest.mark.parametrize("name", CHECKS)
def test_a_check_gives_complete_findings(name: str, context: AuditContext) -> None:
    known = set(context.manifest.table["sample"])
    for finding in CHECKS[name](context):
        assert finding.check == name
        assert finding.severity in SEVERITIES
        assert finding.verdict.endswith(".")
        assert {flag.sample for flag in finding.samples} <= known
        assert all(flag.reason for flag in finding.samples)
        json.dumps(dict(finding.numbers))


@pytest.mark.parametrize("name", CHECKS)
def test_a_check_is_reproducible(name: str, context: AuditContext) -> None:
    assert repr(CHECKS[name](context)) == repr(CHECKS[name](context))


def test_findings_save_and_load(context: AuditContext, tmp_path: Path) -> None:
    findings = run_checks(context, title="phantom")
    findings.save(tmp_path / "findings.json")
    loaded = Findings.load(tmp_path / "findings.json")
    assert loaded.text() == findings.text()
    assert [entry.samples for entry in loaded.entries] == [entry.samples for entry in findings.entries]
    assert [SEVERITIES.index(entry.severity) for entry in loaded.entries] == sorted(
        SEVERITIES.index(entry.severity) for entry in loaded.entries
    )
    findings.save_csv(tmp_path / "findings.csv")
    rows = (tmp_path / "findings.csv").read_text().splitlines()
    assert len(rows) == 1 + sum(max(1, len(entry.samples)) for entry in findings.entries)


def test_a_wrong_name_is_refused_with_the_nearest(context: AuditContext) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'leakage'"):
        run_checks(context, title="phantom", checks=["leackage"])


def test_volumes_are_audited_by_their_central_slices(tmp_path: Path) -> None:
    phantom = generate(subjects=16, slices=4, classes=2, size=32, seed=0)
    phantom.volumes[15] = phantom.volumes[13]
    folder = write(phantom, tmp_path / "data", "nifti")
    context = gather(scan(folder))
    findings = run_checks(context, title="volumes")
    assert {entry.check for entry in findings.entries} == set(CHECKS)
    (subjects,) = findings.select("subjects")
    assert subjects.severity == "note"
    assert subjects.verdict.startswith("Not applicable to volumes")
    assert any(entry.numbers.get("duplicate images") == 1 for entry in findings.select("duplicates"))
    assert "JPEG quality" not in context.images.nuisance
    assert (context.images.nuisance["slices"] == 4).all()
    assert (context.images.nuisance["bytes"] > 0).all()
    assert write_audit(tmp_path / "out", context, findings, maps=False).exists()
    assert not (tmp_path / "out" / "subjects.csv").exists()
    with pytest.raises(DataError, match="these data are volumes"):
        with_inferred_subjects(context.manifest)


def _one_slice(numbers: dict[str, range], height: int = 2) -> dict[str, np.ndarray]:
    """File name to pixels: one slice of each phantom subject, by class."""
    slices = generate(subjects=16, slices=4, size=32, seed=0).volumes[:, height]
    return {
        f"{name}/sub-{number:02}_slice-0.png": slices[number] for name, range_ in numbers.items() for number in range_
    }


def _equal(count: int, value: int | None = None) -> dict[str, np.ndarray]:
    """File name to pixels: the same image again and again, or a constant one, in two classes."""
    picture = next(iter(_one_slice({"a": range(1)}).values()))
    picture = picture if value is None else np.full_like(picture, value)
    return {f"{'ab'[number % 2]}/sub-{number:03}_slice-0.png": picture for number in range(count)}


DEGENERATE: dict[str, dict[str, np.ndarray]] = {
    "two images": _one_slice({"a": range(1), "b": range(1, 2)}),
    "two equal images": _equal(2),
    "three images": _one_slice({"a": range(1), "b": range(1, 3)}),
    "one subject against many": _one_slice({"a": range(15), "b": range(15, 16)}),
    "one subject in each of three classes": _one_slice({"a": range(1), "b": range(1, 2), "c": range(2, 3)}),
    "a third class of one subject": _one_slice({"a": range(8), "b": range(8, 15), "c": range(15, 16)}),
    "equal images": _equal(20),
}
"""Sets that are too small or too uniform for some of the checks."""


@pytest.mark.parametrize("name", DEGENERATE)
def test_no_set_is_too_small_or_too_uniform_for_an_audit(name: str, tmp_path: Path) -> None:
    """Whatever cannot be tested is a note; nothing is a traceback or a warning of a library."""
    for path, pixels in DEGENERATE[name].items():
        (tmp_path / "data" / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "data" / path)
    context = gather(scan(tmp_path / "data"))
    findings = run_checks(context, title=name)
    assert write_audit(tmp_path / "out", context, findings, maps=False).exists()
    (labels,) = [entry for entry in findings.select("labels") if "could not be checked" in entry.verdict]
    assert labels.severity == "note"
