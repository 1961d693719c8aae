from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gyrus.datasets.manifest import Manifest
from gyrus.datasets.scan import scan
from gyrus.errors import DataError
from tests.support.dicoms import write_series
from tests.support.sources import write_images, write_table

PEOPLE = {"1": "AD", "2": "NC", "3": "AD"}


def _clinical(root: Path, *names: str, **columns: list[object]) -> Path:
    write_images(root, *names)
    write_table(root / "clinical.csv", columns or {"patient_id": [*PEOPLE], "diagnosis": [*PEOPLE.values()]})
    return root


@pytest.mark.parametrize(
    ("pattern", "part"),
    [
        ("img/{}.png", "the name of the file"),
        ("img/sub-00{}_T1w.png", "the beginning of the file name"),
        ("img/00{}_5.png", "the beginning of the file name"),
        ("00{}/scan.png", "folder 1 of the path"),
        ("img/{}/scan.png", "folder 2 of the path"),
    ],
)
@pytest.mark.parametrize("by", ["file", "folder"])
def test_labels_are_joined_by_the_id_in_the_path(tmp_path: Path, pattern: str, part: str, by: str) -> None:
    root = _clinical(tmp_path, *(pattern.format(person) for person in PEOPLE))

    manifest = scan(root / "clinical.csv" if by == "file" else root)

    assert manifest.table["label"].to_list() == ["AD", "NC", "AD"]
    assert manifest.table["subject"].to_list() == ["1", "2", "3"]
    assert (manifest.subject_kind, manifest.problems) == ("subject", ())
    assert f"labels are those of clinical.csv: patient_id is {part}" in manifest.notes
    assert any("ids that the paths write with other zeros" in note for note in manifest.notes) == ("00" in pattern)


def test_a_pattern_says_which_part_of_the_path_is_the_id(tmp_path: Path) -> None:
    root = _clinical(tmp_path, *(f"site{3 - n}/{n + 1}.png" for n in range(3)), "site9/x.png")
    write_table(root / "clinical.csv", {"patient_id": ["1", "2", "3"], "diagnosis": ["AD", "NC", "NC"]})
    assert scan(root).table["label"].to_list() == ["NC", "NC", "AD"]  # in the order of the paths

    root = _clinical(tmp_path / "b", "1/2.png", "2/3.png", "3/1.png")
    with pytest.raises(DataError, match=r"may be the name of the file or .* folder 1 of the path"):
        scan(root)
    named = scan(root, subject_pattern=r"^(?P<subject>\d)/")
    assert named.table["label"].to_list() == ["AD", "NC", "AD"]


def test_the_finest_id_is_used(tmp_path: Path) -> None:
    columns: dict[str, list[object]] = {"": ["0", "1", "2"], "patient": ["7", "7", "8"], "image_id": ["a", "b", "c"]}
    manifest = scan(_clinical(tmp_path, "7/a.png", "7/b.png", "8/c.png", **columns, label=["AD", "AD", "NC"]))

    assert manifest.table["subject"].to_list() == ["7", "7", "8"]
    assert manifest.table["label"].to_list() == ["AD", "AD", "NC"]


def test_images_and_ids_without_a_partner_are_named(tmp_path: Path) -> None:
    manifest = scan(_clinical(tmp_path, "img/1_0.png", "img/2_0.png", "img/9_0.png"))

    assert [(problem.sample, problem.kind) for problem in manifest.problems] == [("img/9_0.png", "label missing")]
    assert "clinical.csv has no row with its id" in manifest.problems[0].message
    assert "ids of clinical.csv without an image (1): '3'" in manifest.notes


def test_a_join_that_finds_nothing_shows_both_sides(tmp_path: Path) -> None:
    root = _clinical(tmp_path, "img/x.png", "img/y.png")
    with pytest.raises(DataError, match=r"Ids there: '1', '2', '3'; files: 'img/x\.png', 'img/y\.png'"):
        scan(root / "clinical.csv")


