"""The contract of every check of an audit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from gyrus.audit.checks import CHECKS, run_checks
from gyrus.audit.context import AuditContext, gather
from gyrus.audit.findings import SEVERITIES, Findings
from gyrus.datasets.scan import scan
from gyrus.errors import DataError, UnknownNameError
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


def test_volumes_are_refused(context: AuditContext) -> None:
    table = context.manifest.table.assign(shape=[(8, 8, 8)] * len(context.manifest))
    with pytest.raises(DataError, match="An audit works on slices"):
        gather(replace(context.manifest, table=table))
