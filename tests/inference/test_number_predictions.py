"""Tables of predicted numbers: checked, saved, exported, pooled and averaged."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gyrus.datasets.targets import Target
from gyrus.errors import DataError
from gyrus.inference.number_predictions import (
    NumberPredictions,
    average_numbers,
    holds_numbers,
    load_predictions,
    pool_numbers_by_subject,
)
from gyrus.inference.predictions import Predictions

AGE = Target("number", "age")


def outputs(values: list[list[float]], levels: tuple[float, ...] = (), **columns: object) -> NumberPredictions:
    names = [f"s{n}" for n in range(len(values))]
    about = {"target": AGE, "split_unit": "subject", "levels": levels, "subjects": ["p", "p", "q"][: len(values)]}
    return NumberPredictions.from_outputs(names, values, **(about | columns))  # type: ignore[arg-type]


def test_quantiles_that_cross_are_sorted_and_the_median_is_the_prediction(tmp_path: Path) -> None:
    table = outputs([[3.0, 2.0, 1.0], [1.0, 5.0, 9.0]], (0.1, 0.5, 0.9), targets=[2.0, np.nan])
    assert table.predicted.tolist() == [2, 5]
    assert table.quantiles.tolist() == [[1, 2, 3], [1, 5, 9]]
    table.save(tmp_path / "test.parquet")
    loaded = load_predictions(tmp_path / "test.parquet")
    assert isinstance(loaded, NumberPredictions)
    assert (loaded.target, loaded.levels) == (AGE, (0.1, 0.5, 0.9))
    pd.testing.assert_frame_equal(loaded.table, table.table)
    with pytest.raises(DataError, match="predictions of the number 'age', and those of classes are needed"):
        Predictions.load(tmp_path / "test.parquet")
    table.export(tmp_path / "test.csv")
    assert holds_numbers(tmp_path / "test.csv")
    again = NumberPredictions.from_file(tmp_path / "test.csv", split_unit="subject")
    assert again.predicted.tolist() == [2, 5]
    assert again.table["target"].isna().tolist() == [False, True]


def test_images_are_pooled_by_their_mean_and_models_averaged() -> None:
    one = outputs([[10.0], [20.0], [50.0]], targets=[14.0, 14.0, 52.0])
    pooled = pool_numbers_by_subject(one)
    assert pooled.table[["sample", "target", "prediction"]].to_numpy().tolist() == [["p", 14, 15], ["q", 52, 50]]
    other = outputs([[20.0], [20.0], [60.0]], targets=[14.0, 14.0, 52.0])
    assert average_numbers([one, other.select([2, 0, 1])]).predicted.tolist() == [15, 20, 55]
    with pytest.raises(DataError, match="other samples, subjects, true numbers"):
        average_numbers([one, other.select([0, 1])])
    with pytest.raises(DataError, match="'p' has images with different true numbers"):
        pool_numbers_by_subject(outputs([[1.0], [2.0]], targets=[1.0, 2.0]))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"sample": ["a"], "target": [1.0]}, "lacks the columns"),
        ({"sample": ["a"], "prediction": [np.inf]}, "not finite"),
        ({"sample": ["a", "a"], "prediction": [1.0, 2.0]}, "more than once"),
        ({"sample": ["a"], "prediction": [1.0], "target": [np.inf]}, "infinite"),
    ],
)
def test_tables_that_cannot_be_used_are_refused(table: dict[str, list[object]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        NumberPredictions.from_table(pd.DataFrame(table), target=AGE, split_unit="subject")


def test_words_in_the_column_of_true_numbers_are_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("sample,target,prediction\na,old,5\n")
    with pytest.raises(DataError, match="'old', which is no number"):
        NumberPredictions.from_file(tmp_path / "t.csv", split_unit="subject")
