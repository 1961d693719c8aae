"""Cleaned copies and split files, from Python."""

from __future__ import annotations

from pathlib import Path

import pytest

import gyrus
from gyrus.curation.cleaning import Rules
from gyrus.datasets.scan import scan
from gyrus.datasets.splits import Split
from gyrus.errors import BadFilesError, ConfigError
from gyrus.transforms.contrast_enhancement import Clahe
from gyrus.workflows.prepare import prepare, write_split


def test_a_cleaned_copy_is_written(phantom_folder: Path, tmp_path: Path) -> None:
    result = gyrus.prepare(phantom_folder, out=tmp_path / "out", rules=Rules(outliers=None))
    assert result.folder == tmp_path / "out"
    assert len(scan(result.folder)) == len(result.plan.cleaned) == 96


def test_a_dry_run_writes_nothing(phantom_folder: Path, tmp_path: Path) -> None:
    result = prepare(phantom_folder, out=tmp_path / "out", dry_run=True)
    assert result.folder is None
    assert len(result.plan.decisions) == 96
    assert not list(tmp_path.iterdir())


def test_impossible_requests_are_refused_before_any_work(phantom_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--out"):
        prepare(phantom_folder)
    with pytest.raises(ConfigError, match="Nothing is overwritten"):
        prepare(phantom_folder, out=phantom_folder)
    with pytest.raises(ConfigError, match="Give only one of them"):
        prepare(phantom_folder, out=tmp_path / "out", steps=[Clahe()], manifest_only=True)


def test_a_split_is_written(phantom_folder: Path, tmp_path: Path) -> None:
    manifest, split = write_split(phantom_folder, tmp_path / "split.json", split={"test": 0.25}, seed=3)
    assert Split.load(tmp_path / "split.json").samples == split.samples
    assert sum(map(len, split.samples.values())) == len(manifest)
    with pytest.raises(ConfigError, match="less than 1"):
        write_split(phantom_folder, tmp_path / "split.json", split={"test": 2})


def test_unusable_files_stop_a_split(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    gyrus.phantom(folder, subjects=4, slices=2, classes=2, size=32)
    (folder / "Control" / "broken.png").write_bytes(b"")
    with pytest.raises(BadFilesError):
        write_split(folder, tmp_path / "split.json")
