from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from gyrus.datasets.manifest import Manifest
from gyrus.datasets.reader import Reader
from gyrus.datasets.sample_files import VolumeFiles
from gyrus.datasets.scan import scan
from gyrus.errors import ConfigError, DataError
from gyrus.imaging.decoding import IMAGE_EXTENSIONS, READABLE_FORMATS
from gyrus.imaging.orientation import affine_from_slices, array_from_slices
from tests.support import images
from tests.support.dicoms import write_series
from tests.support.hdf5_scans import write_scan
from tests.support.heads import nifti, noise
from tests.support.sources import write_images


def test_a_folder_is_a_class(tmp_path: Path) -> None:
    manifest = scan(write_images(tmp_path, "AD/x.png", "NC/y.png"))

    assert manifest.table["sample"].to_list() == ["AD/x.png", "NC/y.png"]
    assert manifest.table["label"].to_list() == ["AD", "NC"]
    assert manifest.table["subset"].isna().all()
    assert manifest.classes == ("AD", "NC")


def test_every_extension_that_pillow_reads_is_an_image_in_any_case(tmp_path: Path) -> None:
    by_pillow = [ext for ext, kind in Image.registered_extensions().items() if kind in READABLE_FORMATS]
    assert sorted(IMAGE_EXTENSIONS) == sorted(by_pillow)
    cased = [(".jpg", "JPEG"), (".JFIF", "JPEG"), (".Png", "PNG"), (".bmp", "BMP"), (".TIFF", "TIFF")]
    cased += [(".webp", "WEBP"), (".tga", "TGA"), (".pgm", "PPM")]
    names = [f"AD/{number}{ext}" for number, (ext, _) in enumerate(cased)]
    write_images(tmp_path, *names)
    for number, (name, (_, kind)) in enumerate(zip(names, cased, strict=True)):
        (tmp_path / name).write_bytes(images.gray(number, kind))

    manifest = scan(tmp_path)

    assert manifest.problems == ()
    assert manifest.table["sample"].to_list() == names


def test_hidden_files_and_other_files_are_left_aside_and_counted(tmp_path: Path) -> None:
    write_images(tmp_path, "AD/x.png", "AD/._x.png", ".git/x.png", "NC/y.png")
    for name in ("AD/Thumbs.db", "AD/.DS_Store", "notes.txt", "NC/y.mat"):
        (tmp_path / name).write_bytes(b"something else")

    manifest = scan(tmp_path)

    assert manifest.table["sample"].to_list() == ["AD/x.png", "NC/y.png"]
    assert manifest.problems == ()
    assert manifest.files is not None
    assert manifest.files.summary == "2 used, 6 left aside (3 hidden, 1 .db, 1 .mat, 1 .txt)"


@pytest.mark.parametrize("val", ["val", "valid", "validation", "Validation"])
def test_folder_names_give_the_subset(tmp_path: Path, val: str) -> None:
    names = [f"{subset}/{label}/x.png" for subset in ("Train", val, "TEST") for label in ("AD", "NC")]

    table = scan(write_images(tmp_path, *names)).table.set_index("sample")

    assert [table.loc[name, "subset"] for name in names] == ["train", "train", "val", "val", "test", "test"]
    assert [table.loc[name, "label"] for name in names] == ["AD", "NC"] * 3


def test_subsets_inside_of_each_class_are_a_given_split(tmp_path: Path) -> None:
    names = [f"{label}/{subset}/{label}{subset}.png" for label in ("AD", "NC") for subset in ("train", "Test")]
    table = scan(write_images(tmp_path / "all", *names)).table.set_index("sample")
    assert [table.loc[name, "label"] for name in names] == ["AD", "AD", "NC", "NC"]
    assert [table.loc[name, "subset"] for name in names] == ["train", "test"] * 2

    # Of folders that are not all subsets, "test" may be a subject.
    some = scan(write_images(tmp_path / "some", *names, "AD/anna/x.png")).table
    assert some["subset"].isna().all()


