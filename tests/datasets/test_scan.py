from __future__ import annotations

import itertools
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gyrus.datasets.manifest import PROBLEM_KINDS, Manifest
from gyrus.datasets.reader import Reader
from gyrus.datasets.scan import SOURCES, scan
from gyrus.datasets.sources.listing import SUBSET_NAMES
from gyrus.datasets.sources.subject_rules import SUBJECT_RULES
from gyrus.datasets.sources.table import ROLES
from gyrus.datasets.splits import split
from gyrus.errors import BadFilesError, ConfigError, DataError, LeakageError, UnknownNameError
from gyrus.imaging.decoding import READABLE_FORMATS
from tests.support import images
from tests.support.heads import nifti, noise
from tests.support.sources import write_images, write_table


def test_bad_files_are_reported_and_good_ones_kept(tmp_path: Path) -> None:
    write_images(tmp_path, "AD/good.png", "NC/good.png")
    for number, (_, content) in enumerate(images.BAD.values()):
        (tmp_path / "AD" / f"bad{number:02d}.png").write_bytes(content)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        manifest = scan(tmp_path)

    assert manifest.table["sample"].to_list() == ["AD/good.png", "NC/good.png"]
    assert [problem.kind for problem in manifest.problems] == [kind for kind, _ in images.BAD.values()]
    with pytest.raises(BadFilesError) as error:
        manifest.require_clean()
    assert len(error.value.report) == len(images.BAD)
    assert "AD/bad00.png: empty: the content is empty" in error.value.report


def test_a_scan_without_usable_images_reports_the_reasons(tmp_path: Path) -> None:
    write_images(tmp_path, *(f"{label}/{number}.png" for label in ("AD", "NC") for number in range(4)))
    for file in tmp_path.rglob("*.png"):
        file.write_bytes(b"")

    with pytest.raises(DataError, match=r"(?s)None of the 8 images .*\n  8 x empty, first: AD/0\.png: "):
        scan(tmp_path)


def test_all_samples_of_a_subject_with_two_labels_are_problems(tmp_path: Path) -> None:
    files = [f"{number}.png" for number in range(5)]
    write_images(tmp_path, *files)
    columns = {"path": files, "label": ["AD", "AD", "NC", "NC", "AD"], "subject": ["p", "p", "p", "q", "r"]}

    manifest = scan(write_table(tmp_path / "t.csv", columns))

    assert manifest.table["subject"].to_list() == ["q", "r"]
    assert [(problem.sample, problem.kind) for problem in manifest.problems] == [
        (name, "two labels") for name in files[:3]
    ]
    assert "subject 'p' (by column subject) has 2 x 'AD' and 1 x 'NC'" in manifest.problems[0].message


def test_a_subject_that_everybody_has_tells_nobody_apart(tmp_path: Path) -> None:
    paths = [f"{label}/p{number}/0.png" for label in ("AD", "NC") for number in range(2)]
    write_images(tmp_path, *paths)
    rows = "".join(f"{path},{path[:2]},anonymous\n" for path in paths)
    (tmp_path / "labels.csv").write_text(f"path,label,subject\n{rows}")
    manifest = scan(tmp_path)
    assert (manifest.subject_kind, len(manifest), manifest.problems) == ("unknown", 4, ())
    assert any("same subject for all 4 samples" in note and "--subject-pattern" in note for note in manifest.notes)
    named = scan(tmp_path, subject_pattern="^(?P<subject>[^/]+/[^/]+)/")
    assert named.table["subject"].nunique() == 4


def test_a_scan_in_two_class_folders_is_found(tmp_path: Path) -> None:
    names = [f"{label}/{scan_}_{i}.jpeg" for label in ("AD", "NC") for scan_ in ("7", label) for i in (1, 2)]

    manifest = scan(write_images(tmp_path, *names), subject_rule="id-slice")

    assert manifest.subject_kind == "scan"
    assert {problem.sample for problem in manifest.problems} == {name for name in names if "/7_" in name}
    assert manifest.table["session"].to_list() == manifest.table["subject"].to_list() == ["AD", "AD", "NC", "NC"]


