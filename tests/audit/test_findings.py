"""Findings as files: today's form, and the form of version 0.1."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gyrus.audit.findings import Finding, Findings, Flag
from gyrus.errors import DataError
from gyrus.text import counted

FINDINGS = Findings.from_entries(
    "data",
    "0123",
    2,
    [
        Finding("quality", "note", "A note.", {"value": 0.5, "undefined": None}),
        Finding("leakage", "error", "An error.", {"pairs": 1}, (Flag("a.png", "duplicate of b.png"),)),
    ],
)


def test_the_most_serious_finding_comes_first_and_is_the_verdict() -> None:
    assert [entry.severity for entry in FINDINGS.entries] == ["error", "note"]
    assert FINDINGS.verdict == "An error."
    assert Findings("data", "0123", 2, ()).verdict.startswith("Nothing was found that would invalidate")
    assert FINDINGS.select("quality") == FINDINGS.entries[1:]


def test_findings_are_saved_with_their_verdict_and_loaded(tmp_path: Path) -> None:
    FINDINGS.save(tmp_path / "findings.json")
    assert json.loads((tmp_path / "findings.json").read_text())["verdict"] == "An error."
    assert Findings.load(tmp_path / "findings.json") == FINDINGS


def test_findings_of_version_0_1_are_read(tmp_path: Path) -> None:
    FINDINGS.save(tmp_path / "findings.json")
    document = json.loads((tmp_path / "findings.json").read_text())
    del document["schema"]
    (tmp_path / "findings.json").write_text(json.dumps({"format": 1, **document}))
    assert Findings.load(tmp_path / "findings.json") == FINDINGS


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text('{"title": "x"}')
    with pytest.raises(DataError, match="field 'manifest_digest'"):
        Findings.load(tmp_path / "other.json")


def test_numbers_agree_with_their_nouns() -> None:
    assert [counted(number, "image") for number in (0, 1, 2000)] == ["0 images", "1 image", "2,000 images"]
