"""Fit classifiers without a network, by scikit-learn; what is chosen is chosen within the training set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from gyrus.datasets.inner_folds import inner_folds
from gyrus.models.linear_model import ABSENT_LOGIT, LinearModel
from gyrus.models.options import ClassicalOptions

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

C_VALUES = tuple(float(value) for value in 10.0 ** np.arange(-4, 3))
"""Values of C to choose from."""

MOST_ITERATIONS = 5000


def fit_logistic(
    features: Floats,
    targets: Integers,
    groups: Sequence[object],
    names: Sequence[str],
    options: ClassicalOptions,
    *,
    classes: int,
    seed: int,
) -> LinearModel:
    """Fit a multinomial logistic regression with an L2 penalty; the intercept is not penalised.

    With ``C: auto`` the C with the lowest log loss in a cross-validation of the training set by group is used, the
    smallest of equal ones.

    Args:
        features: Of the training subjects, (N, F).
        targets: Their class, (N,).
        groups: What must not be in two folds: the subject of each row, (N,).
        names: Names of the features, (F,).
        options: The options of the model.
        classes: The number of classes, some of which may be absent.
        seed: Seed of the folds.
    """
    chosen = options.C if options.C != "auto" else _best_c(features, targets, groups, options, seed)
    present, weights, intercept = _fit(features, targets, chosen, options)
    if len(present) == 2:
        # The difference of the two logits is that of scikit-learn; halves keep the sum of the weights 0.
        weights, intercept = (np.concatenate([-half, half]) for half in (weights / 2, intercept / 2))
    full = np.zeros((classes, features.shape[1]))
    level = np.full(classes, ABSENT_LOGIT)
    full[present], level[present] = weights, intercept
    return LinearModel(
        tuple(tuple(map(float, row)) for row in full), tuple(map(float, level)), tuple(names), float(chosen)
    )


def _fit(features: Floats, targets: Integers, c: float, options: ClassicalOptions) -> tuple[Integers, Floats, Floats]:
    """The classes that are present, their weights and intercepts; of two classes those of the second."""
    from sklearn.linear_model import LogisticRegression

    balanced = None if options.class_weight == "none" else options.class_weight
    model = LogisticRegression(C=c, class_weight=balanced, max_iter=MOST_ITERATIONS, tol=1e-8).fit(features, targets)
    return model.classes_, model.coef_, model.intercept_


def _best_c(
    features: Floats, targets: Integers, groups: Sequence[object], options: ClassicalOptions, seed: int
) -> float:
    losses = np.zeros(len(C_VALUES))
    for train, held_out in inner_folds(targets, groups, seed):
        for number, c in enumerate(C_VALUES):
            present, weights, intercept = _fit(features[train], targets[train], c, options)
            scores = features[held_out] @ weights.T + intercept
            scores = np.column_stack([np.zeros(len(scores)), scores]) if len(present) == 2 else scores
            logs = scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)
            known = np.searchsorted(present, targets[held_out])
            losses[number] -= logs[np.arange(len(logs)), known].sum()
    # Values that differ only by rounding are equal: the strongest penalty of the best is used.
    return C_VALUES[int(np.flatnonzero(losses <= losses.min() * (1 + 1e-9))[0])]