def test_the_manifest_is_independent_of_the_order_of_directory_entries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    names = [f"{label}/sub-{label}{i}_slice-{j}.png" for label in ("AD", "NC") for i in range(3) for j in range(3)]
    there = scan(write_images(tmp_path / "there", *names))
    shutil.copytree(tmp_path / "there", tmp_path / "else" / "where")
    walk = os.walk
    monkeypatch.setattr(
        os, "walk", lambda top, **options: ((a, b[::-1], c[::-1]) for a, b, c in reversed(list(walk(top, **options))))
    )

    elsewhere = scan(tmp_path / "else" / "where")

    assert elsewhere.digest == there.digest
    assert elsewhere.table.equals(there.table)


def test_the_digest_depends_on_contents_labels_and_classes(tmp_path: Path) -> None:
    write_images(tmp_path, "AD/x.png", "NC/y.png")
    first = scan(tmp_path).digest

    assert scan(tmp_path, classes=["NC", "AD"]).digest != first
    (tmp_path / "NC/y.png").write_bytes(images.gray(99))
    assert scan(tmp_path).digest != first


def test_progress_is_reported_up_to_the_end(tmp_path: Path) -> None:
    reported: list[tuple[int, int]] = []
    write_images(tmp_path, *(f"{label}/{number}.png" for label in ("AD", "NC") for number in range(70)))

    scan(tmp_path, progress=lambda done, total: reported.append((done, total)))

    assert reported[-1] == (140, 140)
    assert [done for done, _ in reported] == sorted({done for done, _ in reported})


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"source": "foldr"}, UnknownNameError, "Did you mean 'folder'"),
        ({"subject_rule": "adny"}, UnknownNameError, "Did you mean 'adni'"),
        ({"subject_rule": "bids"}, DataError, "does not fit 2 of 2 names"),
        ({"subject_rule": "bids", "subject_pattern": "(?P<subject>x)"}, ConfigError, "not both"),
        ({"classes": ["AD", "AD"]}, ConfigError, "names a class twice"),
        ({"columns": {"lable": "x"}}, UnknownNameError, "Did you mean 'label'"),
    ],
)
def test_invalid_arguments_are_refused(
    tmp_path: Path, options: dict[str, object], error: type[Exception], words: str
) -> None:
    write_images(tmp_path, "AD/x.png", "NC/y.png")

    with pytest.raises(error, match=words):
        scan(tmp_path, **options)


def test_missing_paths_and_unknown_layouts_are_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")

    with pytest.raises(DataError, match="does not exist"):
        scan(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"(?s)notes\.txt is not a file that Gyrus reads.*\.nii\.gz.*\.csv"):
        scan(tmp_path / "notes.txt")


def test_a_saved_manifest_loads_unchanged(tmp_path: Path) -> None:
    write_images(tmp_path, "AD/x.png", "NC/y.png", "lost.png")
    manifest = scan(tmp_path)

    manifest.save(tmp_path / "manifest")
    loaded = Manifest.load(tmp_path / "manifest")

    assert loaded.table.equals(manifest.table)
    assert loaded.problems == manifest.problems
    assert loaded.digest == manifest.digest


def test_the_documentation_names_every_layout_rule_and_problem() -> None:
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    names = [*SOURCES, *SUBJECT_RULES, *PROBLEM_KINDS, *SUBSET_NAMES, *ROLES, *itertools.chain(*ROLES.values())]

    assert [name for name in names if f"`{name}`" not in page] == []
    assert [name for name in READABLE_FORMATS if name not in page] == []


def test_one_person_with_several_spellings_is_one_subject(tmp_path: Path) -> None:
    files = [f"{number}.png" for number in range(6)]
    write_images(tmp_path, *files)
    subjects = ["0007", "7", "7.0", "P1", "p01", "p1"]
    table = {"path": files, "subject": subjects, "label": ["AD", "ad ", "AD", "NC", "NC", "nc"]}
    manifest = scan(write_table(tmp_path / "t.csv", table))

    assert manifest.table["subject"].to_list() == ["0007"] * 3 + ["p01"] * 3
    assert manifest.classes == ("AD", "NC")
    assert [note.split(" that differ")[0] for note in manifest.notes] == ["class names", "names of subjects"]


