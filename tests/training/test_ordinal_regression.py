"""Ordinal regression against scikit-learn, a plain formula, and known coefficients."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from gyrus.errors import DataError
from gyrus.evaluation.roc import concordance
from gyrus.synthetic.phantom import generate
from gyrus.training.ordinal_regression import fit_ordinal_regression
from tests.support.reference_values import SOURCES, reference, stage_inputs


def drawn(count: int, weights: np.ndarray, thresholds: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features, and stages of proportional odds."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(count, len(weights)))
    scores = features @ weights + random.logistic(size=count)
    return features, (scores[:, None] > thresholds).sum(axis=1)


def test_two_classes_are_the_logistic_regression_of_scikit_learn() -> None:
    features, targets = drawn(200, np.array([1.0, -2.0, 0.0]), np.array([0.5]))
    mine = fit_ordinal_regression(features, targets, 2, strength=0.3)
    other = LogisticRegression(C=0.3, tol=1e-10).fit(features, targets)
    np.testing.assert_allclose(mine.weights, other.coef_[0], atol=1e-4)
    np.testing.assert_allclose(mine.log_probabilities(features), other.predict_log_proba(features), atol=1e-4)


@SOURCES
def test_without_a_penalty_the_fit_is_that_of_statsmodels(source: str) -> None:
    features, targets = stage_inputs()
    mine, other = fit_ordinal_regression(features, targets, 4, strength=1e7), reference("statsmodels", source)
    np.testing.assert_allclose(mine.weights, other["weights"], atol=1e-3)
    np.testing.assert_allclose(mine.thresholds, other["thresholds"], atol=1e-3)
    np.testing.assert_allclose(mine.log_probabilities(features[:10]), other["log_probabilities"], atol=2e-3)


def test_the_fit_is_the_minimum_of_the_plain_formula() -> None:
    features, targets = drawn(120, np.array([1.5, -0.5]), np.array([-1.0, 0.0, 2.0]))

    def plain(parameters: np.ndarray) -> float:
        ends = np.concatenate([[-np.inf], parameters[2:], [np.inf]])
        scores = features @ parameters[:2]
        chances = [1 / (1 + np.exp(-(ends[targets + shift] - scores))) for shift in (1, 0)]
        return -2.0 * np.log(chances[0] - chances[1]).sum() + (parameters[:2] ** 2).sum() / 2

    mine = fit_ordinal_regression(features, targets, 4, strength=2.0)
    best = minimize(plain, np.array([0.0, 0.0, -1.0, 0.0, 1.0]), method="Nelder-Mead", options={"maxiter": 5000})
    assert plain(np.concatenate([mine.weights, mine.thresholds])) <= best.fun + 1e-4
    np.testing.assert_allclose(np.exp(mine.log_probabilities(features)).sum(axis=1), 1.0, atol=1e-9)


def test_known_coefficients_are_found() -> None:
    weights, thresholds = np.array([1.0, -2.0]), np.array([-1.0, 0.5, 1.5])
    mine = fit_ordinal_regression(*drawn(20_000, weights, thresholds), 4, strength=1e6)
    np.testing.assert_allclose(mine.weights, weights, atol=0.08)
    np.testing.assert_allclose(mine.thresholds, thresholds, atol=0.08)


def test_classes_that_do_not_occur_are_not_predicted() -> None:
    features, targets = drawn(90, np.array([2.0]), np.array([0.0, 1.0]))
    values = fit_ordinal_regression(features, np.array([0, 2, 3])[targets], 5).log_probabilities(features)
    assert (values[:, [1, 4]] == -100).all()
    assert set(values.argmax(axis=1)) <= {0, 2, 3}
    with pytest.raises(DataError, match="two classes"):
        fit_ordinal_regression(features, np.zeros(90, int), 3)


def test_the_stages_of_phantom_heads_are_found_and_shuffled_ones_are_not() -> None:
    phantom = generate(subjects=64, slices=2, classes=4, size=32, seed=0)
    pixels = phantom.volumes.reshape(64, -1) / 255.0
    train, test = np.arange(64) < 40, np.arange(64) >= 40

    def found(labels: np.ndarray) -> float:
        model = fit_ordinal_regression(pixels[train], labels[train], 4, strength=0.01)
        stages = np.exp(model.log_probabilities(pixels[test])) @ np.arange(4)
        return concordance(phantom.labels[test], stages, 4)

    assert found(phantom.labels) > 0.85
    assert found(np.random.default_rng(0).permutation(phantom.labels)) < 0.7
