"""Conversion of a data set, from Python."""

from __future__ import annotations

from pathlib import Path

import pytest

import gyrus
from gyrus.datasets.scan import scan
from gyrus.errors import BadFilesError, UnknownNameError
from gyrus.workflows.convert import convert
from gyrus.workflows.display import Silent
from tests.support.heads import nifti, noise


class Lines(Silent):
    """Keeps the lines shown."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def test_volumes_become_slices_scaled_by_the_steps_of_a_config(tmp_path: Path) -> None:
    for name in ("AD/sub-1_T1w.nii", "NC/sub-2_T1w.nii"):
        nifti(noise(), tmp_path / "volumes" / name)
    result = gyrus.convert(
        tmp_path / "volumes",
        "stack",
        tmp_path / "slices",
        overrides={"preprocessing.volume": [{"step": "percentiles", "low": 1, "high": 99}]},
    )
    assert '"low": 1.0' in result.notes[0]
    assert scan(result.folder).table["subject"].nunique() == len(result.manifest) == 2


def test_personal_data_in_file_names_cause_a_warning(tmp_path: Path) -> None:
    for name in ("AD/Smith_John.nii", "NC/sub-2_T1w.nii"):
        nifti(noise(), tmp_path / "volumes" / name)
    display = Lines()
    convert(tmp_path / "volumes", "nifti", tmp_path / "out", display=display)
    assert any(
        line.startswith("Warning: 1 file or folder names contain what looks like a name") for line in display.lines
    )


def test_unusable_files_and_unknown_layouts_are_refused(phantom_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="'nifti'"):
        convert(phantom_folder, "nifty", tmp_path / "out")
    gyrus.phantom(tmp_path / "data", subjects=4, slices=2, classes=2, size=32)
    (tmp_path / "data" / "Control" / "broken.png").write_bytes(b"")
    with pytest.raises(BadFilesError):
        convert(tmp_path / "data", "folder", tmp_path / "out")
    assert not (tmp_path / "out").exists()