def test_class_folders_that_differ_in_case_are_one_class(tmp_path: Path) -> None:
    write_images(tmp_path, "train/Mild Demented/a.png", "train/NC/b.png", "test/mild_demented/c.png", "test/nc/d.png")

    manifest = scan(tmp_path)
    assert manifest.classes == ("Mild Demented", "NC")
    assert manifest.table["label"].to_list() == ["Mild Demented", "NC"] * 2
    assert scan(tmp_path, classes=["nc", "mild_demented"]).classes == ("nc", "mild_demented")


def test_subjects_in_two_spellings_on_both_sides_of_a_given_split_are_refused(tmp_path: Path) -> None:
    files = [f"{number}.png" for number in range(6)]
    write_images(tmp_path, *files)
    rows = {"subject": ["007", "8", "9", "7", "10", "11"], "subset": ["train"] * 3 + ["test"] * 3}
    table = write_table(tmp_path / "t.csv", {"path": files, "label": ["a", "b", "b", "a", "b", "a"], **rows})

    with pytest.raises(LeakageError, match="1 subjects are in more than one subset: 007"):
        split(scan(table))


def test_constant_images_are_problems_but_constant_slices_of_a_scan_are_notes(tmp_path):
    write_images(tmp_path, "AD/a.png", "AD/sub-1_slice-0.png", "NC/sub-2_slice-1.png")
    for name in ("AD/flat.png", "AD/sub-1_slice-1.png", "NC/sub-3_slice-0.png", "NC/sub-3_slice-1.png"):
        Image.new("L", (5, 4)).save(tmp_path / name)

    found = scan(tmp_path, subject_rule="none")
    assert [problem.sample for problem in found.problems if problem.kind == "constant"] == [
        *("AD/flat.png", "AD/sub-1_slice-1.png", "NC/sub-3_slice-0.png", "NC/sub-3_slice-1.png")
    ]
    for name in ("AD/a.png", "AD/flat.png"):
        (tmp_path / name).unlink()
    slices = scan(tmp_path)
    assert [problem.sample for problem in slices.problems] == ["NC/sub-3_slice-0.png", "NC/sub-3_slice-1.png"]
    assert "AD/sub-1_slice-1.png" in slices.table["sample"].tolist()
    assert [note for note in slices.notes if "1 x the slice of a scan has the same value" in note]
    slices.save(tmp_path / "manifest.parquet")
    (black,) = Manifest.load(tmp_path / "manifest.parquet").constant
    assert (slices.table["digest"] == black).sum() == 1


def test_constant_volumes_are_problems_and_few_slices_a_note(tmp_path):
    nifti(noise(), tmp_path / "AD" / "sub-1_T1w.nii.gz", np.eye(4))
    nifti(noise((7, 6, 2)), tmp_path / "NC" / "sub-2_T1w.nii.gz", np.eye(4))
    nifti(np.full((7, 6, 5), 3, np.int16), tmp_path / "NC" / "sub-3_T1w.nii.gz", np.eye(4))

    found = scan(tmp_path)

    assert [(problem.sample, problem.kind) for problem in found.problems] == [("NC/sub-3_T1w.nii.gz", "constant")]
    assert found.notes == ("1 x the volume has 2 slices along one axis",)


def test_a_stated_window_is_kept_in_the_manifest(tmp_path):
    (tmp_path / "AD").mkdir()
    Image.fromarray(np.array([[0, 1000, 4095]], np.uint16)).save(tmp_path / "AD" / "a.png")
    Image.fromarray(np.array([[0, 77, 255]], np.uint8)).save(tmp_path / "AD" / "b.png")

    assert [problem.kind for problem in scan(tmp_path).problems] == ["16-bit"]
    found = scan(tmp_path, window=(0, 4095))
    found.save(tmp_path / "manifest.parquet")
    reader = Reader(Manifest.load(tmp_path / "manifest.parquet"))
    assert [reader.read(row).ravel().tolist() for row in range(2)] == [[0, 62, 255], [0, 77, 255]]
    for window in ((1, 1), (0,), (0, float("nan"))):
        with pytest.raises(ConfigError, match="window"):
            scan(tmp_path, window=window)
