from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gyrus.datasets.manifest import Manifest
from gyrus.datasets.reader import Reader
from gyrus.datasets.scan import scan
from gyrus.errors import ConfigError, DataError
from gyrus.imaging.decoding import decode
from tests.support import images

CONTENTS = [images.gray(seed) for seed in range(4)]


def write(file: Path, metadata: dict[str, Any] | None = None, **columns: Any) -> Path:
    """A parquet file of the columns; ``metadata`` as the datasets library writes it."""
    table = pa.table(columns)
    if metadata is not None:
        table = table.replace_schema_metadata({"huggingface": json.dumps(metadata)})
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, file)
    return file


def label_names(*names: str) -> dict[str, Any]:
    return {"info": {"features": {"label": {"names": list(names), "_type": "ClassLabel"}}}}


STRUCTS = {
    "raw bytes": CONTENTS,
    "struct with bytes": [{"bytes": content} for content in CONTENTS],
    "struct with bytes and no path": [{"bytes": content, "path": None} for content in CONTENTS],
    "struct with bytes and path": [{"bytes": content, "path": f"x{i}.png"} for i, content in enumerate(CONTENTS)],
    "large bytes": pa.array(CONTENTS, pa.large_binary()),
}


@pytest.mark.parametrize("form", STRUCTS)
def test_each_row_is_an_image(tmp_path: Path, form: str) -> None:
    file = write(tmp_path / "x.parquet", image=STRUCTS[form], label=["b", "a", "b", "a"], age=[1, 2, 3, None])

    manifest = scan(file)

    assert manifest.table["sample"].to_list() == [f"x.parquet#{row}" for row in range(4)]
    assert manifest.table["row"].to_list() == [0, 1, 2, 3]
    assert manifest.classes == ("a", "b")
    assert manifest.table["age"].dropna().to_list() == [1, 2, 3]
    assert manifest.table["subset"].isna().all()
    for row, content in enumerate(CONTENTS):
        np.testing.assert_array_equal(Reader(manifest).read(row), decode(content))


def test_rows_are_sorted_by_number(tmp_path: Path) -> None:
    contents = [images.gray(seed) for seed in range(12)]

    table = scan(write(tmp_path / "x.parquet", image=contents, label=["a", "b"] * 6)).table

    assert table["row"].to_list() == list(range(12))
    assert table["sample"].to_list()[1] == "x.parquet#01"


@pytest.mark.parametrize("below", [".", "data"])
def test_file_names_give_the_subset(tmp_path: Path, below: str) -> None:
    for number, subset in enumerate(("train-00000-of-00002-c0", "train-00001-of-00002-c1", "validation-00000", "test")):
        write(tmp_path / below / f"{subset}.parquet", image=[images.gray(number)] * 2, label=["a", "b"])

    table = scan(tmp_path).table

    assert table.groupby("subset").size().to_dict() == {"train": 4, "val": 2, "test": 2}
    assert table["path"].str.startswith("data/").all() == (below == "data")


def test_class_names_come_from_the_metadata(tmp_path: Path) -> None:
    file = write(tmp_path / "x.parquet", label_names("Non", "Mild", "Very"), image=CONTENTS, label=[0, 1, 1, -1])

    manifest = scan(file)

    assert manifest.classes == ("Non", "Mild", "Very")
    assert manifest.table["label"].to_list() == ["Non", "Mild", "Mild"]
    assert [(problem.sample, problem.kind) for problem in manifest.problems] == [("x.parquet#3", "label missing")]


def test_classes_of_the_user_order_the_names_and_do_not_rename_them(tmp_path: Path) -> None:
    file = write(tmp_path / "x.parquet", label_names("Non", "Mild"), image=CONTENTS, label=[0, 1, 1, 0])

    manifest = scan(file, classes=["Mild", "Non"])

    assert manifest.table["label"].to_list() == ["Non", "Mild", "Mild", "Non"]
    assert manifest.targets.to_list() == [1, 0, 0, 1]


def test_integers_without_names_are_their_own_names_or_positions(tmp_path: Path) -> None:
    file = write(tmp_path / "x.parquet", image=CONTENTS, label=[0, 10, 2, 0])

    assert scan(file).classes == ("0", "2", "10")
    file = write(tmp_path / "x.parquet", image=CONTENTS, label=[0, 1, 1, 0])
    assert scan(file, classes=["NC", "AD"]).table["label"].to_list() == ["NC", "AD", "AD", "NC"]