def test_images_outside_the_subsets_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"1 image outside of them, first: extra/AD/x\.png"):
        scan(write_images(tmp_path, "train/AD/x.png", "train/NC/x.png", "extra/AD/x.png"))


def test_subsets_with_different_classes_are_refused_unless_classes_are_given(tmp_path: Path) -> None:
    write_images(tmp_path, "train/AD/x.png", "train/NC/x.png", "test/AD/x.png")

    with pytest.raises(DataError, match="test: AD; train: AD, NC"):
        scan(tmp_path)
    assert scan(tmp_path, classes=["NC", "AD"]).classes == ("NC", "AD")


def test_a_pattern_may_match_folders_inside_a_class(tmp_path: Path) -> None:
    write_images(tmp_path, "AD/anna/1.png", "AD/anna/2.png", "NC/bert/1.png")

    manifest = scan(tmp_path, subject_pattern=r"^[^/]+/(?P<subject>[^/]+)/(?P<slice>\d+)")

    assert manifest.table["subject"].to_list() == ["anna", "anna", "bert"]
    assert manifest.table["slice"].to_list() == [1, 2, 1]
    assert (manifest.subject_kind, manifest.classes) == ("subject", ("AD", "NC"))


def test_an_image_outside_of_the_classes_has_no_label(tmp_path: Path) -> None:
    manifest = scan(write_images(tmp_path, "AD/x.png", "NC/y.png", "lost.png"))

    assert [(problem.sample, problem.kind) for problem in manifest.problems] == [("lost.png", "label missing")]
    assert len(manifest) == 2


def test_numbers_as_classes_are_ordered_by_value(tmp_path: Path) -> None:
    assert scan(write_images(tmp_path, "10/a.png", "2/a.png", "0.5/a.png")).classes == ("0.5", "2", "10")


def test_a_class_without_usable_images_stays_a_class(tmp_path: Path) -> None:
    write_images(tmp_path, "AD/x.png", "NC/y.png")
    (tmp_path / "NC/y.png").write_bytes(b"")

    assert scan(tmp_path).classes == ("AD", "NC")


def test_a_class_not_in_the_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"\['NC'\] are not among the classes"):
        scan(write_images(tmp_path, "AD/x.png", "NC/y.png"), classes=["AD", "MCI"])


def test_a_folder_without_images_is_refused_with_its_contents(tmp_path: Path) -> None:
    (tmp_path / "brain.mat").write_bytes(b"")

    with pytest.raises(DataError, match=r"no image in .*\(but 1 x \.mat\)"):
        scan(tmp_path)


def test_archives_are_to_be_unpacked(tmp_path: Path) -> None:
    (tmp_path / "Archive.ZIP").write_bytes(b"PK")

    with pytest.raises(DataError, match=r"no image in .*\(but 1 x \.zip\)\. Unpack the archives first"):
        scan(tmp_path)
    with pytest.raises(DataError, match=r"Archive\.ZIP is an archive\. Unpack it, and give the path of the folder"):
        scan(tmp_path / "Archive.ZIP")


