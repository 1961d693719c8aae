"""Metrics of numbers against scikit-learn and SciPy, also of weighted resamples."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from gyrus.evaluation.number_metrics import NUMBER_METRICS, NumberSums, number_values


def reference(targets: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    return {
        "mae": mean_absolute_error(targets, predicted),
        "rmse": root_mean_squared_error(targets, predicted),
        "bias": float((predicted - targets).mean()),
        "r2": r2_score(targets, predicted),
        "pearson": stats.pearsonr(targets, predicted)[0],
        "spearman": stats.spearmanr(targets, predicted)[0],
    }


@pytest.mark.parametrize("seed", range(3))
def test_metrics_of_samples_and_of_resamples_are_those_of_other_libraries(seed: int) -> None:
    random = np.random.default_rng(seed)
    targets = random.normal(1000, 10, 40).round(seed)  # far from 0, with ties where rounded
    predicted = (targets + random.normal(0, 5, 40)).round(seed)
    clusters = np.arange(40) // 2
    counts = np.column_stack([np.ones(20), random.multinomial(20, np.full(20, 0.05))]).astype(float)
    values = number_values(targets, predicted, clusters, counts)
    for column in range(2):
        rows = np.repeat(np.arange(40), counts[clusters, column].astype(int))
        expected = reference(targets[rows], predicted[rows])
        assert set(values) == set(expected) == set(NUMBER_METRICS)
        for name, value in expected.items():
            assert values[name][column] == pytest.approx(value, abs=1e-8), name


def test_undefined_metrics_are_nan_and_the_trend_of_errors_is_a_slope() -> None:
    same = number_values(np.full(4, 5.0), np.arange(4.0), np.arange(4), np.ones((4, 1)))
    assert [name for name, value in same.items() if np.isnan(value[0])] == ["r2", "pearson", "spearman"]
    constant = number_values(np.arange(4.0), np.full(4, 1.5), np.arange(4), np.ones((4, 1)))
    assert constant["r2"][0] == pytest.approx(0)
    assert np.isnan(constant["pearson"][0])
    truth = np.linspace(20, 90, 30)
    assert NumberSums.of(truth, 50 + 0.4 * (truth - 50)).error_slope() == pytest.approx(-0.6)