def test_a_table_of_visits_gives_the_labels_of_visits(tmp_path: Path) -> None:
    columns: dict[str, list[object]] = {"patient": ["1", "1", "2"], "visit": ["m0", "m12", "m0"]}
    root = _clinical(
        tmp_path, "1/m00.png", "1/m12.png", "2/m00.png", **columns, dx=["MCI", "AD", "NC"], age=[70, 71, 60]
    )

    manifest = scan(root, label_changes="each")
    assert manifest.table[["session", "label", "age"]].to_numpy().tolist() == [
        ["m0", "MCI", 70],
        ["m12", "AD", 71],
        ["m0", "NC", 60],
    ]
    assert scan(root, label_changes="last").table["label"].to_list() == ["AD", "AD", "NC"]


def test_the_only_other_column_is_the_class(tmp_path: Path) -> None:
    names = [f"train/{n}/s.png" for n in range(6)]
    manifest = scan(_clinical(tmp_path, *names, CaseID=[f"0{n}" for n in range(6)], MGMT=[0, 1] * 3))

    assert manifest.classes == ("0", "1")
    assert "the class is the column MGMT, the only one besides the ids" in manifest.notes
    assert manifest.table["subset"].unique().tolist() == ["train"]


def test_ids_that_several_images_share_may_be_scans(tmp_path: Path) -> None:
    columns: dict[str, list[object]] = {"CaseID": ["1", "2"], "label": ["AD", "NC"]}
    root = _clinical(tmp_path, *(f"{person}/{n}.png" for person in (1, 2) for n in (8, 9)), **columns)

    assert scan(root).subject_kind == "scan"
    assert scan(root, columns={"subject": "CaseID"}).subject_kind == "subject"


def test_folders_that_are_the_classes_stay_the_classes(tmp_path: Path) -> None:
    names = ["AD/1_0.png", "NC/2_0.png", "AD/3_0.png"]
    manifest = scan(_clinical(tmp_path, *names))
    assert "clinical.csv was not used: the folders have its labels" in manifest.notes
    assert manifest.classes == ("AD", "NC")

    ages = scan(_clinical(tmp_path, *names, patient_id=[*PEOPLE], age=[70, 71, 72]))
    assert ages.classes == ("AD", "NC")


def test_dicom_series_have_the_label_of_the_id_of_their_folder(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 2000, (4, 6, 7)).astype(np.uint16)
    for number in range(4):
        for part in ("FLAIR", "T1w"):
            write_series(pixels + number, tmp_path / f"train/0{number}/{part}", PatientID=f"x{number}")
    write_table(tmp_path / "train_labels.csv", {"BraTS21ID": [f"0{number}" for number in range(4)], "MGMT": [0, 1] * 2})

    manifest = scan(tmp_path, files="*/T1w/*")
    assert manifest.table["label"].to_list() == ["0", "1"] * 2
    assert manifest.table["subject"].nunique() == 4
    assert manifest.subject_rule.startswith("column PatientID")


def test_dicom_series_have_the_label_of_their_patientid_which_is_not_kept(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 2000, (2, 6, 7)).astype(np.uint16)
    for number in range(4):
        for visit in range(2):
            write_series(
                pixels + number + 10 * visit,
                tmp_path / f"data/exam{number}/{visit}",
                PatientID=f"HOSPITAL{70 + number}",
                StudyInstanceUID=f"1.2.{number}.{visit}",
            )
    ids = [f" hospital{70 + number}" for number in range(5)]
    table = write_table(tmp_path / "data/clinic.csv", {"PatientID": ids, "diagnosis": ["AD", "NC"] * 2 + ["AD"]})

    manifest = scan(tmp_path / "data")
    assert manifest.table["label"].to_list() == [name for name in ["AD", "NC"] * 2 for _ in range(2)]
    assert manifest.table["subject"].to_list() == [f"exam{number}" for number in range(4) for _ in range(2)]
    assert "labels are those of clinic.csv: PatientID is the PatientID of the headers" in manifest.notes
    assert "ids of clinic.csv without an image (1)" in manifest.notes
    manifest.save(tmp_path / "manifest.parquet")
    again = Manifest.load(tmp_path / "manifest.parquet")
    assert "hospital" not in f"{again.table.to_csv()} {again.notes} {again.problems}".lower()

    table.write_text("PatientID,diagnosis\nsomebody,AD\nelse,NC\n")
    with pytest.raises(DataError, match="is part of the name of a file or the PatientID of a header"):
        scan(table)
