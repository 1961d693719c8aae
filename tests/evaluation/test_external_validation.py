"""Comparison of independent samples, calibration lines, and sizes of cohorts: against worked examples."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit

from gyrus.evaluation import external_validation
from gyrus.evaluation.assessment import assess
from gyrus.evaluation.bootstrap import BootstrapConfig
from gyrus.evaluation.comparison import labelled_rows
from gyrus.evaluation.evaluate import evaluate
from gyrus.evaluation.external_validation import (
    InternalScores,
    calibration_lines,
    difference_of_independent,
    validate_externally,
)
from gyrus.evaluation.result import Estimate
from gyrus.evaluation.thresholds import evaluate_threshold
from gyrus.inference.predictions import Predictions
from tests.support.predictions import answers, as_predictions, repeated_visits


def test_difference_of_proportions_agrees_with_newcombe():
    """Newcombe 1998, table II, row (a): 56/70 against 48/80, method 10: 0.0524 to 0.3339."""
    first, second = Estimate(0.6, 0.4905, 0.7000), Estimate(0.8, 0.6918, 0.8769)  # Wilson intervals
    found = difference_of_independent(first, second)
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=2e-3)


@pytest.mark.parametrize(("shift", "slope"), [(0.0, 1.0), (1.0, 1.0), (0.0, 0.5)])
def test_calibration_lines_find_what_was_built_in(shift, slope):
    generator = np.random.default_rng(0)
    true = np.clip(generator.normal(0, 1.2, 6000), -4, 4)
    event = generator.random(6000) < expit(true)
    stated = expit((true - shift) / slope)
    predictions = Predictions.from_logits(
        [str(number) for number in range(6000)],
        np.column_stack([np.zeros(6000), logit(stated)]),
        classes=["healthy", "ill"],
        split_unit="subject",
        targets=["ill" if each else "healthy" for each in event],
    )
    (line,) = calibration_lines(predictions, "healthy")
    assert line.slope.low < slope < line.slope.high
    assert line.slope.high - line.slope.low < 0.2
    if slope == 1.0:
        assert line.in_the_large.low < shift < line.in_the_large.high


def test_probabilities_that_are_far_too_low_have_a_calibration_in_the_large() -> None:
    odds = np.linspace(-3.6, -3.4, 40)
    predictions = as_predictions(np.column_stack([np.zeros(40), odds]), np.tile([0, 1], 20))
    (line,) = calibration_lines(predictions)
    assert line.in_the_large.value == pytest.approx(3.5, abs=0.02)
    assert line.in_the_large.low is not None
    assert line.in_the_large.low > 0


def test_visits_of_a_cohort_count_by_subject() -> None:
    logits, _, targets = answers(1, 60, 2)
    val, test, cohort = (
        as_predictions(logits, targets, prefix=prefix, subset=subset)
        for prefix, subset in (("v", "val"), ("t", "test"), ("c", "test"))
    )
    visits = repeated_visits(cohort, np.full(60, 4))

    (once,), (repeated,) = calibration_lines(cohort), calibration_lines(visits)
    for one, other in ((once.in_the_large, repeated.in_the_large), (once.slope, repeated.slope)):
        assert one.value == pytest.approx(other.value)
        assert one.high - one.low == pytest.approx(other.high - other.low, rel=0.3)  # half as wide row by row

    bootstrap = BootstrapConfig(resamples=20)
    chosen = assess(val, test, healthy="class 0", resamples=20)
    scores = [evaluate(each, resamples=20) for each in (test, cohort, visits)]
    internal = InternalScores.measure(scores[0], test, chosen)
    alone = validate_externally(internal, scores[1], cohort, bootstrap)
    found = validate_externally(internal, scores[2], visits, bootstrap)
    assert alone["prevalence_p"] == pytest.approx(1.0)
    assert found["prevalence_p"] is None
    folds = external_validation._cross_fitted(visits, "subject", [])[2]
    assert (folds == np.repeat(external_validation._cross_fitted(cohort, "subject", [])[2], 4)).all()


def test_internal_scores_hold_the_points_by_each_unit_and_no_row(tmp_path) -> None:
    logits, _, targets = answers(3, 80, 2)
    val, test = (
        as_predictions(
            logits,
            np.repeat(targets[::2], 2),
            subjects=[f"{prefix}-{row // 2:03}" for row in range(80)],
            prefix=prefix,
            subset=subset,
        )
        for prefix, subset in (("v", "val"), ("t", "test"))
    )
    chosen = assess(val, test, healthy="class 0", resamples=20)
    scores = evaluate(test, resamples=20)
    found = InternalScores.measure(scores, test, chosen, ("a note",))
    assert found.points["subject"] == chosen.points
    calibrated = chosen.calibrator.apply(labelled_rows(test, "image"))
    expected = evaluate_threshold(chosen.points[0].point, calibrated, BootstrapConfig(20))
    assert found.points["image"][0] == expected
    found.save(tmp_path / "scores.json")
    assert InternalScores.load(tmp_path / "scores.json") == found
    assert test.table["subject"].iloc[0] not in (tmp_path / "scores.json").read_text(encoding="utf-8")
    other = chosen.points[-1].point.goal
    assert {results[0].point.goal for results in found.with_first(other).points.values()} == {other}
    alone = InternalScores.measure(scores, test, None, ("a note",))
    fields = validate_externally(alone, scores, test, BootstrapConfig(20))
    assert fields["points"] == ()
    assert len(fields["calibration_lines"]) == 1
    assert fields["expected_accuracy"] == pytest.approx(scores.scores["subject"].metrics["accuracy"].value)
