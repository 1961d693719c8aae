"""One small data set of volumes, written in every layout, is always the same data set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gyrus.datasets.manifest import Manifest
from gyrus.datasets.reader import Reader
from gyrus.datasets.scan import scan
from gyrus.datasets.volume_files import VolumeFiles
from gyrus.errors import ConfigError, DataError
from gyrus.imaging.orientation import affine_from_slices, array_from_slices
from tests.support import images
from tests.support.dicoms import write_series
from tests.support.heads import nifti, noise

PEOPLE = {"sub-1": "AD", "sub-2": "AD", "sub-3": "NC", "sub-4": "NC"}


def _slices(subject: str) -> np.ndarray:
    return np.random.default_rng(int(subject[-1])).integers(0, 2000, (5, 6, 7)).astype(np.uint16)


def _nifti(subject: str, path: Path) -> None:
    nifti(array_from_slices(_slices(subject)), path, affine_from_slices((3.0, 2.0, 1.5), (5, 6, 7)))


def folder_per_class(root: Path) -> Manifest:
    for subject, label in PEOPLE.items():
        _nifti(subject, root / label / f"{subject}_T1w.nii.gz")
    return scan(root)


def folder_per_subset_and_class(root: Path) -> Manifest:
    for subject, label in PEOPLE.items():
        _nifti(subject, root / ("test" if subject in ("sub-2", "sub-4") else "train") / label / f"{subject}_T1w.nii")
    return scan(root)


def table_of_files(root: Path) -> Manifest:
    for subject in PEOPLE:
        _nifti(subject, root / "all" / f"{subject[-1]}.nii.gz")
    rows = [(f"all/{subject[-1]}.nii.gz", label, subject) for subject, label in PEOPLE.items()]
    pd.DataFrame(rows, columns=["path", "label", "subject"]).to_csv(root / "labels.csv", index=False)
    return scan(root)


def table_of_dicom_folders(root: Path) -> Manifest:
    for subject in PEOPLE:
        write_series(_slices(subject), root / "raw" / subject[-1])
    rows = [(f"raw/{subject[-1]}", label, subject) for subject, label in PEOPLE.items()]
    pd.DataFrame(rows, columns=["path", "label", "subject"]).to_csv(root / "labels.csv", index=False)
    return scan(root)


def bids(root: Path) -> Manifest:
    for subject in PEOPLE:
        _nifti(subject, root / subject / "anat" / f"{subject}_T1w.nii.gz")
    people = pd.DataFrame({"participant_id": PEOPLE.keys(), "age": [70, 71, 72, 73], "group": PEOPLE.values()})
    people.to_csv(root / "participants.tsv", sep="\t", index=False)
    return scan(root)


def dicom(root: Path) -> Manifest:
    for number, (subject, label) in enumerate(PEOPLE.items()):
        write_series(_slices(subject), root / label / subject, PatientID=f"MRN{number}")
    return scan(root)


def dicom_in_one_folder(root: Path) -> Manifest:
    """All people of a class in one folder, files named like nothing, series told apart by their headers only."""
    for number, (subject, label) in enumerate(PEOPLE.items()):
        names = [f"{number}{place}" for place in (3, 0, 4, 1, 2)]
        write_series(_slices(subject), root / label, names=names, PatientID=f"MRN{number}")
    return scan(root, source="dicom")


LAYOUTS: dict[str, list[Callable[[Path], Manifest]]] = {
    "volumes": [folder_per_class, folder_per_subset_and_class, table_of_files],
    "dicom": [dicom, dicom_in_one_folder, table_of_dicom_folders],
    "bids": [bids],
}


@pytest.fixture(scope="module", params=[write for writers in LAYOUTS.values() for write in writers])
def layout(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return request.param(tmp_path_factory.mktemp(request.param.__name__))


def test_volumes_labels_and_people_are_the_same(layout):
    assert layout.problems == ()
    assert layout.classes == ("AD", "NC")
    assert layout.subject_kind == "subject"
    assert layout.table["subject"].nunique() == 4
    assert layout.table["slice"].isna().all()
    assert layout.table["shape"].tolist() == [(5, 6, 7)] * 4
    assert layout.table["spacing"].map(len).tolist() == [3] * 4
    expected = {_slices(subject).tobytes(): label for subject, label in PEOPLE.items()}
    files = VolumeFiles(layout.root, layout.table)
    for position, label in enumerate(layout.table["label"]):
        found = files.read(position).slices().astype(np.uint16)
        assert expected.pop(np.ascontiguousarray(found).tobytes()) == label
    assert not expected


def test_pixels_and_a_saved_manifest_are_the_same(layout, tmp_path):
    layout.save(tmp_path / "manifest.parquet")
    loaded = Manifest.load(tmp_path / "manifest.parquet")
    pd.testing.assert_frame_equal(loaded.table, layout.table)
    assert (loaded.digest, loaded.notes) == (layout.digest, layout.notes)
    first = Reader(layout).read(0)
    assert first.shape == (1, *layout.table["shape"][0])
    np.testing.assert_array_equal(Reader(loaded).read(0), first)


def test_without_labels_only_the_labels_are_missing(layout):
    source = "dicom" if layout.root.name.startswith("dicom_in") else None
    unlabelled = scan(layout.root, labelled=False, source=source)
    assert unlabelled.table["label"].isna().all()
    assert unlabelled.table["digest"].to_list() == layout.table["digest"].to_list()


def test_one_volume_can_be_predicted_on(tmp_path):
    _nifti("sub-1", tmp_path / "a.nii.gz")
    paths = write_series(_slices("sub-2")[:1], tmp_path / "one", names=["IM1"])
    assert len(scan(tmp_path / "a.nii.gz", labelled=False)) == 1
    assert scan(paths[0], labelled=False).table["sample"].tolist() == ["series-007"]


def test_images_and_volumes_are_not_mixed(tmp_path):
    _nifti("sub-1", tmp_path / "AD" / "sub-1_T1w.nii.gz")
    (tmp_path / "AD" / "sub-1.png").write_bytes(images.gray(0))
    for source in ("folder", "volumes"):
        assert len(scan(tmp_path, source=source)) == 1
    with pytest.raises(DataError, match="1 images and 1 volumes"):
        scan(tmp_path)
    pd.DataFrame({"path": ["AD/sub-1.png", "AD/sub-1_T1w.nii.gz"], "label": ["AD", "AD"]}).to_csv(
        tmp_path / "labels.csv", index=False
    )
    with pytest.raises(DataError, match="A data set must be of one kind"):
        scan(tmp_path / "labels.csv")


def test_what_headers_do_not_say_is_a_problem_until_it_is_stated(tmp_path):
    for label, name in (("AD", "sub-1"), ("NC", "sub-2")):
        (tmp_path / label).mkdir()
        np.save(tmp_path / label / f"{name}.npy", noise())
    with pytest.raises(DataError, match="give it with --orientation"):
        scan(tmp_path, source="volumes")
    manifest = scan(tmp_path, source="volumes", orientation="RAS", spacing=(1, 1, 2))
    manifest.save(tmp_path / "manifest.parquet")
    np.testing.assert_array_equal(
        Reader(Manifest.load(tmp_path / "manifest.parquet")).read(1), Reader(manifest).read(1)
    )
    with pytest.raises(ConfigError, match="three lengths"):
        scan(tmp_path, source="volumes", spacing=(1, 1))
