from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from gyrus.datasets.scan import scan
from gyrus.datasets.sources.table import additional_cells, current_roles, find_columns, name_labels, subset_cells
from gyrus.errors import ConfigError, DataError, UnknownNameError
from tests.support.sources import write_images, write_table

FILES = ["img/a.png", "img/b.png", "img/c.png"]
LABELS = ["AD", "NC", "AD"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_images(tmp_path, *FILES)


@pytest.mark.parametrize("extension", [".csv", ".tsv", ".parquet"])
@pytest.mark.parametrize("by", ["file", "folder"])
def test_a_table_names_paths_below_its_folder(root: Path, extension: str, by: str) -> None:
    columns = {
        "Path": FILES,
        "Diagnosis": LABELS,
        "Patient_ID": ["01", "02", "03"],
        "visit": ["m0", "m0", "m12"],
        "slice": [4, 5, 6],
        "Split": ["training", "valid", "Test"],
        "age": [71, None, 80],
        "site": ["x", "", "y"],
    }
    table = write_table(root / f"labels{extension}", columns)

    manifest = scan(table if by == "file" else root)

    assert manifest.root == root
    assert manifest.table["sample"].to_list() == FILES
    assert manifest.table["label"].to_list() == LABELS
    assert manifest.table["subject"].to_list() == ["01", "02", "03"]
    assert (manifest.subject_kind, manifest.subject_rule) == ("subject", "column Patient_ID")
    assert manifest.table["session"].to_list() == ["m0", "m0", "m12"]
    assert manifest.table["slice"].to_list() == [4, 5, 6]
    assert manifest.table["subset"].to_list() == ["train", "val", "test"]
    assert manifest.table["age"].dropna().to_list() == [71, 80]
    assert manifest.table["site"].dropna().to_list() == ["x", "y"]


def test_columns_can_be_named(root: Path) -> None:
    write_table(root / "t.csv", {"where": FILES, "grade": LABELS, "label": ["x"] * 3, "who": ["1", "2", "3"]})

    manifest = scan(root / "t.csv", columns={"path": "where", "label": "grade", "subject": "who"})

    assert manifest.classes == ("AD", "NC")
    assert manifest.subject_rule == "column who"
    assert manifest.table["source_label"].to_list() == ["x"] * 3  # kept, but not under the manifest's own name


def test_a_named_column_is_found_in_another_case_if_it_is_the_only_one():
    assert find_columns(["path", "Age"], {"label": "age"})["label"] == "Age"
    assert find_columns(["path", "Age", "age"], {"label": "age"})["label"] == "age"
    with pytest.raises(ConfigError, match="no column 'AGE'"):
        find_columns(["path", "Age", "age"], {"label": "AGE"})


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"path": "nowhere"}, "no column 'nowhere' for the role 'path'. Columns: path, label"),
        ({"lable": "label"}, "no column role 'lable'. Did you mean 'label'"),
        ({"image": "path"}, "image bytes in parquet files"),
    ],
)
def test_unknown_columns_and_roles_are_refused(root: Path, columns: dict[str, str], words: str) -> None:
    table = write_table(root / "t.csv", {"path": FILES, "label": LABELS})

    with pytest.raises(ConfigError, match=words):
        scan(table, columns=columns)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"x": FILES, "label": LABELS}, "no column of paths; it has x, label. Rename one of them to path or file"),
        ({"path": FILES, "x": LABELS}, "no column of labels; it has path, x"),
        ({"path": [], "label": []}, "has no row"),
        ({"path": ["img/a.png", None, "img/c.png"], "label": LABELS}, "1 row without a path, first: row 2"),
        ({"path": FILES, "label": LABELS, "slice": ["1", "2", "x"]}, "whole numbers, but has 'x'"),
        ({"path": FILES, "label": LABELS, "slice": ["1", "2", "2.5"]}, "whole numbers, but has '2.5'"),
        ({"path": FILES, "label": LABELS, "split": ["train", "fold2", "test"]}, "unknown subsets: fold2"),
        ({"path": FILES, "label": LABELS, "subject": ["1", None, "2"]}, "is empty for 1 of 3 images"),
        ({"path": ["img/a.png"] * 2, "label": ["AD"] * 2}, "Two rows are the same sample"),
    ],
)
def test_unusable_tables_are_refused_with_the_reason(root: Path, columns: dict[str, list[object]], words: str) -> None:
    with pytest.raises(DataError, match=words):
        scan(write_table(root / "t.csv", columns))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path,label\nimg/a.png,AD\nimg/b.png,AD,NC\n", "line 3 has 3 cells, and the header has 2"),
        ("path,label\n\nimg/a.png\n", "line 3 has 1 cells"),
        ("path,label,label\nimg/a.png,AD,NC\n", "two columns have the same name"),
        ('path,label\n"img/a.png,AD\n', "unexpected end of data"),
    ],
)
def test_an_uneven_table_is_refused(root: Path, text: str, words: str) -> None:
    (root / "t.csv").write_text(text)

    with pytest.raises(DataError, match=f"cannot be read as a table: {words}"):
        scan(root / "t.csv")


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_a_file_that_is_not_a_table_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\xff\xfe\x00 no table")

    with pytest.raises(DataError, match="cannot be read as a table"):
        scan(tmp_path / name)


