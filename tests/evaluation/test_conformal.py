"""Conformal sets against MAPIE, and whether they keep their promise."""

from __future__ import annotations

import numpy as np
import pytest

from gyrus.errors import ConfigError, DataError, UnknownNameError
from gyrus.evaluation.bootstrap import BootstrapConfig
from gyrus.evaluation.conformal import CONFORMAL, ConformalSets, evaluate_conformal_sets, fit_conformal_sets
from gyrus.inference.predictions import Predictions
from tests.support.predictions import answers, as_predictions, repeated_visits, study

FAST = BootstrapConfig(resamples=100)

# SplitConformalClassifier of MAPIE 1.6.0, confidence_level=0.8, conformalised on answers(1, 60, 3), predicted for
# answers(2, 12, 3); "aps" with include_last_label="randomized" and 0.5 in place of each random number.
MAPIE = {
    "lac": "111 011 011 010 101 110 101 111 001 111 101 111",
    "aps": "101 011 011 011 101 110 101 111 011 111 101 101",
}


def people(seed: int, count: int, subset: str, sharpness: float = 1.0) -> Predictions:
    logits, _, targets = answers(seed, count, 3)
    return as_predictions(sharpness * logits, targets, subset=subset, prefix=subset)


@pytest.mark.parametrize("method", CONFORMAL)
def test_sets_are_those_of_mapie(method: str) -> None:
    found = fit_conformal_sets(people(1, 60, "val"), method, level=0.8).predict(people(2, 12, "test"))
    assert " ".join("".join(str(int(one)) for one in row) for row in found) == MAPIE[method]


@pytest.mark.parametrize("method", CONFORMAL)
@pytest.mark.parametrize("sharpness", [1.0, 5.0])
def test_coverage_holds_on_average_however_bad_the_probabilities(method: str, sharpness: float) -> None:
    coverage = [
        evaluate_conformal_sets(
            fit_conformal_sets(people(seed, 39, "val", sharpness), method, level=0.8),
            people(1000 + seed, 200, "test", sharpness),
            BootstrapConfig(resamples=0),
        ).coverage.value
        for seed in range(20)
    ]
    # Of 39 people the coverage is Beta(32, 8) (Vovk 2012), 0.80 on average; with 200 test people each, its mean over
    # 20 has an SD of 0.016.
    assert abs(np.mean(coverage) - 0.8) < 3 * 0.016


def test_coverage_is_measured_with_intervals_and_by_class() -> None:
    test = people(2, 150, "test")
    sets = fit_conformal_sets(people(1, 150, "val"))
    found = evaluate_conformal_sets(sets, test, FAST)
    inside = sets.predict(test)
    held = inside[np.arange(150), test.targets]
    assert found.coverage.value == held.mean()
    assert found.coverage.low < found.coverage.value < found.coverage.high
    assert found.size.value == inside.sum(axis=1).mean()
    assert found.by_class["class 1"].value == held[test.targets == 1].mean()
    assert found.single.value == (inside.sum(axis=1) == 1).mean()
    without = evaluate_conformal_sets(sets, test.select(test.targets != 1), FAST)
    assert without.by_class["class 1"].note == "no row of class 'class 1'"


def test_a_set_of_a_higher_level_holds_that_of_a_lower() -> None:
    val, test = people(1, 80, "val"), people(2, 50, "test")
    for method in CONFORMAL:
        low, high = (fit_conformal_sets(val, method, level=level).predict(test) for level in (0.7, 0.95))
        assert (low <= high).all()
        assert low.sum() < high.sum()


def test_with_too_few_subjects_every_set_holds_every_class(tmp_path) -> None:
    sets = fit_conformal_sets(people(1, 8, "val"), level=0.9)
    assert sets.limit is None
    assert sets.predict(people(2, 5, "test")).all()
    assert fit_conformal_sets(people(1, 9, "val"), level=0.9).limit is not None
    sets.save(tmp_path / "sets.json")
    assert ConformalSets.load(tmp_path / "sets.json") == sets


def test_subjects_are_counted_not_their_slices() -> None:
    val = study((6, 6), classes=("a", "b"), slices=20, subset="val")
    assert fit_conformal_sets(val).count == 12
    assert fit_conformal_sets(val, unit="image").count == 240


def seen_again(seed: int, count: int, subset: str) -> Predictions:
    """Subjects with one visit, or with five where the classifier finds them easy."""
    first = people(seed, count, subset)
    easy = first.probabilities[np.arange(count), first.targets] > 0.5
    return repeated_visits(first, np.where(easy, 5, 1))


@pytest.mark.parametrize("method", CONFORMAL)
def test_a_random_visit_of_a_new_subject_is_covered(method: str) -> None:
    found = [
        evaluate_conformal_sets(
            fit_conformal_sets(seen_again(seed, 39, "val"), method, level=0.8),
            seen_again(1000 + seed, 100, "test"),
            BootstrapConfig(resamples=0),
        )
        for seed in range(12)
    ]
    # As above: visits of one subject are alike, so that a random visit is covered as often as the subject; with 100
    # of them the SD of the mean is 0.022. Sets that are fitted row by row cover about 0.55.
    assert abs(np.mean([each.coverage.value for each in found]) - 0.8) < 3 * 0.022
    assert [each.sets.limit for each in found] == [
        fit_conformal_sets(people(seed, 39, "val"), method, level=0.8).limit for seed in range(12)
    ]


def test_visits_do_not_make_up_for_few_subjects() -> None:
    few = repeated_visits(people(1, 8, "val"), np.full(8, 10))
    assert fit_conformal_sets(few, level=0.9).limit is None
    assert fit_conformal_sets(few, level=0.8).limit is not None
    test, sets = people(2, 50, "test"), fit_conformal_sets(people(1, 60, "val"))
    once, repeated = (evaluate_conformal_sets(sets, each, FAST) for each in (test, seen_again(2, 50, "test")))
    for name in ("coverage", "size", "single", "empty"):
        one, other = getattr(once, name), getattr(repeated, name)
        assert (one.value, one.low, one.high) == pytest.approx((other.value, other.low, other.high)), name


def test_what_cannot_be_fitted_is_refused() -> None:
    val = people(1, 20, "val")
    with pytest.raises(DataError, match="test set"):
        fit_conformal_sets(people(1, 20, "test"))
    with pytest.raises(ConfigError, match="level"):
        fit_conformal_sets(val, level=90)
    with pytest.raises(UnknownNameError, match="conformal method"):
        fit_conformal_sets(val, "raps")
    with pytest.raises(DataError, match="cannot be fitted"):
        fit_conformal_sets(study(targets=None, subset="val"))
    with pytest.raises(DataError, match="are for classes"):
        fit_conformal_sets(val).predict(study())
