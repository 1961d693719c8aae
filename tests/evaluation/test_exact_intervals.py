"""Intervals of scores that are the same in every resample: against SciPy, by search, by the worst populations."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, stats

from gyrus.evaluation.bootstrap import BootstrapConfig, estimate_mean
from gyrus.evaluation.exact_intervals import (
    area_limits,
    average_precision_limits,
    bounded_mean,
    exact_fraction,
    mean_limits,
    smallest_probability,
)


@pytest.mark.parametrize("number", [1, 8, 100])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_fractions_of_0_and_1_are_those_of_scipy(number: int, level: float) -> None:
    for value in (0.0, 1.0):
        expected = stats.binomtest(round(value * number), number).proportion_ci(level, method="exact")
        found = exact_fraction(value, number, level)
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
        assert mean_limits([value], [number], level) == pytest.approx((expected.low, expected.high))
        bounded = bounded_mean(value, number, level, 0.0, 1.0)
        assert (bounded.low, bounded.high) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize("numbers", [(20, 20, 20), (30, 12, 2), (1, 1), (50, 1, 1, 7)])
def test_no_plausible_fractions_have_a_mean_beyond_the_limit(numbers: tuple[int, ...]) -> None:
    low, high = mean_limits([1.0] * len(numbers), numbers, 0.95)
    assert high == 1
    random = np.random.default_rng(0)
    shares = random.dirichlet(np.full(len(numbers), 0.3), size=20_000)  # of the logarithm of the probability
    means = (0.025 ** (shares / np.array(numbers))).mean(axis=1)
    assert low - 1e-9 <= means.min() < low + 0.02
    complement = mean_limits([0.0] * len(numbers), numbers, 0.95)
    assert complement == pytest.approx((0, 1 - low))


def test_a_fraction_of_which_nothing_is_known_may_be_anything() -> None:
    low, high = mean_limits([1.0, 0.0], [20, 0], 0.95)
    assert (low, high) == pytest.approx((smallest_probability(20, 0.95) / 2, 1.0))


@pytest.mark.parametrize(("positives", "others"), [(5, 9), (9, 5), (1, 30)])
def test_the_limit_of_an_area_is_reached_by_the_worst_population(positives: int, others: int) -> None:
    low, high = area_limits(1.0, positives, others, 0.95)
    smaller = min(positives, others)
    missed = 1 - low  # this fraction of the smaller group is ranked wrongly against all of the larger one
    assert (1 - missed) ** smaller == pytest.approx(0.025)
    assert high == 1
    assert area_limits(0.0, positives, others, 0.95) == pytest.approx((0, 1 - low))


@pytest.mark.parametrize(("positives", "others"), [(5, 9), (20, 20), (1, 30), (40, 4)])
def test_populations_in_which_perfect_ranking_is_plausible_have_no_lower_average_precision(
    positives: int, others: int
) -> None:
    low, high = average_precision_limits(positives, others, 0.95)
    prevalence = positives / (positives + others)
    alarms = 1 - 0.025 ** (1 / others)  # others above all positives
    above = integrate.quad(lambda u: prevalence * u / (prevalence * u + (1 - prevalence) * alarms), 0, 1)[0]
    missed = 1 - 0.025 ** (1 / positives)  # positives below all others
    below = (1 - missed) + integrate.quad(lambda u: prevalence * u / (prevalence * u + 1 - prevalence), 1 - missed, 1)[
        0
    ]
    assert 0 < low <= min(above, below)
    assert high == 1


def test_a_mean_of_equal_values_lies_between_its_bounds() -> None:
    found = estimate_mean(np.ones(12), np.repeat(np.arange(4), 3), BootstrapConfig(50), (0, 3))
    same = 0.025 ** (1 / 4)
    assert (found.value, found.low, found.high) == pytest.approx((1, same, same + 3 * (1 - same)))
    assert found.method == "bound"
    assert estimate_mean(np.ones(12), np.arange(12), BootstrapConfig(0), (0, 3)).low is None
