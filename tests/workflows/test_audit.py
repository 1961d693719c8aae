"""The audit of a data set and of a run, from Python."""

from __future__ import annotations

from pathlib import Path

import pytest

import gyrus
from gyrus.audit.findings import Findings
from gyrus.datasets.scan import scan
from gyrus.datasets.splits import SplitConfig, split
from gyrus.errors import ConfigError, UnknownNameError
from gyrus.runs.run_folder import Run
from gyrus.synthetic.phantom import generate
from gyrus.synthetic.phantom_layouts import write
from gyrus.workflows.audit import audit


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 phantom subjects with 16 slices each."""
    phantom = generate(subjects=12, slices=16, classes=2, size=64, seed=4)
    return write(phantom, tmp_path_factory.mktemp("audit") / "data")


def test_an_audit_returns_what_it_writes(data: Path, tmp_path: Path) -> None:
    options = gyrus.DataConfig(subject_rule="none")
    result = gyrus.audit(data, out=tmp_path / "out", maps=False, checks=["subjects", "leakage"], data=options)
    assert result.page == tmp_path / "out" / "audit.html"
    assert result.findings.text() == Findings.load(tmp_path / "out" / "findings.json").text()
    assert {entry.check for entry in result.findings.entries} == {"subjects", "leakage"}
    assert "12 subjects" in result.findings.select("subjects")[0].verdict


def test_a_run_is_audited_in_its_folder(data: Path, tmp_path: Path) -> None:
    run, manifest = Run.create(tmp_path / "run"), scan(data)
    manifest.save(run.manifest)
    split(manifest, SplitConfig(unit="image"), seed=1).save(run.split)
    result = audit(run=run.folder, maps=False, checks=["leakage"])
    assert result.page == run.audit / "audit.html"
    assert result.findings.verdict.startswith("The split leaks: 12 of the 12 subjects in the test set")


def test_unusable_files_do_not_stop_an_audit(tmp_path: Path) -> None:
    folder = write(generate(subjects=4, slices=4, classes=2, size=32), tmp_path / "data")
    (folder / "Control" / "broken.png").write_bytes(b"")
    result = audit(folder, out=tmp_path / "out", maps=False, checks=["quality"])
    assert result.findings.images == 16


def test_mistakes_are_refused_before_any_work(data: Path) -> None:
    with pytest.raises(ConfigError, match="nothing to audit"):
        audit()
    with pytest.raises(ConfigError, match="not both"):
        audit(data, split="split.json", run="run")
    with pytest.raises(UnknownNameError, match="'leakage'"):
        audit(data, checks=["leakige"])
