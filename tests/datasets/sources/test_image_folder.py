from __future__ import annotations

import os
from pathlib import Path

import pytest

from gyrus.datasets.scan import scan
from gyrus.errors import DataError
from tests.support import images
from tests.support.sources import write_images


def test_a_folder_is_a_class(tmp_path: Path) -> None:
    manifest = scan(write_images(tmp_path, "AD/x.png", "NC/y.png"))

    assert manifest.table["sample"].to_list() == ["AD/x.png", "NC/y.png"]
    assert manifest.table["label"].to_list() == ["AD", "NC"]
    assert manifest.table["subset"].isna().all()
    assert manifest.classes == ("AD", "NC")


def test_every_extension_in_any_case_is_an_image(tmp_path: Path) -> None:
    names = [f"AD/{number}{ext}" for number, ext in enumerate((".jpg", ".JPEG", ".Png", ".bmp", ".tif", ".TIFF"))]

    assert scan(write_images(tmp_path, *names)).table["sample"].to_list() == names


def test_what_is_hidden_or_no_image_is_left_aside(tmp_path: Path) -> None:
    write_images(tmp_path, "AD/x.png", "AD/._x.png", ".git/x.png", "NC/y.png")
    for name in ("AD/Thumbs.db", "AD/.DS_Store", "notes.txt", "NC/y.mat"):
        (tmp_path / name).write_bytes(b"something else")

    manifest = scan(tmp_path)

    assert manifest.table["sample"].to_list() == ["AD/x.png", "NC/y.png"]
    assert manifest.problems == ()


@pytest.mark.parametrize("val", ["val", "valid", "validation", "Validation"])
def test_folders_of_parts_fill_the_part_in(tmp_path: Path, val: str) -> None:
    names = [f"{subset}/{label}/x.png" for subset in ("Train", val, "TEST") for label in ("AD", "NC")]

    table = scan(write_images(tmp_path, *names)).table.set_index("sample")

    assert [table.loc[name, "subset"] for name in names] == ["train", "train", "val", "val", "test", "test"]
    assert [table.loc[name, "label"] for name in names] == ["AD", "NC"] * 3


def test_images_beside_the_parts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"1 images outside of them, first: extra/AD/x\.png"):
        scan(write_images(tmp_path, "train/AD/x.png", "train/NC/x.png", "extra/AD/x.png"))


def test_parts_with_different_classes_are_refused_unless_the_classes_are_given(tmp_path: Path) -> None:
    write_images(tmp_path, "train/AD/x.png", "train/NC/x.png", "test/AD/x.png")

    with pytest.raises(DataError, match="test: AD; train: AD, NC"):
        scan(tmp_path)
    assert scan(tmp_path, classes=["NC", "AD"]).classes == ("NC", "AD")


def test_folders_inside_of_a_class_serve_a_pattern(tmp_path: Path) -> None:
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


def test_a_class_of_which_every_image_is_bad_stays_a_class(tmp_path: Path) -> None:
    write_images(tmp_path, "AD/x.png", "NC/y.png")
    (tmp_path / "NC/y.png").write_bytes(b"")

    assert scan(tmp_path).classes == ("AD", "NC")


def test_a_class_that_was_not_named_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"\['NC'\] are not among the classes"):
        scan(write_images(tmp_path, "AD/x.png", "NC/y.png"), classes=["AD", "MCI"])


def test_a_folder_without_images_says_what_it_has(tmp_path: Path) -> None:
    (tmp_path / "brain.mat").write_bytes(b"")

    with pytest.raises(DataError, match=r"no image in .*\(but 1 x \.mat\)"):
        scan(tmp_path)


def test_a_flat_folder_has_no_labels(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folders of classes"):
        scan(write_images(tmp_path, "x.png", "y.png"))


def test_without_labels_any_folder_or_image_will_do(tmp_path: Path) -> None:
    write_images(tmp_path, "2024/x.png", "y.jpg")

    several, one = scan(tmp_path, labelled=False), scan(tmp_path / "y.jpg", labelled=False)

    assert several.table["sample"].to_list() == ["2024/x.png", "y.jpg"]
    assert several.table["label"].isna().all()
    assert one.table["sample"].to_list() == ["y.jpg"]
    assert several.classes == one.classes == ()


def test_a_single_image_has_no_label(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="single image"):
        scan(write_images(tmp_path, "y.jpg") / "y.jpg")


def test_links_are_followed_once_and_not_in_circles(tmp_path: Path) -> None:
    write_images(tmp_path, "store/x.png", "data/NC/y.png")
    (tmp_path / "data/AD").symlink_to(tmp_path / "store")
    (tmp_path / "data/AA").symlink_to(tmp_path / "data/NC")
    (tmp_path / "data/NC/loop").symlink_to(tmp_path / "data")

    assert scan(tmp_path / "data").table["sample"].to_list() == ["AD/x.png", "NC/y.png"]


def test_what_only_looks_like_an_image_is_a_problem(tmp_path: Path) -> None:
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