def test_files_that_disagree_on_the_class_names_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", label_names("a", "b"), image=CONTENTS, label=[0, 1, 1, 0])
    write(tmp_path / "test.parquet", label_names("b", "a"), image=CONTENTS, label=[0, 1, 1, 0])

    with pytest.raises(DataError, match="have different class names"):
        scan(tmp_path)


@pytest.mark.parametrize("inside", [True, False])
def test_file_names_in_the_rows_give_the_subjects(tmp_path: Path, inside: bool) -> None:
    names = ["sub-1_slice-1.png", "sub-1_slice-2.png", "sub-2_slice-1.png", "sub-2_slice-2.png"]
    image: Any = [{"bytes": c, "path": n} for c, n in zip(CONTENTS, names, strict=True)] if inside else CONTENTS
    columns = {} if inside else {"file_name": names}

    manifest = scan(write(tmp_path / "x.parquet", image=image, label=["a", "a", "b", "b"], **columns))

    assert manifest.subject_rule == "bids"
    assert manifest.table["subject"].to_list() == ["sub-1", "sub-1", "sub-2", "sub-2"]


def test_a_subject_column_gives_the_subjects(tmp_path: Path) -> None:
    file = write(tmp_path / "x.parquet", image=CONTENTS, label=["a", "a", "b", "b"], patient=[1, 1, 2, 2])

    manifest = scan(file)

    assert manifest.table["subject"].to_list() == ["1", "1", "2", "2"]
    assert manifest.subject_rule == "column patient"


def test_a_subject_rule_needs_file_names(tmp_path: Path) -> None:
    file = write(tmp_path / "x.parquet", image=CONTENTS, label=["a", "a", "b", "b"])

    with pytest.raises(DataError, match="no file names"):
        scan(file, subject_rule="adni")
    assert scan(file, subject_rule="none").subject_kind == "unknown"


def test_a_named_image_column_is_used_after_loading_the_manifest(tmp_path: Path) -> None:
    others = [images.gray(seed + 10) for seed in range(4)]
    file = write(tmp_path / "x.parquet", t1=CONTENTS, flair=others, label=["a", "a", "b", "b"])

    with pytest.raises(DataError, match="may hold the images: t1, flair"):
        scan(file)
    scan(file, columns={"image": "flair"}).save(tmp_path / "manifest")

    reader = Reader(Manifest.load(tmp_path / "manifest"))
    np.testing.assert_array_equal(reader.read(1), decode(others[1]))


@pytest.mark.parametrize("named", ["label", "nowhere"])
def test_a_column_without_images_cannot_be_named(tmp_path: Path, named: str) -> None:
    file = write(tmp_path / "x.parquet", image=CONTENTS, label=["a", "a", "b", "b"])

    with pytest.raises(ConfigError, match=f"no column '{named}' with image bytes; it has image, label"):
        scan(file, source="parquet", columns={"image": named})


def test_rows_without_usable_images_are_problems(tmp_path: Path) -> None:
    contents = [{"bytes": CONTENTS[0]}, {"bytes": b""}, {"bytes": None}, None, {"bytes": b"no image"}]

    manifest = scan(write(tmp_path / "x.parquet", image=contents, label=["a", "b", "a", "b", "a"]))

    assert [(problem.sample[-1], problem.kind) for problem in manifest.problems] == [
        ("1", "empty"),
        ("2", "missing"),
        ("3", "missing"),
        ("4", "not an image"),
    ]


def test_labels_are_not_needed_for_prediction(tmp_path: Path) -> None:
    file = write(tmp_path / "x.parquet", image=CONTENTS)

    with pytest.raises(DataError, match="no column of labels; it has image"):
        scan(file)
    assert scan(file, labelled=False).table["label"].isna().all()


def test_unusable_files_are_refused_with_the_reason(tmp_path: Path) -> None:
    write(tmp_path / "empty.parquet", image=pa.array([], pa.binary()), label=pa.array([], pa.string()))
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and no more")

    with pytest.raises(DataError, match="has no row"):
        scan(tmp_path / "empty.parquet")
    with pytest.raises(DataError, match="cannot be read as parquet"):
        scan(tmp_path / "broken.parquet", source="parquet")
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="no parquet file"):
        scan(tmp_path / "none", source="parquet")