@pytest.mark.parametrize(
    "text", ["path;label\nimg/a.png;AD\nimg/b.png;NC\n", "\ufeffpath,label\r\nimg\\a.png,AD\r\nimg\\b.png,NC\r\n"]
)
def test_tables_written_by_spreadsheets_are_read(root: Path, text: str) -> None:
    (root / "t.csv").write_bytes(text.encode("utf-8"))

    assert scan(root / "t.csv").table["sample"].to_list() == ["img/a.png", "img/b.png"]


def test_labels_that_pandas_reads_as_missing_are_kept(root: Path) -> None:
    manifest = scan(write_table(root / "t.csv", {"path": FILES, "label": ["None", "NA", "nan"]}))

    assert manifest.classes == ("NA", "None", "nan")
    assert manifest.problems == ()


def test_integer_labels_are_names_or_positions(root: Path) -> None:
    table = write_table(root / "t.csv", {"path": FILES, "label": [1, 0, 1]})

    assert scan(table).classes == ("0", "1")
    assert scan(table, classes=["1", "0"]).table["label"].to_list() == ["1", "0", "1"]
    assert scan(table, classes=["NC", "AD"]).table["label"].to_list() == ["AD", "NC", "AD"]


def test_missing_labels_and_missing_files_are_problems(root: Path) -> None:
    columns = {"path": [*FILES, "img/gone.png"], "label": ["AD", "", "NC", "NC"]}

    manifest = scan(write_table(root / "t.csv", columns))

    assert manifest.table["sample"].to_list() == ["img/a.png", "img/c.png"]
    assert [(problem.sample, problem.kind) for problem in manifest.problems] == [
        ("img/b.png", "label missing"),
        ("img/gone.png", "missing"),
    ]


def test_paths_may_be_absolute_or_outside_the_folder_of_the_table(root: Path) -> None:
    (root / "tables").mkdir()
    columns = {"path": [str(root / FILES[0]), f"../{FILES[1]}"], "label": ["AD", "NC"]}

    manifest = scan(write_table(root / "tables" / "t.csv", columns))

    assert manifest.root == root / "img"
    assert manifest.table["path"].to_list() == ["a.png", "b.png"]


def test_file_names_give_the_subjects_without_a_subject_column(tmp_path: Path) -> None:
    files = ["sub-1_slice-1.png", "sub-1_slice-2.png", "sub-2_slice-1.png"]
    write_images(tmp_path, *files)

    manifest = scan(write_table(tmp_path / "t.csv", {"file_name": files, "label": ["AD", "AD", "NC"]}))

    assert manifest.subject_rule == "bids"
    assert manifest.table["slice"].to_list() == [1, 2, 1]


