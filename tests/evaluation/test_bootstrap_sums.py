"""Intervals of sums."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from gyrus.evaluation.intervals import IntervalNotes, draw_counts
from gyrus.evaluation.sampling import BootstrapConfig, divide, estimate_all, estimate_mean, estimate_share

WORDS = IntervalNotes("nobody", "few")


def test_resamples_equal_a_plain_loop_over_rows() -> None:
    random = np.random.default_rng(0)
    clusters = np.repeat(np.arange(12), random.integers(1, 6, size=12))
    rows = random.random((len(clusters), 2))
    sampling = BootstrapConfig(resamples=70, seed=3, level=0.9)

    def statistic(sums: np.ndarray) -> np.ndarray:
        return np.stack([sums[..., 0] / sums[..., 1], sums[..., 0] - sums[..., 1]], axis=-1)

    found = estimate_all(rows, clusters, statistic, sampling, WORDS)
    counts = draw_counts(12, range(70), 3)
    loop = []
    for column in counts.T:
        drawn = np.concatenate([np.tile(rows[clusters == one], (int(n), 1)) for one, n in enumerate(column) if n])
        loop.append(statistic(drawn.sum(axis=0)))
    ends = np.quantile(loop, [0.05, 0.95], axis=0).T
    for estimate, (low, high) in zip(found, ends, strict=True):
        assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=1e-12)


def test_the_interval_of_a_mean_is_that_of_theory() -> None:
    values = np.random.default_rng(1).normal(size=400)
    found = estimate_mean(values, np.arange(400), BootstrapConfig())
    half = stats.sem(values) * stats.norm.ppf(0.975)
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.02)


@pytest.mark.parametrize(("hits", "value"), [(np.ones(30), 1.0), (np.zeros(30), 0.0)])
def test_none_or_all_has_the_exact_interval_of_the_number_of_subjects(hits: np.ndarray, value: float) -> None:
    clusters = np.repeat(np.arange(10), 3)
    among = clusters < 8
    found = estimate_share(hits, among, clusters, BootstrapConfig(level=0.9), WORDS)
    exact = stats.binomtest(8 * int(value), 8).proportion_ci(0.9, method="exact")
    assert (found.value, found.low, found.high) == pytest.approx((value, exact.low, exact.high))


def test_a_share_of_nobody_is_words() -> None:
    found = estimate_share(np.ones(4), np.zeros(4), np.arange(4), BootstrapConfig(), WORDS)
    assert (found.value, found.note) == (None, "nobody")
    assert np.isnan(divide([0.0], [0.0]))[0]
