"""Fit the weights of late fusion on the answers of subjects that neither classifier was trained on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import scipy  # loads its submodules on first use

from gyrus.datasets.inner_folds import inner_folds
from gyrus.inference.late_fusion import Stack, log_probabilities

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

START = 0.5
"""Weight of each classifier before any data: the geometric mean of both."""

PRIOR_SPREAD = 1.0
"""Standard deviation of the normal prior of the weights and offsets, which keeps them finite for few subjects."""


def fit_stack(image: Floats, table: Floats, targets: Integers) -> Stack:
    """Fit the weights by maximum posterior likelihood; a classifier that does not help gets the weight 0.

    Weights are not negative (Breiman 1996, Stacked regressions).

    Args:
        image: Logits of the network, (N, K), one row per subject of the validation set.
        table: Logits of the classifier on the table, (N, K), for the same subjects.
        targets: Their class, (N,).
    """
    first, second = log_probabilities(image), log_probabilities(table)
    classes = image.shape[1]
    outcomes = np.eye(classes)[targets]
    start = np.concatenate([[START, START], np.zeros(classes)])

    def loss(values: Floats) -> tuple[float, Floats]:
        scores = values[0] * first + values[1] * second + values[2:]
        logs = scores - scipy.special.logsumexp(scores, axis=1, keepdims=True)
        gap = np.exp(logs) - outcomes
        away = (values - start) / PRIOR_SPREAD
        slope = np.concatenate([[(gap * first).sum(), (gap * second).sum()], gap.sum(axis=0)])
        return float(-(logs * outcomes).sum() + 0.5 * away @ away), slope + away / PRIOR_SPREAD

    bounds = [(0.0, None), (0.0, None), *[(None, None)] * classes]
    found = scipy.optimize.minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"gtol": 1e-8})
    return Stack(float(found.x[0]), float(found.x[1]), tuple(map(float, found.x[2:])))


def cross_fitted(image: Floats, table: Floats, targets: Integers, groups: Sequence[object], *, seed: int) -> Floats:
    """Logits (N, K) of both, each from weights fitted without the group of the row.

    With weights fitted on all rows, calibration and thresholds that are chosen on the same rows would look better than
    they are.
    """
    together = np.full(image.shape, np.nan)
    for rest, held_out in inner_folds(targets, groups, seed):
        stack = fit_stack(image[rest], table[rest], targets[rest])
        together[held_out] = stack.combine(image[held_out], table[held_out])
    left = np.isnan(together).any(axis=1)
    if left.any():
        together[left] = fit_stack(image, table, targets).combine(image[left], table[left])
    return together
