"""Paired differences against brute force, each classical test against a published example or another implementation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from gyrus.errors import DataError, UnknownNameError
from gyrus.evaluation.bootstrap import resample_counts
from gyrus.evaluation.comparison import compare, corrected_resampled_t, delong, holm, labelled_rows, mcnemar
from gyrus.evaluation.metrics import METRICS
from gyrus.inference.predictions import Predictions
from tests.support.predictions import study

TWO = ("Healthy", "Sick")


def pair(first: float = 2.0, second: float = 0.5, **changes: object) -> tuple[Predictions, Predictions]:
    return tuple(
        study((20, 20), classes=TWO, skill=skill, seed=seed, slices=3, **changes)
        for seed, skill in enumerate((first, second))
    )


@pytest.mark.parametrize("unit", ["subject", "image"])
def test_the_interval_is_that_of_the_same_resamples_row_by_row(unit: str) -> None:
    first, second = pair()
    found = compare(first, second, metric="balanced_accuracy", unit=unit, resamples=40, seed=3)
    one, other = labelled_rows(first, unit), labelled_rows(second, unit)
    people = pd.factorize(one.table["subject"], sort=True)[0]
    counts = resample_counts(people.max() + 1, range(40), 3)
    differences = []
    for column in counts.T:
        rows = np.repeat(np.arange(len(one)), column[people].astype(int))
        scores = [balanced_accuracy_score(each.targets[rows], each.predicted[rows]) for each in (one, other)]
        differences.append(scores[0] - scores[1])
    assert found.estimate.low == pytest.approx(np.quantile(differences, 0.025))
    assert found.estimate.high == pytest.approx(np.quantile(differences, 0.975))
    assert found.estimate.value == pytest.approx(found.first - found.second)


def test_the_areas_are_those_of_scikit_learn() -> None:
    first, second = pair()
    found = compare(first, second, metric="macro_roc_auc", resamples=0)
    for value, each in ((found.first, first), (found.second, second)):
        rows = labelled_rows(each, "subject")
        assert value == pytest.approx(roc_auc_score(rows.targets, rows.probabilities[:, 1]))
    assert found.p_value is None


def test_the_permutation_test_is_exact_on_few_subjects() -> None:
    """Six subjects that only the first has right: of 64 ways to swap them, two are as extreme."""
    people = [f"p{number}" for number in range(12)]
    targets = ["Healthy"] * 6 + ["Sick"] * 6
    right = np.array([[1.0, 0.0]] * 6 + [[0.0, 1.0]] * 6)
    wrong = right.copy()
    wrong[[0, 1, 2, 6, 7, 8]] = right[[0, 1, 2, 6, 7, 8]][:, ::-1]
    keywords = {"classes": TWO, "split_unit": "subject", "subjects": people, "targets": targets}
    one, other = (Predictions.from_logits(people, logits, **keywords) for logits in (right, wrong))
    assert compare(one, other, metric="accuracy", resamples=4000).p_value == pytest.approx(2 / 64, abs=0.012)


@pytest.mark.parametrize("metric", METRICS)
def test_swapping_the_classifiers_only_changes_the_sign(metric: str) -> None:
    first, second = pair()
    there, back = (
        compare(one, other, metric=metric, resamples=60) for one, other in ((first, second), (second, first))
    )
    assert there.estimate.value == pytest.approx(-back.estimate.value, abs=1e-12)
    assert there.p_value == back.p_value
    if there.estimate.low is not None:
        assert (there.estimate.low, there.estimate.high) == pytest.approx((-back.estimate.high, -back.estimate.low))


def test_the_p_value_holds_its_level_where_there_is_no_difference() -> None:
    """Of 40 pairs without a difference about 2 are below 0.05; more than 7 would come once in 500 times."""
    p_values = [
        compare(
            study((20, 20), classes=TWO, seed=seed), study((20, 20), classes=TWO, seed=1000 + seed), resamples=199
        ).p_value
        for seed in range(40)
    ]
    assert sum(value < 0.05 for value in p_values if value is not None) <= 7


def test_the_order_of_the_rows_does_not_matter() -> None:
    first, second = pair()
    shuffled = second.select(np.random.default_rng(0).permutation(len(second)))
    assert compare(first, second, resamples=30) == compare(first, shuffled, resamples=30)


def test_what_cannot_be_compared_is_refused() -> None:
    first, second = pair()
    with pytest.raises(DataError, match="not evaluated on the same"):
        compare(first, second.select(np.arange(60)))
    with pytest.raises(DataError, match="different questions"):
        compare(first, replace(second, split_unit="image"))
    with pytest.raises(DataError, match="classes differ"):
        compare(first, study((20, 20), classes=("A", "B")))
    with pytest.raises(UnknownNameError, match="macro_roc_auc"):
        compare(first, second, metric="auc")


def test_holm_on_a_worked_example() -> None:
    # The example of R's help page and of Wikipedia, "Holm-Bonferroni method": p = 0.01, 0.04, 0.03, 0.005.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
@settings(max_examples=40, deadline=None)
def test_holm_corrects_upwards_and_keeps_the_order(values: list[float]) -> None:
    adjusted = holm(values)
    assert all(one >= other for one, other in zip(adjusted, values, strict=True))
    assert all(one <= 1 for one in adjusted)
    order = np.argsort(values, kind="stable")
    assert (np.diff(np.array(adjusted)[order]) >= 0).all()


def test_holm_ignores_comparisons_without_a_test() -> None:
    assert holm([0.01, None, 0.04]) == (0.02, None, 0.04)
    assert holm([None]) == (None,)


def structural_components(cases: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """V10 and V01 by their definition in DeLong et al. 1988, equations 4 and 5."""
    wins = (cases[:, None] > others[None]) + 0.5 * (cases[:, None] == others[None])
    return wins.mean(axis=1), wins.mean(axis=0)


@pytest.mark.parametrize("ties", [False, True])
def test_delong_is_the_definition_of_the_paper(ties: bool) -> None:
    random = np.random.default_rng(0)
    targets = random.random(60) < 0.4
    scores = random.normal(size=(3, 60)) + targets
    scores = scores.round(0) if ties else scores
    found = delong(targets, scores)
    subsets = [structural_components(row[targets], row[~targets]) for row in scores]
    positive, negative = np.stack([v10 for v10, _ in subsets]), np.stack([v01 for _, v01 in subsets])
    np.testing.assert_allclose(
        found.covariance, np.cov(positive) / targets.sum() + np.cov(negative) / (~targets).sum(), atol=1e-12
    )
    np.testing.assert_allclose(found.values, [roc_auc_score(targets, row) for row in scores], atol=1e-12)


def test_delong_agrees_with_the_bootstrap_of_the_same_subjects() -> None:
    random = np.random.default_rng(1)
    targets = np.arange(300) < 120
    scores = random.normal(size=(2, 300)) + np.outer([1.0, 0.6], targets)
    found = delong(targets, scores)
    draws = []
    for _ in range(600):
        rows = random.integers(300, size=300)
        draws.append(roc_auc_score(targets[rows], scores[0][rows]) - roc_auc_score(targets[rows], scores[1][rows]))
    variance = found.covariance[0, 0] + found.covariance[1, 1] - 2 * found.covariance[0, 1]
    assert np.sqrt(variance) == pytest.approx(np.std(draws), rel=0.12)
    value, low, high = found.difference()
    assert value == pytest.approx(found.values[0] - found.values[1])
    assert (low, high) == pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=0.015)
    assert (found.p_value() < 0.05) == (low > 0 or high < 0)


def test_delong_of_one_ranking_twice_finds_no_difference() -> None:
    random = np.random.default_rng(2)
    targets, scores = np.arange(40) < 20, random.normal(size=40)
    found = delong(targets, np.stack([scores, 3 * scores + 1]))
    assert found.p_value() == 1.0
    low, high = found.interval()
    assert 0 <= low < found.values[0] < high <= 1


def test_delong_needs_two_of_each() -> None:
    with pytest.raises(DataError, match="got 1 and 3"):
        delong([True, False, False, False], [1.0, 0.2, 0.3, 0.1])


def test_delong_of_a_perfect_ranking_has_the_bound_of_an_area() -> None:
    found = delong(np.repeat([False, True], [9, 5]), np.arange(14.0))
    assert found.interval() == pytest.approx((0.025 ** (1 / 5), 1.0))
    assert delong(np.repeat([True, False], [9, 5]), np.arange(14.0)).interval() == pytest.approx((0, 1 - 0.025**0.2))


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "macro_f1", "macro_roc_auc"])
def test_two_perfect_classifiers_may_differ_on_other_subjects(metric: str) -> None:
    perfect, other = (study((9, 5), classes=TWO, skill=60, seed=seed) for seed in (0, 1))
    difference = compare(perfect, other, metric=metric, resamples=30).estimate
    assert difference.value == 0
    assert difference.low == -difference.high < 0
    assert difference.method == "bound"


def test_classifiers_that_are_right_on_the_same_subjects_differ_by_no_more_than_on_unseen_ones() -> None:
    first, _ = pair()
    difference = compare(first, first, metric="accuracy", resamples=30).estimate
    assert difference.high == -difference.low == pytest.approx(1 - 0.025 ** (1 / 40))


def test_a_class_of_one_subject_leaves_the_difference_wide() -> None:
    first, second = (study((20, 10, 6, 1), seed=seed) for seed in (0, 1))
    found = compare(first, second, metric="macro_roc_auc", resamples=100)
    assert found.estimate.method == "stratified"
    assert found.estimate.low < found.estimate.value < found.estimate.high
    assert found.estimate.high - found.estimate.low > 0.25
    swapped = compare(second, first, metric="macro_roc_auc", resamples=100).estimate
    assert (swapped.low, swapped.high) == pytest.approx((-found.estimate.high, -found.estimate.low), abs=0.1)


def test_mcnemar_on_the_example_of_fagerland_2013() -> None:
    # Table 1 of Fagerland, Lydersen and Laake 2013 (airway hyper-responsiveness, Bentur 2009): b = 1, c = 7, n = 21.
    first = np.r_[np.ones(1), np.zeros(7), np.ones(13)]
    second = np.r_[np.zeros(1), np.ones(7), np.ones(13)]
    found = mcnemar(first, second)
    assert (found.only_first, found.only_second) == (1, 7)
    assert found.exact == pytest.approx(0.0703, abs=5e-5)
    assert found.mid_p == pytest.approx(0.0391, abs=5e-5)


@given(st.integers(0, 30), st.integers(0, 30))
@settings(max_examples=40, deadline=None)
def test_mcnemar_is_the_binomial_test(only_first: int, only_second: int) -> None:
    first = np.r_[np.ones(only_first), np.zeros(only_second), np.ones(3)]
    second = np.r_[np.zeros(only_first), np.ones(only_second), np.ones(3)]
    found = mcnemar(first, second)
    total = only_first + only_second
    expected = stats.binomtest(only_first, total, 0.5).pvalue if total else 1.0
    assert found.exact == pytest.approx(expected)
    assert 0 < found.mid_p <= found.exact


def test_corrected_t_is_the_formula_and_wider_than_the_plain_test() -> None:
    differences = np.array([0.02, 0.05, -0.01, 0.04, 0.03, 0.06, 0.0, 0.03, 0.02, 0.04])
    found = corrected_resampled_t(differences, train_size=90, test_size=10)
    plain = stats.ttest_1samp(differences, 0)
    assert found.statistic == pytest.approx(plain.statistic * np.sqrt((1 / 10) / (1 / 10 + 1 / 9)))
    assert found.p_value == pytest.approx(2 * stats.t.sf(abs(found.statistic), 9))
    assert found.p_value > plain.pvalue
    assert corrected_resampled_t(differences, train_size=10**9, test_size=1).p_value == pytest.approx(plain.pvalue)
    with pytest.raises(DataError, match="at least two differences"):
        corrected_resampled_t([0.1], train_size=9, test_size=1)


def test_no_p_value_is_zero() -> None:
    cases = np.repeat([True, False], [4, 5])
    perfect_and_useless = delong(cases, [cases.astype(float), np.zeros(9)])
    assert perfect_and_useless.p_value() == pytest.approx(2 / 126)  # of the 126 ways to draw 4 of 9

    many = np.repeat([True, False], 5000)
    scores = np.random.default_rng(0).normal(size=(2, 10_000))
    assert 0 < delong(many, [scores[0] + 5 * many, scores[1]]).p_value() < 1e-15

    assert corrected_resampled_t([0.1] * 5, train_size=80, test_size=20).p_value == 1 / 16
    assert 0 < corrected_resampled_t(0.5 + 1e-9 * np.arange(60), train_size=80, test_size=20).p_value < 1e-15
