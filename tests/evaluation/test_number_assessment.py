"""Conformal intervals with their coverage, and the correction of the bias towards the mean."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gyrus.datasets.targets import Target
from gyrus.errors import LeakageError
from gyrus.evaluation.bootstrap import BootstrapConfig
from gyrus.evaluation.number_assessment import (
    NumberAssessment,
    assess_numbers,
    evaluate_number_subgroups,
    fit_correction,
    fit_interval,
)
from gyrus.inference.number_predictions import NumberPredictions
from gyrus.inference.number_rule import BiasCorrection, IntervalRule, NumberRule
from tests.support.reference_values import SOURCES, interval_inputs, reference

AGE = Target("number", "age")


def predictions(subset: str, count: int, seed: int = 0, shrink: float = 1.0, *, quantiles: bool = False):
    """Errors whose spread grows with age, predictions that tend to 50 if ``shrink`` is below 1."""
    random = np.random.default_rng((seed, len(subset)))
    truth = random.uniform(20, 80, count)
    spread = truth / 20
    found = 50 + shrink * (truth - 50) + spread * random.normal(size=count)
    columns = {"sample": [f"{subset}{n}" for n in range(count)], "target": truth, "prediction": found}
    if quantiles:  # too narrow
        columns |= {"quantile:0.05": found - spread, "quantile:0.5": found, "quantile:0.95": found + spread}
    table = pd.DataFrame(columns)
    return NumberPredictions.from_table(
        table.assign(subject=table["sample"], sex=np.where(truth > 50, "F", "M")),
        target=AGE,
        split_unit="subject",
        subset=subset,
    )


def test_the_limit_is_that_of_split_conformal_prediction() -> None:
    """Lei et al. 2018: the k-th smallest absolute error, k = ceil((n + 1) level)."""
    val = predictions("val", 37)
    errors = np.sort(np.abs(val.targets - val.predicted))
    assert fit_interval(val, "absolute", 0.9).limit == errors[int(np.ceil(38 * 0.9)) - 1]
    assert fit_interval(val.select(range(8)), "absolute", 0.9).limit is None
    assert fit_interval(val.select(range(9)), "absolute", 0.9).limit == np.abs(val.targets - val.predicted)[:9].max()


@SOURCES
@pytest.mark.parametrize("method", ["absolute", "quantiles"])
def test_intervals_are_those_of_mapie(method, source) -> None:
    data = interval_inputs()
    quantiles = ("quantile:0.05", "prediction", "quantile:0.95")
    val = pd.DataFrame(data["val predicted"], columns=list(quantiles)).assign(target=data["val truth"])
    val = val.assign(sample=[f"s{n}" for n in range(len(val))], subject=[f"p{n}" for n in range(len(val))])
    rows = NumberPredictions.from_table(val, target=AGE, split_unit="subject", subset="val")
    low, high = fit_interval(rows, method, 0.9).ends(data["test predicted"][:, 1], data["test predicted"][:, [0, 2]])
    np.testing.assert_allclose(np.column_stack([low, high]), reference("mapie", source)[method], rtol=1e-9)


@pytest.mark.parametrize("method", ["absolute", "quantiles"])
def test_intervals_cover_as_many_as_they_promise(method) -> None:
    covered = []
    for seed in range(150):
        rule = fit_interval(predictions("val", 39, seed, quantiles=True), method, 0.9)
        test = predictions("test", 100, seed, quantiles=True)
        low, high = rule.ends(test.predicted, test.quantiles)
        covered.append(((low <= test.targets) & (test.targets <= high)).mean())
    assert 0.88 <= np.mean(covered) <= 0.92


def test_quantile_intervals_are_wider_where_errors_are() -> None:
    found = assess_numbers(
        predictions("val", 200, quantiles=True), predictions("test", 100, quantiles=True), resamples=50
    )
    assert [each.rule.method for each in found.intervals] == ["absolute", "quantiles"]
    assert found.rule.interval == found.intervals[1].rule
    old, young = (
        found.intervals[1].rule.ends(np.array([80.0]), np.array([[76.0, 80.0, 84.0]])),
        found.intervals[1].rule.ends(np.array([20.0]), np.array([[19.0, 20.0, 21.0]])),
    )
    assert old[1] - old[0] > young[1] - young[0]


def test_the_correction_removes_the_trend_and_both_errors_are_shown(tmp_path: Path) -> None:
    val, test = predictions("val", 60, shrink=0.5), predictions("test", 60, shrink=0.5)
    found = assess_numbers(val, test, resamples=200)
    assert found.correction is not None
    assert found.correction.slope == pytest.approx(0.5, abs=0.05)
    assert found.before.slope.high < -0.3  # type: ignore[operator]
    assert found.after is not None
    assert found.after.slope.low < 0 < found.after.slope.high  # type: ignore[operator]
    text = found.text()
    assert "After the correction of the bias towards the mean: mean absolute error" in text
    assert text.count("mean absolute error") >= 2
    assert "Along the range, age: " in text
    found.save(tmp_path / "assessment.json")
    assert NumberAssessment.load(tmp_path / "assessment.json") == found


def test_what_the_data_do_not_allow_is_said() -> None:
    val = predictions("val", 8)
    found = assess_numbers(val, predictions("test", 20), resamples=50)
    assert found.correction is None
    assert found.after is None
    assert "needs at least 9 validation subjects" in found.text()
    assert "has 8 subjects, and 10 are needed" in found.text()
    flat = assess_numbers(predictions("val", 40, shrink=0), predictions("test", 20), resamples=50)
    assert flat.correction is None
    assert "hardly depend on the true age" in flat.text()
    few = predictions("val", 12, shrink=0.2)
    noise = np.random.default_rng(0).normal(0, 6, 12)
    noisy = NumberPredictions.from_table(
        few.table.assign(prediction=few.predicted + noise), target=AGE, split_unit="subject", subset="val"
    )
    correction, reason = fit_correction(noisy)
    assert correction is None
    assert "too uncertain" in reason
    with pytest.raises(LeakageError, match="in the validation and in the test set"):
        assess_numbers(val, predictions("val", 8), resamples=50)


def test_subgroups_show_the_error_of_each_group() -> None:
    test = predictions("test", 60)
    groups = test.table.set_index("sample")[["sex"]]
    found = evaluate_number_subgroups(test, groups, BootstrapConfig(resamples=50)).tables[0]
    old = test.table["sex"] == "F"
    expected = np.abs(test.predicted - test.targets)[old].mean()
    assert found.groups[0].name == "F"
    assert found.groups[0].trend.mae.value == pytest.approx(expected)


def test_the_rule_is_applied_by_subject_to_new_images() -> None:
    rule = NumberRule("subject", IntervalRule("absolute", 0.9, 2.0), BiasCorrection(0.5, 10.0))
    columns = rule.columns(np.array([30.0, 34.0, 50.0]), np.empty((3, 0)), ["a", "b", "c"], ["p", "p", None])
    assert columns["subject_interval_low"].tolist() == [30, 30, 48]
    assert columns["subject_interval_high"].tolist() == [34, 34, 52]
    assert columns["subject_corrected_prediction"].tolist() == [44, 44, 80]
    crossing = IntervalRule("quantiles", 0.9, -5.0).ends(np.array([10.0]), np.array([[8.0, 10.0, 12.0]]))
    assert [float(each[0]) for each in crossing] == [10, 10]
