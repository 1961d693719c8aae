"""What every check of an audit keeps to."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from gyrus.audit.checks import CHECKS, AuditContext, audit, gather
from gyrus.audit.findings import SEVERITIES, Findings
from gyrus.datasets.scan import scan
from gyrus.errors import DataError, UnknownNameError
from gyrus.synthetic.phantom import generate, write


@pytest.fixture(scope="module", params=["folder", "train-test", "unknown", "one class"])
def material(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AuditContext:
    """Small phantom data of several kinds."""
    phantom = generate(subjects=16, slices=4, classes=2, size=32, seed=0)
    layout = "train-test" if request.param == "train-test" else "folder"
    folder = write(phantom, tmp_path_factory.mktemp("checks") / "data", layout)
    if request.param == "one class":
        return gather(scan(folder / "Control", labelled=False))
    return gather(scan(folder, subject_rule="none" if request.param == "unknown" else None))


@pytest.mark.parametrize("name", CHECKS)
def test_a_check_tells_plain_findings(name: str, material: AuditContext) -> None:
    known = set(material.manifest.table["sample"])
    for finding in CHECKS[name](material):
        assert finding.check == name
        assert finding.severity in SEVERITIES
        assert finding.verdict.endswith(".")
        assert {flag.sample for flag in finding.samples} <= known
        assert all(flag.reason for flag in finding.samples)
        json.dumps(dict(finding.numbers))


@pytest.mark.parametrize("name", CHECKS)
def test_a_check_tells_the_same_twice(name: str, material: AuditContext) -> None:
    assert repr(CHECKS[name](material)) == repr(CHECKS[name](material))


def test_findings_save_and_load(material: AuditContext, tmp_path: Path) -> None:
    findings = audit(material, title="phantom")
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


def test_a_wrong_name_is_told(material: AuditContext) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'leakage'"):
        audit(material, title="phantom", checks=["leackage"])


def test_other_json_is_no_findings(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text('{"title": "x"}')
    with pytest.raises(DataError, match="does not hold the findings"):
        Findings.load(tmp_path / "other.json")


def test_volumes_are_refused_in_words(material: AuditContext) -> None:
    table = material.manifest.table.assign(shape=[(8, 8, 8)] * len(material.manifest))
    with pytest.raises(DataError, match="An audit looks at slices"):
        gather(replace(material.manifest, table=table))
