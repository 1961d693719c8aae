"""Ordinal regression without a network: proportional odds on a table of features, with a ridge penalty."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy  # loads its submodules on first use

from gyrus.errors import DataError

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class OrdinalRegression:
    """A fitted model: ``P(class <= k) = sigmoid(threshold_k - features @ weights)`` (McCullagh 1980).

    Attributes:
        weights: Shape (F,).
        thresholds: Rising, one between each two neighbouring classes that occur, shape (P - 1,).
        present: The classes that occur, rising, shape (P,).
        classes: The number of classes K.
    """

    weights: Floats
    thresholds: Floats
    present: npt.NDArray[np.int64]
    classes: int

    def log_probabilities(self, features: npt.ArrayLike) -> Floats:
        """The logarithms of the probabilities of the classes (N, K); -100 for classes that do not occur."""
        distances = self.thresholds - (np.asarray(features, np.float64) @ self.weights)[:, None]
        found = np.zeros((len(distances), len(self.present)))
        found[:, :-1] += scipy.special.log_expit(distances)
        found[:, 1:] += scipy.special.log_expit(-distances)
        found[:, 1:-1] += np.log(-np.expm1(-np.diff(self.thresholds)))
        values = np.full((len(found), self.classes), -100.0)
        values[:, self.present] = np.maximum(found, -100.0)
        return values


def fit_ordinal_regression(
    features: npt.ArrayLike, targets: npt.ArrayLike, classes: int, *, strength: float = 1.0
) -> OrdinalRegression:
    """Fit by maximum likelihood with a ridge penalty on the weights, not on the thresholds.

    Args:
        features: Shape (N, F), on comparable scales.
        targets: The class of each row, in [0, classes), shape (N,).
        classes: The number of classes K.
        strength: The inverse of the penalty, as C of scikit-learn: minimises ``C * sum of losses + weights**2 / 2``.

    Raises:
        DataError: Fewer than two classes occur.
    """
    rows = np.asarray(features, np.float64)
    present, stages = np.unique(np.asarray(targets, np.int64), return_inverse=True)
    if len(present) < 2:
        raise DataError(f"An ordinal regression needs rows of two classes or more, got {len(present)}.")
    width, cuts = rows.shape[1], len(present) - 1
    has_upper, has_lower = stages < cuts, stages > 0

    def loss(parameters: Floats) -> tuple[float, Floats]:
        weights, first, steps = parameters[:width], parameters[width], np.exp(parameters[width + 1 :])
        thresholds = first + np.concatenate([[0.0], steps.cumsum()])
        scores = rows @ weights
        upper = np.where(has_upper, thresholds[np.minimum(stages, cuts - 1)] - scores, np.inf)
        lower = np.where(has_lower, scores - thresholds[np.maximum(stages - 1, 0)], np.inf)
        inner = np.bincount(stages, minlength=cuts + 1)[1:-1]  # rows between two thresholds, for each step
        total = -scipy.special.log_expit(upper).sum() - scipy.special.log_expit(lower).sum()
        total -= inner @ np.log(-np.expm1(-steps))
        above, below = scipy.special.expit(-upper), scipy.special.expit(-lower)
        of_thresholds = np.bincount(np.maximum(stages - 1, 0), below, cuts)
        of_thresholds -= np.bincount(np.minimum(stages, cuts - 1), above, cuts)
        of_steps = (of_thresholds[::-1].cumsum()[::-1][1:] - inner / np.expm1(steps)) * steps
        gradient = np.concatenate([rows.T @ (above - below), [of_thresholds.sum()], of_steps])
        gradient[:width] = strength * gradient[:width] + weights
        gradient[width:] *= strength
        return float(strength * total + weights @ weights / 2), gradient

    shares = np.bincount(stages).cumsum()[:-1] / len(stages)
    start = scipy.special.logit(shares)
    begin = np.concatenate([np.zeros(width), start[:1], np.log(np.diff(start))])
    found = scipy.optimize.minimize(loss, begin, jac=True, method="L-BFGS-B", options={"maxiter": 2000})
    thresholds = found.x[width] + np.concatenate([[0.0], np.exp(found.x[width + 1 :]).cumsum()])
    return OrdinalRegression(found.x[:width], thresholds, present, classes)
