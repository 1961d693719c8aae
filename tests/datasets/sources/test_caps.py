"""CAPS and the tensors of ClinicaDL, written as Clinica and ClinicaDL 1.6.1 and 2.0.0 write them."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch

from gyrus.datasets.sample_files import VolumeFiles
from gyrus.datasets.scan import scan
from gyrus.errors import DataError

SESSIONS = [("sub-01", "ses-M000"), ("sub-01", "ses-M012"), ("sub-02", "ses-M000"), ("sub-03", "ses-M000")]
LABELS = ["CN", "AD", "CN", "AD"]
NAME = "space-MNI152NLin2009cSym_desc-Crop_res-1x1x1"


def voxels(number: int) -> np.ndarray:
    return np.random.default_rng(number).uniform(0, 100, (6, 7, 8)).astype(np.float32)


def write_labels(file: Path, sessions: int = 4) -> Path:
    table = pd.DataFrame(SESSIONS, columns=["participant_id", "session_id"]).assign(
        diagnosis=LABELS, age=[60, 61, 70, 80]
    )
    table[:sessions].to_csv(file, sep="\t", index=False)
    return file


def write_images(caps: Path, name: str = f"{NAME}_T1w", folder: str = "t1_linear") -> Path:
    for number, (subject, session) in enumerate(SESSIONS):
        place = caps / "subjects" / subject / session / folder
        place.mkdir(parents=True)
        image = nib.Nifti1Image(voxels(number), np.eye(4))
        image.header.set_xyzt_units("mm")
        nib.save(image, place / f"{subject}_{session}_{name}.nii.gz")
    return caps


def write_tensors_of_version_1(caps: Path, mode: str = "image") -> Path:
    """As ``extract_images`` of ClinicaDL 1.6: float32 (1, X, Y, Z), without a header."""
    for number, (subject, session) in enumerate(SESSIONS):
        place = caps / "subjects" / subject / session / "deeplearning_prepare_data" / f"{mode}_based" / "t1_linear"
        place.mkdir(parents=True)
        torch.save(torch.from_numpy(voxels(number)).unsqueeze(0), place / f"{subject}_{session}_{NAME}_T1w.pt")
    return caps


def write_tensors_of_version_2(tensors: Path) -> Path:
    """As ``TensorContent.save`` of ClinicaDL 2.0: images with affines, in RAS+."""
    tensors.mkdir()
    about = {"Name": "Conversions to tensors", "BIDSVersion": "1.10.1", "DatasetType": "derivative"}
    (tensors / "dataset_description.json").write_text(json.dumps(about))
    for number, (subject, session) in enumerate(SESSIONS):
        place = tensors / subject / session / "tensors"
        place.mkdir(parents=True)
        images = {"image": (torch.from_numpy(voxels(number)).unsqueeze(0), np.diag([1.0, 1.0, 1.0, 1.0]))}
        content = {"images": images, "masks": {}, "additional_data": {}}
        torch.save(content, place / f"{subject}_{session}_{NAME}_src-T1w_conv-raw_tensors.pt")
    return tensors


def require_same_data(manifest) -> None:
    assert manifest.problems == ()
    assert manifest.classes == ("AD", "CN")
    table = manifest.table
    assert list(zip(table["subject"], table["session"], table["label"], table["age"], strict=True)) == [
        (subject, session, label, age)
        for (subject, session), label, age in zip(SESSIONS, LABELS, [60, 61, 70, 80], strict=True)
    ]
    assert set(table["spacing"]) == {(1.0, 1.0, 1.0)}
    files = VolumeFiles(manifest.root, table)
    for number in range(4):
        np.testing.assert_array_equal(files.read(number).array, voxels(number))


def test_images_and_both_forms_of_tensors_are_the_same_data(tmp_path):
    for name, write in {
        "images": write_images,
        "tensors of version 1": write_tensors_of_version_1,
        "tensors of version 2": write_tensors_of_version_2,
    }.items():
        folder = tmp_path / name
        folder.mkdir()
        write(folder / "data")
        table = write_labels(folder / "labels.tsv")
        require_same_data(scan(table, label_changes="each"))
        table.rename(folder / "data" / "labels.tsv")
        require_same_data(scan(folder / "data", label_changes="each"))


def test_sessions_that_the_table_lacks_are_left_aside_and_named_in_the_count(tmp_path):
    write_images(tmp_path / "caps")
    manifest = scan(write_labels(tmp_path / "train.tsv", sessions=3), label_changes="each")
    assert list(manifest.table["session"]) == ["ses-M000", "ses-M012", "ses-M000"]
    assert manifest.files.left_aside == {"not asked for": 1}
    missing = pd.DataFrame([("sub-01", "ses-M000", "CN"), ("sub-09", "ses-M000", "AD")])
    missing.columns = ["participant_id", "session_id", "diagnosis"]
    missing.to_csv(tmp_path / "train.tsv", sep="\t", index=False)
    assert "sessions of train.tsv without an image (1): 'sub-09 ses-M000'" in scan(tmp_path / "train.tsv").notes


def test_images_are_used_once_and_the_cropped_ones_first(tmp_path):
    write_tensors_of_version_1(write_images(tmp_path / "caps"))
    for file in list((tmp_path / "caps").rglob("*.nii.gz")):
        file.with_name(file.name.replace("desc-Crop_", "")).write_bytes(file.read_bytes())
    manifest = scan(write_labels(tmp_path / "labels.tsv"), label_changes="each")
    require_same_data(manifest)
    assert "4 tensors of ClinicaDL not used: the same images are there as NIfTI" in manifest.notes
    assert "the cropped images (desc-Crop) are used, as in ClinicaDL" in manifest.notes
    uncropped = scan(tmp_path / "labels.tsv", label_changes="each", files="*NLin2009cSym_res-*")
    assert not uncropped.table["path"].str.contains("Crop").any()


def test_several_kinds_of_images_are_a_question(tmp_path):
    write_images(write_images(tmp_path / "caps"), "trc-18FFDG_space-MNI152NLin2009cSym_res-1x1x1_pet", "pet_linear")
    table = write_labels(tmp_path / "labels.tsv")
    with pytest.raises(DataError, match=r"2 kinds of images: pet_linear: .*--files"):
        scan(table, label_changes="each")
    require_same_data(scan(table, label_changes="each", files="*/t1_linear/*"))
    require_same_data(scan(table, label_changes="each", bids={"suffix": "T1w"}))


def test_new_sessions_need_no_table(tmp_path):
    manifest = scan(write_images(tmp_path / "caps"), labelled=False)
    assert len(manifest) == 4
    assert manifest.table["label"].isna().all()


def test_what_cannot_be_read_is_said(tmp_path):
    caps = write_images(tmp_path / "caps")
    with pytest.raises(DataError, match="no table with the columns participant_id and a label"):
        scan(caps)
    table = write_labels(tmp_path / "labels.tsv")
    table.write_text(table.read_text().replace("diagnosis", "remark"))
    with pytest.raises(DataError, match=r"no column of labels.*--column label=NAME"):
        scan(table)
    only_slices = write_tensors_of_version_1(tmp_path / "slices" / "caps", mode="slice")
    with pytest.raises(DataError, match="only slices, patches or regions"):
        scan(write_labels(only_slices.parent / "labels.tsv"))


def test_a_tensor_file_is_never_executed(tmp_path):
    class Harmful:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "executed",))

    caps = write_tensors_of_version_1(tmp_path / "caps")
    first, *_ = sorted(caps.rglob("*.pt"))
    torch.save({"images": {"image": Harmful()}}, first)
    manifest = scan(write_labels(tmp_path / "labels.tsv"), label_changes="each")
    assert not (tmp_path / "executed").exists()
    assert [problem.kind for problem in manifest.problems] == ["unreadable"]
    assert "would have to be executed" in manifest.problems[0].message


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (torch.zeros(2, 3, 4, 5), "several volumes"),
        (torch.zeros(7), "not an image"),
        ({"weights": torch.zeros(3)}, "not an image"),
        (torch.zeros(1).expand(1, 4096, 4096, 4096), "decompression bomb"),
    ],
    ids=["series", "vector", "weights", "bomb"],
)
def test_other_tensors_are_problems(content, kind, tmp_path):
    caps = write_tensors_of_version_1(tmp_path / "caps")
    first, *_ = sorted(caps.rglob("*.pt"))
    torch.save(content, first)
    manifest = scan(write_labels(tmp_path / "labels.tsv"), label_changes="each")
    assert [problem.kind for problem in manifest.problems] == [kind]
