"""The predictions table: round trips, files of other tools, and errors."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from gyrus.errors import DataError, GyrusError, UnknownNameError
from gyrus.inference.predictions import Predictions
from gyrus.types import SPLIT_WARNINGS

CLASSES = ("NA", "None, or so", "Mild")  # names that a CSV reader likes to take for something else


def example(**changes: object) -> Predictions:
    keywords: dict = {
        "classes": CLASSES,
        "split_unit": "subject",
        "subjects": ["007", "007", None],
        "targets": ["NA", None, "Mild"],
    }
    logits = [[1.5, 0.0, -2.0], [0.1, 0.2, 0.3], [-800.0, 800.0, 0.0]]
    return Predictions.from_logits(["a/1.png", "b", "c#3"], logits, **(keywords | changes))


def same(one: Predictions, other: Predictions) -> None:
    pd.testing.assert_frame_equal(one.table, other.table)
    assert (one.classes, one.split_unit, one.subset, one.subject_kind) == (
        other.classes,
        other.split_unit,
        other.subset,
        other.subject_kind,
    )


def test_properties_follow_from_the_logits() -> None:
    predictions = example()
    np.testing.assert_allclose(predictions.probabilities, softmax(predictions.logits, axis=1), rtol=1e-14)
    assert predictions.targets.tolist() == [0, -1, 2]
    assert predictions.predicted_classes.tolist() == ["NA", "Mild", "None, or so"]
    assert not predictions.subjects_known


def test_a_table_of_many_classes_takes_further_columns_without_a_warning() -> None:
    classes = [f"class {index}" for index in range(150)]
    many = Predictions.from_logits(["a", "b"], np.eye(2, 150), classes=classes, split_unit="subject")
    assert list(many.table.assign(note="x"))[-2:] == ["logit:class 149", "note"]
    again = Predictions.from_table(many.table.assign(note="x"), classes=classes, split_unit="subject")
    assert list(again.table)[-1] == "note"
    np.testing.assert_array_equal(again.logits, np.eye(2, 150))


def test_the_first_of_equal_logits_is_predicted() -> None:
    assert example(classes=("x", "y", "z"), targets=None).select([0]).predicted_classes.tolist() == ["x"]
    tie = Predictions.from_logits(["s"], [[1.0, 1.0]], classes=("x", "y"), split_unit="subject")
    assert tie.predicted_classes.tolist() == ["x"]


@pytest.mark.parametrize("unit", SPLIT_WARNINGS)
def test_every_table_carries_the_warning_of_its_split(unit: str, tmp_path) -> None:
    predictions = example(split_unit=unit)
    predictions.save(tmp_path / "p.parquet")
    assert Predictions.load(tmp_path / "p.parquet").warning == SPLIT_WARNINGS[unit]


def test_save_and_load_keep_everything(tmp_path) -> None:
    predictions = example(subset="val", subject_kind="scan", split_unit="image")
    predictions = Predictions.from_table(
        predictions.table.assign(age=[70, 71, 72]),
        classes=CLASSES,
        split_unit="image",
        subset="val",
        subject_kind="scan",
    )
    predictions.save(tmp_path / "deep" / "p.parquet")
    same(Predictions.load(tmp_path / "deep" / "p.parquet"), predictions)


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".json"])
def test_an_export_can_be_read_again(suffix: str, tmp_path) -> None:
    predictions = example(subjects=["007", "None", None])
    path = tmp_path / f"p{suffix}"
    predictions.export(path)
    read = Predictions.from_file(path, split_unit="subject")
    assert read.classes == CLASSES
    np.testing.assert_allclose(read.probabilities, predictions.probabilities, atol=1e-14)
    pd.testing.assert_frame_equal(read.table[["sample", "subject", "target"]], predictions.table.iloc[:, :3])
    assert read.table["predicted"].tolist() == predictions.predicted_classes.tolist()


def test_an_export_names_its_columns_as_documented(tmp_path) -> None:
    example().export(tmp_path / "p.json")
    first = json.loads((tmp_path / "p.json").read_text())[0]
    assert list(first) == ["sample", "subject", "target", "predicted", *(f"probability:{name}" for name in CLASSES)]
    assert first["subject"] == "007"


def test_an_export_to_another_format_is_refused(tmp_path) -> None:
    with pytest.raises(UnknownNameError, match="xlsx"):
        example().export(tmp_path / "p.xlsx")
    assert not list(tmp_path.iterdir())


def foreign(**changes: object) -> pd.DataFrame:
    columns = {"sample": ["a", "b"], "target": ["AD", "NC"], "AD": [0.91, 0.2], "NC": [0.09, 0.8]}
    return pd.DataFrame(columns | changes)


def test_a_table_of_another_tool_is_read_in_the_order_of_classes_given(tmp_path) -> None:
    foreign().to_csv(tmp_path / "p.csv", index=False)
    read = Predictions.from_file(tmp_path / "p.csv", classes=("NC", "AD"), split_unit="image")
    np.testing.assert_allclose(read.probabilities, [[0.09, 0.91], [0.8, 0.2]], atol=1e-12)
    assert read.targets.tolist() == [1, 0]
    assert read.warning


def test_logits_of_another_tool_are_taken_as_they_are(tmp_path) -> None:
    table = foreign().rename(columns={"AD": "logit:AD", "NC": "logit:NC"})
    table.to_csv(tmp_path / "p.csv", index=False)
    read = Predictions.from_file(tmp_path / "p.csv", split_unit="subject")
    np.testing.assert_array_equal(read.logits, [[0.91, 0.09], [0.2, 0.8]])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"AD": [0.9, np.nan]}, "'AD' has 1 values that are missing.*sample 'b'"),
        ({"AD": [0.9, "x"]}, "'AD' has 1 values that are missing or not finite numbers; the first is 'x'"),
        ({"AD": [0.5, 0.2]}, "first is 'a'.*sum to 0.59"),
        ({"AD": [1.2, 0.2], "NC": [-0.2, 0.8]}, "1 row is not probabilities; the first is 'a'"),
        ({"target": ["AD", "MCI"]}, "not among the classes.*'MCI' of sample 'b'"),
        ({"sample": ["a", "a"]}, "more than once.*'a'"),
        ({"sample": ["a", None]}, "1 row has no sample id"),
        ({"subject": ["007", "7"]}, "1 subject written otherwise .*: '7' and '007'"),
    ],
)
def test_what_is_wrong_with_a_table_is_named(changes: dict, words: str, tmp_path) -> None:
    foreign(**changes).to_csv(tmp_path / "p.csv", index=False)
    with pytest.raises(DataError, match=words):
        Predictions.from_file(tmp_path / "p.csv", classes=("AD", "NC"), split_unit="subject")


@pytest.mark.parametrize("encoding", ["utf-16", "cp1252", "utf-8-sig"])
def test_a_table_of_a_spreadsheet_is_read(tmp_path, encoding: str) -> None:
    text = "sep=;\nsample;target;probability:Aé;probability:B\n01;Aé;0,75;0,25\n02;B;0,5;0,5\n"
    (tmp_path / "p.csv").write_text(text, encoding=encoding)
    read = Predictions.from_file(tmp_path / "p.csv", split_unit="subject")
    assert read.classes == ("Aé", "B")
    assert read.table["sample"].tolist() == ["01", "02"]
    assert read.probabilities[:, 0].tolist() == pytest.approx([0.75, 0.5])


def test_a_table_without_scores_or_samples_says_what_to_do(tmp_path) -> None:
    foreign().to_csv(tmp_path / "p.csv", index=False)
    with pytest.raises(DataError, match="Rename the columns of the scores, or give the class names"):
        Predictions.from_file(tmp_path / "p.csv", split_unit="subject")
    with pytest.raises(DataError, match=r"lacks the columns \['MCI'\]"):
        Predictions.from_file(tmp_path / "p.csv", classes=("AD", "MCI"), split_unit="subject")
    foreign().drop(columns="sample").to_csv(tmp_path / "q.csv", index=False)
    with pytest.raises(DataError, match=r"lacks the columns \['sample'\]"):
        Predictions.from_file(tmp_path / "q.csv", split_unit="subject")


def test_classes_that_differ_from_the_columns_are_refused(tmp_path) -> None:
    example().export(tmp_path / "p.csv")
    with pytest.raises(DataError, match="the classes given"):
        Predictions.from_file(tmp_path / "p.csv", classes=("NA", "Mild"), split_unit="subject")


def test_files_that_are_no_predictions_are_refused(tmp_path) -> None:
    with pytest.raises(DataError, match=r"missing\.csv"):
        Predictions.from_file(tmp_path / "missing.csv", split_unit="subject")
    foreign().to_parquet(tmp_path / "p.parquet")
    with pytest.raises(DataError, match=r"Predictions\.from_file"):
        Predictions.load(tmp_path / "p.parquet")


@pytest.mark.parametrize(
    "changes", [{"classes": ("x", "x", "y")}, {"classes": ("x",)}, {"split_unit": "people", "targets": None}]
)
def test_impossible_tables_are_refused(changes: dict) -> None:
    with pytest.raises(GyrusError):
        example(**changes)


def test_selecting_rows_keeps_what_belongs_to_them() -> None:
    predictions = example()
    chosen = predictions.select(np.array([True, False, True]))
    assert chosen.table["sample"].tolist() == ["a/1.png", "c#3"]
    np.testing.assert_array_equal(chosen.logits, predictions.logits[[0, 2]])
