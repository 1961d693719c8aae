"""Each test against a published example or another implementation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from gyrus.errors import DataError
from gyrus.evaluation.significance import corrected_resampled_t, delong, mcnemar


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
