"""HDF5 files of one scan each: subjects, acquisitions and labels."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from gyrus.datasets.scan import scan
from gyrus.errors import DataError
from tests.support.hdf5_scans import write_scan
from tests.support.heads import noise

AXIAL = {"orientation": "SPL"}
KINDS = ("AXT2", "AXFLAIR")


@pytest.fixture
def scans(tmp_path):
    """Four people with two acquisitions each."""
    for number in range(8):
        write_scan(
            tmp_path / "files" / f"file_brain_{number:03d}.h5",
            noise((5, 6, 8), seed=number).astype(np.float32),
            patient_id=f"{number // 2:064x}",
            acquisition=KINDS[number % 2],
        )
    return tmp_path / "files"


def labels(folder, column, values):
    pd.DataFrame(
        {column: values, "label": ["AD" if n < len(values) // 2 else "NC" for n in range(len(values))]}
    ).to_csv(folder / "labels.csv", index=False)
    return folder


@pytest.mark.parametrize("column", ["file", "scan_id"])
def test_labels_are_those_of_a_table_and_subjects_those_of_the_files(scans, column):
    (scans / "weights.h5").write_bytes(b"something else")
    manifest = scan(labels(scans, column, [f"file_brain_{number:03d}" for number in range(8)]), **AXIAL)
    assert manifest.table["subject"].tolist() == [f"{number // 2:064x}" for number in range(8)]
    assert manifest.subject_kind == "subject"
    assert manifest.table["label"].tolist() == ["AD"] * 4 + ["NC"] * 4
    assert manifest.table["acquisition"].tolist() == list(KINDS) * 4
    assert any("several acquisitions (4 x AXFLAIR, 4 x AXT2)" in note for note in manifest.notes)


def test_a_table_of_patient_ids_is_joined_with_the_attribute(scans):
    labels(scans, "patient_id", [f"{number:064x}" for number in range(4)])
    manifest = scan(scans / "labels.csv", **AXIAL)
    assert manifest.table["label"].tolist() == ["AD"] * 4 + ["NC"] * 4
    assert manifest.table["subject"].nunique() == 4


def test_an_acquisition_is_selected_by_its_name(scans):
    labels(scans, "file", [f"file_brain_{number:03d}.h5" for number in range(8)])
    for path in (scans, scans / "labels.csv"):
        manifest = scan(path, files="axt2", **AXIAL)
        assert manifest.table["path"].tolist() == [f"file_brain_{number:03d}.h5" for number in (0, 2, 4, 6)]
        assert manifest.files.left_aside == {"not asked for": 4}
    (scans / "labels.csv").unlink()
    with pytest.raises(DataError, match=r"None of the 8 HDF5 files .*Acquisitions: 4 x AXFLAIR, 4 x AXT2"):
        scan(scans, files="AXT1", labelled=False, **AXIAL)


def test_acquisitions_can_be_channels(scans):
    labels(scans, "patient_id", [f"{number:064x}" for number in range(4)])
    manifest = scan(scans / "labels.csv", channels={"t2": "AXT2", "flair": "AXFLAIR"}, **AXIAL)
    assert len(manifest) == 4
    assert manifest.table["label"].tolist() == ["AD", "AD", "NC", "NC"]


def test_files_without_patients_have_subjects_by_their_names(tmp_path):
    for label, names in {"AD": ("sub-1", "sub-2"), "NC": ("sub-3", "sub-4")}.items():
        for name in names:
            write_scan(tmp_path / label / f"{name}_T2w.h5", noise((5, 6, 8)), patient_id="x" if name == "sub-1" else "")
    assert scan(tmp_path, **AXIAL).table["subject"].tolist() == ["sub-1", "sub-2", "sub-3", "sub-4"]


@pytest.mark.parametrize("labelled", [True, False])
def test_files_that_are_no_scans_are_problems(scans, labelled):
    (scans / "file_brain_001.h5").write_bytes(b"something else")
    (scans / "file_brain_002.h5").write_bytes(b"")
    if labelled:
        (scans / "file_brain_003.h5").unlink()
        labels(scans, "path", [f"file_brain_{number:03d}.h5" for number in range(8)])
    manifest = scan(scans, labelled=labelled, **AXIAL)
    problems = {one.sample: one.kind for one in manifest.problems}
    missing = {"file_brain_003.h5": "missing"} if labelled else {}
    assert problems == {"file_brain_001.h5": "not an image", "file_brain_002.h5": "empty", **missing}
    assert manifest.subject_kind == "subject"
    assert len(manifest) + len(problems) == 8