def test_a_flat_folder_has_no_labels(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folders of classes"):
        scan(write_images(tmp_path, "x.png", "y.png"))


def test_without_labels_any_folder_or_image_is_accepted(tmp_path: Path) -> None:
    write_images(tmp_path, "2024/x.png", "y.jpg")

    several, one = scan(tmp_path, labelled=False), scan(tmp_path / "y.jpg", labelled=False)

    assert several.table["sample"].to_list() == ["2024/x.png", "y.jpg"]
    assert several.table["label"].isna().all()
    assert one.table["sample"].to_list() == ["y.jpg"]
    assert several.classes == one.classes == ()


def test_a_single_image_has_no_label(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="single image"):
        scan(write_images(tmp_path, "y.jpg") / "y.jpg")


def test_links_are_followed_once_and_never_in_a_loop(tmp_path: Path) -> None:
    write_images(tmp_path, "store/x.png", "data/NC/y.png")
    (tmp_path / "data/AD").symlink_to(tmp_path / "store")
    (tmp_path / "data/AA").symlink_to(tmp_path / "data/NC")
    (tmp_path / "data/NC/loop").symlink_to(tmp_path / "data")

    assert scan(tmp_path / "data").table["sample"].to_list() == ["AD/x.png", "NC/y.png"]


def test_unreadable_images_are_problems(tmp_path: Path) -> None:
    write_images(tmp_path, "AD/x.png", "NC/y.png")
    (tmp_path / "AD/gone.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(tmp_path / "AD/pipe.png")

    problems = {problem.sample: problem.kind for problem in scan(tmp_path).problems}

    assert problems == {"AD/gone.png": "missing", "AD/pipe.png": "unreadable"}


def test_a_name_that_is_not_utf8_is_a_problem(tmp_path: Path) -> None:
    write_images(tmp_path, "AD/x.png", "NC/y.png")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/AD/\xff.png")).write_bytes(images.gray())

    manifest = scan(tmp_path)

    assert [problem.kind for problem in manifest.problems] == ["unreadable"]
    assert manifest.digest


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_cannot_be_read_is_not_skipped_silently(tmp_path: Path) -> None:
    write_images(tmp_path, "AD/x.png", "NC/y.png")
    (tmp_path / "NC").chmod(0)
    try:
        with pytest.raises(DataError, match="cannot be read"):
            scan(tmp_path)
    finally:
        (tmp_path / "NC").chmod(0o700)


SUBJECTS = {"sub-1": "AD", "sub-2": "AD", "sub-3": "NC", "sub-4": "NC"}


def _slices(subject: str) -> np.ndarray:
    return np.random.default_rng(int(subject[-1])).integers(0, 2000, (5, 6, 7)).astype(np.uint16)


def _nifti(subject: str, path: Path) -> None:
    nifti(array_from_slices(_slices(subject)), path, affine_from_slices((3.0, 2.0, 1.5), (5, 6, 7)))


def folder_per_class(root: Path) -> Manifest:
    for subject, label in SUBJECTS.items():
        _nifti(subject, root / label / f"{subject}_T1w.nii.gz")
    return scan(root)


def folder_per_subset_and_class(root: Path) -> Manifest:
    for subject, label in SUBJECTS.items():
        _nifti(subject, root / ("test" if subject in ("sub-2", "sub-4") else "train") / label / f"{subject}_T1w.nii")
    return scan(root)


def table_of_files(root: Path) -> Manifest:
    for subject in SUBJECTS:
        _nifti(subject, root / "all" / f"{subject[-1]}.nii.gz")
    rows = [(f"all/{subject[-1]}.nii.gz", label, subject) for subject, label in SUBJECTS.items()]
    pd.DataFrame(rows, columns=["path", "label", "subject"]).to_csv(root / "labels.csv", index=False)
    return scan(root)


def table_of_dicom_folders(root: Path) -> Manifest:
    for subject in SUBJECTS:
        write_series(_slices(subject), root / "raw" / subject[-1])
    rows = [(f"raw/{subject[-1]}", label, subject) for subject, label in SUBJECTS.items()]
    pd.DataFrame(rows, columns=["path", "label", "subject"]).to_csv(root / "labels.csv", index=False)
    return scan(root)


def bids(root: Path) -> Manifest:
    for subject in SUBJECTS:
        _nifti(subject, root / subject / "anat" / f"{subject}_T1w.nii.gz")
    participants = pd.DataFrame(
        {"participant_id": SUBJECTS.keys(), "age": [70, 71, 72, 73], "group": SUBJECTS.values()}
    )
    participants.to_csv(root / "participants.tsv", sep="\t", index=False)
    return scan(root)


def dicom(root: Path) -> Manifest:
    for number, (subject, label) in enumerate(SUBJECTS.items()):
        write_series(_slices(subject), root / label / subject, PatientID=f"MRN{number}")
    return scan(root)


def dicom_in_one_folder(root: Path) -> Manifest:
    """All subjects of a class in one folder, files without meaningful names, series separated only by their headers."""
    for number, (subject, label) in enumerate(SUBJECTS.items()):
        names = [f"{number}{place}" for place in (3, 0, 4, 1, 2)]
        write_series(_slices(subject), root / label, names=names, PatientID=f"MRN{number}")
    return scan(root, source="dicom")


def hdf5(root: Path) -> Manifest:
    for number, (subject, label) in enumerate(SUBJECTS.items()):
        write_scan(root / label / f"{number}.h5", _slices(subject), spacing=(3.0, 2.0, 1.5), patient_id=subject)
    return scan(root, orientation=AXIAL)


AXIAL = "SPL"
"""The orientation of :func:`_slices`, for files that state none."""

LAYOUTS: dict[str, list[Callable[[Path], Manifest]]] = {
    "hdf5": [hdf5],
    "volumes": [folder_per_class, folder_per_subset_and_class, table_of_files],
    "dicom": [dicom, dicom_in_one_folder, table_of_dicom_folders],
    "bids": [bids],
}


@pytest.fixture(scope="module", params=[write for writers in LAYOUTS.values() for write in writers])
def layout(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return request.param(tmp_path_factory.mktemp(request.param.__name__))


def test_volumes_labels_and_subjects_are_the_same(layout):
    assert layout.problems == ()
    assert layout.classes == ("AD", "NC")
    assert layout.subject_kind == "subject"
    assert layout.table["subject"].nunique() == 4
    assert layout.table["slice"].isna().all()
    assert layout.table["shape"].tolist() == [(5, 6, 7)] * 4
    assert layout.table["spacing"].map(len).tolist() == [3] * 4
    expected = {_slices(subject).tobytes(): label for subject, label in SUBJECTS.items()}
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
    unlabelled = scan(layout.root, labelled=False, source=source, orientation=AXIAL)
    assert unlabelled.table["label"].isna().all()
    assert unlabelled.table["digest"].to_list() == layout.table["digest"].to_list()


def test_one_upper_case_extension_does_not_hide_the_subjects(tmp_path):
    for subject, label in SUBJECTS.items():
        _nifti(subject, tmp_path / label / f"{subject}_T1w.nii.gz")
    (tmp_path / "AD/sub-1_T1w.nii.gz").rename(tmp_path / "AD/sub-1_T1w.NII.GZ")
    assert sorted(scan(tmp_path).table["subject"]) == sorted(SUBJECTS)


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
    with pytest.raises(DataError, match=r"1 images \(such as .*\) and 1 volumes \(such as .*\)\. Use --source folder"):
        scan(tmp_path)
    pd.DataFrame({"path": ["AD/sub-1.png", "AD/sub-1_T1w.nii.gz"], "label": ["AD", "AD"]}).to_csv(
        tmp_path / "labels.csv", index=False
    )
    with pytest.raises(DataError, match="A data set must be of one kind"):
        scan(tmp_path / "labels.csv")


def test_dicom_beside_volumes_is_not_dropped_in_silence(tmp_path):
    for subject, label in SUBJECTS.items():
        _nifti(subject, tmp_path / label / f"{subject}_T1w.nii.gz")
    write_series(_slices("sub-2"), tmp_path / "AD" / "sub-2-raw", names=[f"IM{number}" for number in range(5)])
    with pytest.raises(DataError, match=r"4 volumes .* and 5 DICOM files .*--source volumes .*or --source dicom"):
        scan(tmp_path)
    files = scan(tmp_path, source="volumes").files
    assert files is not None
    assert files.left_aside_note == "5 files left aside: 5 DICOM"


def test_missing_geometry_is_a_problem_unless_it_is_given(tmp_path):
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
