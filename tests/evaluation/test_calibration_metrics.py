"""Measures of calibration against other libraries and their definitions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import softmax
from sklearn.metrics import brier_score_loss, log_loss

from gyrus.errors import DataError
from gyrus.evaluation.bootstrap import BootstrapConfig
from gyrus.evaluation.calibration_metrics import (
    CALIBRATION_ERRORS,
    brier_losses,
    brier_parts,
    calibration_error,
    consistency_test,
    log_losses,
    measure_calibration,
    reliability_diagram,
)
from gyrus.inference.pooling import pool_by_subject
from gyrus.inference.predictions import Predictions
from tests.support.predictions import answers, as_predictions, repeated_visits, study

FAST = BootstrapConfig(resamples=200)


@pytest.mark.parametrize("classes", [2, 3])
def test_the_brier_score_and_the_log_loss_are_those_of_scikit_learn(classes: int) -> None:
    _, probabilities, targets = answers(0, 80, classes)
    truth = targets if classes > 2 else targets == 1
    shown = probabilities if classes > 2 else probabilities[:, 1]
    expected = brier_score_loss(truth, shown, scale_by_half=True)
    assert brier_losses(probabilities, targets).mean() == pytest.approx(expected, abs=1e-12)
    assert log_losses(probabilities, targets).mean() == pytest.approx(log_loss(targets, probabilities), abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 5), st.integers(1, 120), st.integers(1, 12))
def test_the_parts_add_up_to_the_brier_score(seed: int, classes: int, count: int, bins: int) -> None:
    _, probabilities, targets = answers(seed, count, classes)
    subsets = brier_parts(probabilities, targets, bins)
    assert subsets.brier == pytest.approx(brier_losses(probabilities, targets).mean(), abs=1e-12)
    assert min(subsets.reliability, subsets.resolution, subsets.uncertainty) >= -1e-12


def test_the_parts_on_a_worked_example() -> None:
    # Forecasts of 0.2, ten times, right twice; of 0.6, ten times, right eight times. By hand, as in Murphy 1973:
    # reliability_diagram 0.5 * 0 + 0.5 * 0.2 ** 2, resolution 0.3 ** 2 about the overall 0.5, uncertainty 0.5 * 0.5.
    chance = np.repeat([0.2, 0.6], 10)
    events = np.r_[np.arange(10) < 2, np.arange(10) < 8].astype(int)
    subsets = brier_parts(np.column_stack([1 - chance, chance]), events)
    assert (subsets.reliability, subsets.resolution, subsets.uncertainty) == pytest.approx((0.02, 0.09, 0.25))
    assert subsets.within == pytest.approx(0)


@pytest.mark.parametrize(
    ("name", "sharpened", "expected"),
    [
        # lower_bound_scaling_ce of uncertainty-calibration 0.1.4, by the authors of the debiased error, with 15 bins:
        # p=1 by equal width (get_equal_prob_bins) and by equal mass (get_equal_bins); p=2 and debias=True by equal
        # mass; p=1 by equal width for each class.
        ("equal_width", 1, 0.06719885892698584),
        ("equal_mass", 1, 0.08286939007573604),
        ("equal_mass", 2, 0.1924538402963372),
        ("debiased", 1, 0.0),
        ("debiased", 2, 0.19408831616920635),
        ("classwise", 1, np.mean([0.0719747844152475, 0.10050107278499902, 0.06383903609736681])),
    ],
)
def test_errors_are_those_of_the_library_of_their_authors(name: str, sharpened: int, expected: float) -> None:
    logits, _, targets = answers(0, 300, 3)
    probabilities = softmax(sharpened * logits, axis=1)
    assert calibration_error(name, probabilities, targets[:, None])[0] == pytest.approx(expected, abs=1e-9)


def test_the_error_without_bins_is_the_definition_of_its_paper() -> None:
    _, probabilities, targets = answers(4, 90, 3)
    probabilities = np.round(probabilities, 1)  # ties
    chosen, right = probabilities.max(axis=1), (probabilities.argmax(axis=1) == targets).astype(float)
    gaps = [abs(((chosen - right) * (chosen <= level)).sum()) / 90 for level in np.unique(chosen)]
    found = calibration_error("kolmogorov_smirnov", probabilities, targets[:, None])[0]
    assert found == pytest.approx(max(gaps), abs=1e-12)


@pytest.mark.parametrize("name", CALIBRATION_ERRORS)
def test_of_calibrated_probabilities_few_are_called_wrong_and_of_overconfident_ones_nearly_all(name: str) -> None:
    false_alarms = found = 0
    for seed in range(40):
        logits, probabilities, targets = answers(seed, 120, 3)
        false_alarms += consistency_test(name, probabilities, targets, BootstrapConfig(99)).p_value <= 0.05
        found += consistency_test(name, softmax(4 * logits, axis=1), targets, BootstrapConfig(99)).p_value <= 0.05
    assert false_alarms <= stats.binom.ppf(0.999, 40, 0.05)
    assert found == 40


@pytest.mark.parametrize("name", CALIBRATION_ERRORS)
@pytest.mark.parametrize("alike", [True, False])
def test_visits_of_one_subject_are_no_independent_outcomes(name: str, alike: bool) -> None:
    """Also where the outcomes of visits are independent, calibrated probabilities must not be called miscalibrated."""
    subjects = np.repeat(np.arange(40), 5)
    by_subject = by_row = found = 0
    for seed in range(40):
        logits, probabilities, targets = answers(seed, 40 if alike else 200, 3)
        rows = subjects if alike else np.arange(200)
        stated = softmax(8 * logits, axis=1)[rows]
        once = name, probabilities[rows], targets[rows], BootstrapConfig(99)
        by_subject += consistency_test(*once, subjects).p_value <= 0.05
        by_row += consistency_test(*once).p_value <= 0.05
        found += consistency_test(name, stated, targets[rows], BootstrapConfig(99), subjects).p_value <= 0.05
    assert by_subject <= stats.binom.ppf(0.999, 40, 0.05)
    assert by_row > 10 or not alike
    assert found >= 36


def test_the_debiased_error_does_not_rise_with_fewer_subjects_as_the_plain_one_does() -> None:
    few = [answers(seed, 60, 2)[1:] for seed in range(60)]
    plain = np.mean([calibration_error("equal_mass", p, t[:, None])[0] for p, t in few])
    many = calibration_error("equal_mass", *[a if a.ndim > 1 else a[:, None] for a in answers(0, 6000, 2)[1:]])[0]
    assert plain > 3 * many
    found = consistency_test("equal_mass", *few[0], FAST)
    assert found.expected == pytest.approx(plain, rel=0.3)


def test_a_diagram_has_every_row_once_and_shares_within_their_intervals() -> None:
    predictions = as_predictions(*answers(1, 200, 3)[::2])
    for scheme in ("width", "mass"):
        for class_name in (None, *predictions.classes):
            bins = reliability_diagram(predictions, class_name=class_name, scheme=scheme, bootstrap=FAST).bins
            assert sum(one.count for one in bins) == 200
            for one in bins:
                assert one.low <= one.confidence <= one.high
                assert one.fraction.low is None or one.fraction.low <= one.fraction.value <= one.fraction.high
    counts = [one.count for one in reliability_diagram(predictions, scheme="mass", bootstrap=FAST).bins]
    assert max(counts) - min(counts) <= 1


def test_copies_of_images_make_no_interval_of_a_diagram_narrower() -> None:
    predictions = as_predictions(*answers(1, 60, 2)[::2])
    subsets = [predictions.table.assign(sample=predictions.table["sample"] + f" {copy}") for copy in range(9)]
    ninefold = Predictions.from_table(pd.concat(subsets), classes=predictions.classes, split_unit="subject")
    alone = Predictions.from_table(
        pd.concat(subsets).drop(columns="subject"), classes=predictions.classes, split_unit="image"
    )
    once, copied, naive = (
        [one.fraction for one in reliability_diagram(each, bins=3, scheme="width", bootstrap=FAST).bins]
        for each in (predictions, ninefold, alone)
    )
    assert copied == once
    assert naive[-1].high - naive[-1].low < (once[-1].high - once[-1].low) / 2


def test_measuring_takes_one_row_for_each_subject() -> None:
    predictions = study((10, 10), classes=("a", "b"))
    with pytest.raises(DataError, match="pool them first"):
        measure_calibration(predictions, FAST)
    pooled = pool_by_subject(predictions)
    found = measure_calibration(pooled, FAST)
    assert found.count == 20
    assert found.brier.low < found.brier.value < found.brier.high
    assert [diagram.class_name for diagram in found.diagrams] == [None, "a", "b"]
    assert set(found.errors) == set(CALIBRATION_ERRORS)
    assert measure_calibration(pooled.select(np.arange(20)[::-1]), FAST).brier == found.brier


def test_calibration_of_visits_is_tested_by_subject() -> None:
    visits = repeated_visits(as_predictions(*answers(1, 40, 3)[::2]), np.full(40, 5))
    found, naive = (
        measure_calibration(each, FAST).errors["equal_mass"]
        for each in (visits, replace(visits, table=visits.table.drop(columns="subject_of_visit")))
    )
    assert found.value == naive.value
    assert found.expected > 1.5 * naive.expected
    assert found.p_value > naive.p_value


def test_without_resamples_there_are_errors_alone() -> None:
    found = measure_calibration(as_predictions(*answers(0, 30, 2)[::2]), BootstrapConfig(resamples=0))
    assert found.brier.low is None
    assert all(error.p_value is None and error.value >= 0 for error in found.errors.values())
