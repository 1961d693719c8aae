"""Operating points."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import precision_score, recall_score, roc_curve

from gyrus.errors import ConfigError, DataError, UnknownNameError
from gyrus.evaluation.bootstrap import BootstrapConfig
from gyrus.evaluation.thresholds import (
    GOALS,
    RATES,
    OperatingPoint,
    choose_threshold,
    evaluate_threshold,
    is_positive,
    positive_scores,
)
from gyrus.inference.pooling import pool_by_subject
from gyrus.inference.predictions import Predictions
from tests.support.predictions import CLASSES, answers, as_predictions, study

FAST = BootstrapConfig(resamples=200)
SICK = CLASSES[1:]


def validation(**changes: object) -> Predictions:
    return study((30, 20, 15, 10), **({"subset": "val", "seed": 1, "skill": 2.0} | changes))


def binary(seed: int = 3, count: int = 150, **changes: object) -> Predictions:
    logits, _, targets = answers(seed, count, 2)
    return as_predictions(logits, targets, **changes)


def test_youden_is_the_point_of_the_roc_curve_farthest_from_chance() -> None:
    val = binary(subset="val")
    false_alarms, found, _ = roc_curve(val.targets == 1, val.probabilities[:, 1])
    point = choose_threshold(val, ["class 1"])
    reached = point.validation["sensitivity"] + point.validation["specificity"] - 1
    assert reached == pytest.approx((found - false_alarms).max(), abs=1e-12)


@pytest.mark.parametrize("goal", ["sensitivity", "specificity"])
@pytest.mark.parametrize("target", [0.5, 0.8, 0.95, 1.0])
def test_a_wanted_rate_is_reached_at_the_least_cost_to_the_other(goal: str, target: float) -> None:
    val = binary(subset="val")
    point = choose_threshold(val, ["class 1"], goal, target=target)
    other = {"sensitivity": "specificity", "specificity": "sensitivity"}[goal]
    false_alarms, found, _ = roc_curve(val.targets == 1, val.probabilities[:, 1], drop_intermediate=False)
    rates = {"sensitivity": found, "specificity": 1 - false_alarms}
    assert point.reached
    assert point.validation[goal] >= target
    assert point.validation[other] == pytest.approx(rates[other][rates[goal] >= target - 1e-12].max(), abs=1e-12)


def test_the_lowest_cost_is_the_lowest_of_all_thresholds() -> None:
    val = binary(subset="val")
    scores, truth = val.probabilities[:, 1], val.targets == 1
    for price in (0.2, 1.0, 5.0):
        point = choose_threshold(val, ["class 1"], "cost", target=price)
        costs = [
            price * (truth & (scores < limit)).sum() + (~truth & (scores >= limit)).sum()
            for limit in (*np.unique(scores), 2.0, point.threshold)
        ]
        assert costs[-1] == min(costs)


def test_npv_and_sensitivity_are_both_reached() -> None:
    val = validation(skill=4.0)
    point = choose_threshold(val, SICK, "npv_with_sensitivity", target=0.9)
    assert point.reached
    rows = pool_by_subject(val)
    predicted, sick = point.predict_positive(rows), is_positive(rows, SICK)
    assert precision_score(~sick, ~predicted) >= 0.9
    assert recall_score(sick, predicted) >= 0.9
    scores = positive_scores(rows, SICK)
    stricter = [limit for limit in scores if limit > point.threshold]
    both = [
        precision_score(~sick, scores < limit) >= 0.9 and recall_score(sick, scores >= limit) >= 0.9
        for limit in stricter
        if (~sick & (scores < limit)).sum() > (~sick & ~predicted).sum()
    ]
    assert not any(both)


def test_a_goal_that_is_not_reached_is_reported() -> None:
    point = choose_threshold(validation(skill=-1.0), SICK, "npv_with_sensitivity", target=1.0)
    assert not point.reached
    assert "no threshold reaches it" in point.text()


@pytest.mark.parametrize("goal", GOALS)
def test_every_goal_gives_a_point_that_is_evaluated_on_the_test_set_and_saved(goal: str, tmp_path) -> None:
    point = choose_threshold(validation(), SICK, goal)
    assert (point.unit, point.count, point.positive) == ("subject", 75, SICK)
    test = pool_by_subject(study((30, 20, 15, 10), seed=2))
    result = evaluate_threshold(point, test, FAST)
    predicted, sick = positive_scores(test, SICK) >= point.threshold, test.targets > 0
    assert result.true_positives == (predicted & sick).sum()
    assert result.rates["sensitivity"].value == pytest.approx(recall_score(sick, predicted))
    assert result.rates["specificity"].value == pytest.approx(recall_score(~sick, ~predicted))
    assert result.rates["ppv"].value == pytest.approx(precision_score(sick, predicted))
    assert result.rates["npv"].value == pytest.approx(precision_score(~sick, ~predicted))
    assert set(result.rates) == set(RATES)
    assert result.true_positives + result.false_positives + result.false_negatives + result.true_negatives == 75
    for estimate in result.rates.values():
        assert estimate.low <= estimate.value <= estimate.high
    point.save(tmp_path / "point.json")
    assert OperatingPoint.load(tmp_path / "point.json") == point


def test_the_rates_on_validation_are_those_that_the_threshold_has_there() -> None:
    val = validation()
    for goal in GOALS:
        point = choose_threshold(val, SICK, goal)
        rates = evaluate_threshold(point, pool_by_subject(val), BootstrapConfig(resamples=0)).rates
        assert {name: rate.value for name, rate in rates.items()} == pytest.approx(dict(point.validation))


def test_where_all_are_found_the_interval_is_exact() -> None:
    targets = np.repeat([0, 1], [12, 10])
    val, test = (as_predictions(4.0 * np.eye(2)[targets], targets, prefix=one, subset=one) for one in ("val", "test"))
    rate = evaluate_threshold(choose_threshold(val, ["class 1"]), test, FAST).rates["sensitivity"]
    exact = stats.binomtest(10, 10).proportion_ci(method="exact")
    assert (rate.value, rate.low, rate.high) == pytest.approx((1.0, exact.low, exact.high))
    assert "Clopper and Pearson" in rate.note


def test_a_rate_without_rows_has_a_note() -> None:
    point = choose_threshold(binary(subset="val"), ["class 1"], "sensitivity", target=1.0)
    test = binary(seed=5)
    only_sick = evaluate_threshold(point, test.select(test.targets == 1), FAST).rates
    assert only_sick["specificity"].value is None
    assert only_sick["specificity"].note == "none is negative"


def test_slices_of_a_subject_stay_together() -> None:
    point = choose_threshold(validation(), SICK)
    test = study((20, 20, 10, 10), slices=20, seed=2)
    known = evaluate_threshold(point, test, FAST).rates["sensitivity"]
    images = Predictions.from_table(test.table.drop(columns="subject"), classes=CLASSES, split_unit="image")
    naive = evaluate_threshold(point, images, FAST).rates["sensitivity"]
    assert known.value == naive.value
    assert known.high - known.low > 1.7 * (naive.high - naive.low)


def test_a_probability_equal_to_the_threshold_is_positive() -> None:
    """Of a positive whose probability is exactly 0, too."""
    logits, targets = np.array([[0.0, -2000.0], [0.0, 1.0], [0.0, -1.0]]), np.array([1, 1, 0])
    val = as_predictions(logits, targets, subset="val")
    point = choose_threshold(val, ["class 1"], "sensitivity", target=1.0, unit="image")
    assert (point.threshold, point.validation["sensitivity"]) == (0.0, 1.0)
    assert point.predict_positive(val).all()


def test_where_none_may_be_positive_the_threshold_is_half_way_from_the_highest_probability_to_1() -> None:
    scores = np.array([0.2, 0.4, 0.8])
    val = as_predictions(np.log(np.column_stack([1 - scores, scores])), np.array([0, 1, 0]), subset="val")
    assert choose_threshold(val, ["class 1"], "specificity", target=1.0).threshold == pytest.approx(0.9)
    certain = as_predictions(np.array([[0.0, 1], [0, 0.5], [-2000, 0]]), np.array([1, 1, 0]), subset="val")
    point = choose_threshold(certain, ["class 1"], "specificity", target=1.0)
    assert point.threshold > 1
    assert not point.predict_positive(certain).any()


def test_no_true_positive_is_counted_above_the_highest_probability() -> None:
    scores = np.array([0.9, 0.5, 0.3, 0.8, 0.1])
    val = as_predictions(np.log(np.column_stack([1 - scores, scores])), np.array([0, 0, 0, 1, 1]), subset="val")
    point = choose_threshold(val, ["class 1"], "youden")
    assert (point.threshold, point.validation["sensitivity"]) == (pytest.approx(0.65), 0.5)


def test_a_probability_of_0_is_positive_at_the_threshold_0() -> None:
    val = as_predictions(np.array([[0.0, -2000], [0, 2], [0, -1]]), np.array([1, 1, 0]), subset="val")
    point = choose_threshold(val, ["class 1"], "sensitivity", target=1.0, unit="image")
    assert (point.threshold, point.validation["sensitivity"]) == (0, 1)
    assert evaluate_threshold(point, replace(val, subset="test"), FAST).point is point


def test_images_of_unknown_subjects_are_the_unit() -> None:
    val = validation()
    table = val.table.drop(columns="subject")
    images = Predictions.from_table(table, classes=CLASSES, split_unit="image", subset="val")
    assert (choose_threshold(images, SICK).unit, choose_threshold(images, SICK).count) == ("image", len(val))


def test_what_cannot_be_chosen_is_refused() -> None:
    val = validation()
    with pytest.raises(DataError, match="test set"):
        choose_threshold(study(), SICK)
    with pytest.raises(ConfigError, match="but not all"):
        choose_threshold(val, CLASSES)
    with pytest.raises(ConfigError, match="but not all"):
        choose_threshold(val, [])
    with pytest.raises(UnknownNameError, match="class 'Milde'"):
        choose_threshold(val, ["Milde"])
    with pytest.raises(UnknownNameError, match="goal"):
        choose_threshold(val, SICK, "accuracy")
    with pytest.raises(ConfigError, match="has no target"):
        choose_threshold(val, SICK, target=0.9)
    with pytest.raises(ConfigError, match=r"in \(0, 1\]"):
        choose_threshold(val, SICK, "sensitivity", target=90)
    with pytest.raises(ConfigError, match=r"in \(0, 1\]"):
        choose_threshold(val, SICK, "sensitivity", target=0)
    with pytest.raises(DataError, match="none is positive"):
        choose_threshold(study((9, 0, 0, 0), subset="val"), SICK)
    with pytest.raises(DataError, match="is for classes"):
        choose_threshold(val, SICK).predict_positive(binary())


def test_older_files_are_read(tmp_path) -> None:
    point = choose_threshold(validation(), SICK, "npv_with_sensitivity")
    document = point.to_document() | {"goal": "healthy_precision"}
    former = {"ppv": "positive_precision", "npv": "negative_precision"}
    document["validation"] = {former.get(name, name): rate for name, rate in document["validation"].items()}
    (tmp_path / "point.json").write_text(json.dumps(document))
    assert OperatingPoint.load(tmp_path / "point.json") == point