def test_a_named_rule_takes_precedence_over_the_column(root: Path) -> None:
    table = write_table(root / "t.csv", {"path": FILES, "label": LABELS, "subject": ["1", "2", "3"]})

    assert scan(table, subject_rule="none").subject_kind == "unknown"
    assert scan(table, subject_pattern=r"(?P<subject>\w)\.png").table["subject"].to_list() == ["a", "b", "c"]


def test_unlabelled_scans_read_neither_labels_nor_subsets(root: Path) -> None:
    table = write_table(root / "t.csv", {"path": FILES, "label": LABELS, "split": ["?", "?", "?"]})

    manifest = scan(table, labelled=False)

    assert manifest.table["label"].isna().all()
    assert manifest.table["subset"].isna().all()
    assert scan(write_table(root / "u.csv", {"path": FILES}), labelled=False).table["sample"].to_list() == FILES


def test_a_folder_with_two_tables_is_refused(root: Path) -> None:
    write_table(root / "one.csv", {"path": FILES, "label": LABELS})
    write_table(root / "two.tsv", {"path": FILES, "label": LABELS})

    with pytest.raises(DataError, match=r"2 tables with paths: one\.csv, two\.tsv"):
        scan(root)
    with pytest.raises(DataError, match=r"2 tables with paths: one\.csv, two\.tsv"):
        scan(root, source="table")
    assert scan(root, source="folder").classes == ("img",)


def test_a_folder_with_a_table_without_paths_is_read_as_folders(root: Path) -> None:
    write_images(root, "other/d.png")
    write_table(root / "subjects.csv", {"age": [1], "sex": ["f"]})

    assert scan(root).classes == ("img", "other")


def test_a_saved_manifest_is_not_read_as_a_table(root: Path) -> None:
    write_images(root, "other/d.png")
    scan(root).save(root / "manifest.parquet")
    write_images(root, "other/e.png")

    assert "other/e.png" in scan(root).table["sample"].to_list()


def test_columns_named_like_those_of_the_manifest_are_renamed(root: Path) -> None:
    columns = {"path": FILES, "label": LABELS, "digest": ["x"] * 3, "image_column": ["y"] * 3}

    table = scan(write_table(root / "t.csv", columns)).table

    assert table["source_digest"].to_list() == ["x"] * 3
    assert table["source_image_column"].to_list() == ["y"] * 3


def test_real_slices_are_recognised_by_their_table(shared_data: Path) -> None:
    import pandas as pd

    table = pd.read_csv(shared_data / "oasis-slices" / "labels.csv")

    manifest = scan(shared_data / "oasis-slices")

    assert manifest.problems == ()
    assert len(manifest) == len(table) == 5120
    assert manifest.table["subject"].nunique() == 160
    assert (manifest.subject_kind, manifest.subject_rule) == ("subject", "column subject")
    assert set(manifest.table["shape"]) == {(128, 128)}
    expected = table.sort_values("path")
    assert manifest.table["label"].to_list() == expected["label"].to_list()


def test_a_former_role_is_accepted_and_an_unknown_one_refused() -> None:
    assert current_roles({"part": "fold"}) == {"subset": "fold"}
    with pytest.raises(UnknownNameError, match="subset"):
        current_roles({"subsett": "fold"})


def test_a_former_role_is_noted_with_its_current_name(tmp_path: Path) -> None:
    write_images(tmp_path, "a.png", "b.png")
    columns = {"path": ["a.png", "b.png"], "label": ["AD", "NC"], "fold": ["train", "test"]}
    file = write_table(tmp_path / "table.csv", columns)
    manifest = scan(file, columns={"part": "fold"})
    assert manifest.table["subset"].tolist() == ["train", "test"]
    assert manifest.notes == ("the column role 'part' is now called 'subset'",)


@pytest.mark.parametrize("name", ["subset", "part", "Split", "set"])
def test_columns_of_subsets_are_recognised(name: str) -> None:
    assert find_columns(["path", name], {}) == {"path": "path", "subset": name}


def test_cells_are_read_by_role() -> None:
    assert subset_cells(["Training", None, "dev"], "split") == ["train", None, "val"]
    assert name_labels(["0", "1", "-1"], ["NC", "AD"]) == ["NC", "AD", None]
    assert additional_cells(pd.Series(["1", "n/a", "2.5"])).dtype.kind == "f"


def test_paths_without_a_file_are_completed_by_name(tmp_path: Path) -> None:
    write_images(tmp_path, "a/x.png", "b/x.png", "b/Y.PNG", "b/z.png")
    paths = ["a/x", "C:\\data\\b\\x.png", "y.png", "z.jpg"]
    manifest = scan(write_table(tmp_path / "t.csv", {"path": paths, "label": [*LABELS, "NC"]}), columns=None)

    assert manifest.table["path"].to_list() == ["a/x.png", "b/Y.PNG", "b/x.png"]
    assert [problem.kind for problem in manifest.problems] == ["missing"]  # another extension is another file
    assert manifest.notes == ("paths of the table without a file that were completed by name (3): x is a/x.png",)


def test_tables_named_after_subsets_are_a_given_split(root: Path) -> None:
    write_table(root / "train.csv", {"path": FILES[:2], "label": LABELS[:2], "subject": ["1", "2"]})
    write_table(root / "test_labels.tsv", {"image": FILES[2:], "dx": LABELS[2:], "subject": ["3"]})

    manifest = scan(root)
    assert manifest.table["subset"].to_list() == ["train", "train", "test"]
    assert manifest.table["subject"].to_list() == ["1", "2", "3"]

    write_table(root / "test_labels.tsv", {"image": FILES[2:]})
    assert scan(root).notes == ("not used, because it has no column of labels: test_labels.tsv",)
    write_table(root / "test_labels.tsv", {"image": FILES[2:], "dx": LABELS[2:]})
    with pytest.raises(DataError, match=r"Only some of the tables of .* have a subject column"):
        scan(root)


def test_tables_in_subset_folders_are_a_given_split(tmp_path: Path) -> None:
    for subset in ("train", "validation", "test"):
        write_images(tmp_path / subset, "a.png")
        (tmp_path / subset / "metadata.jsonl").write_text('{"file_name": "a.png", "label": "AD"}\n')

    table = scan(tmp_path).table
    assert table[["sample", "subset"]].to_numpy().tolist() == [
        ["test/a.png", "test"],
        ["train/a.png", "train"],
        ["validation/a.png", "val"],
    ]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("labels.csv", b"patient_id,label\n1,AD,1\n", "cannot be read as a table: line 2 has 3 cells"),
        ("labels.csv", b"path,label\n\x81\x8d,AD\n", "cannot be read as a table: it is no text in UTF-8"),
        ("labels.xlsx", b"PK", "a spreadsheet; save it as CSV"),
        (
            "labels.csv",
            b"patient_id,label\nq1,AD\nq2,NC\n",
            r"no id of it \('q1', 'q2'\) is part of the name of a file",
        ),
        ("labels.csv", b"colour,label\nq1,AD\nq2,NC\n", "it has no column of paths or ids"),
    ],
)
def test_a_table_that_is_not_used_is_named(root: Path, name: str, content: bytes, reason: str) -> None:
    (root / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"no two classes \(img\), and {name} was not used: {reason}"):
        scan(root)

    write_images(root, "other/d.png")
    assert any(name in note for note in scan(root).notes)  # the folders may be classes


def test_decimal_commas_are_numbers(root: Path) -> None:
    (root / "t.csv").write_text("path;label;age\n" + "".join(f"{file};AD;7{n},5\n" for n, file in enumerate(FILES)))
    assert scan(root / "t.csv").table["age"].to_list() == [70.5, 71.5, 72.5]
