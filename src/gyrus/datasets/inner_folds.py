"""Folds within a subset, for choices that are made inside the training or the validation set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]

INNER_FOLDS = 5
"""Folds, at most; fewer where a class has fewer groups."""


def inner_folds(targets: Integers, groups: Sequence[object], seed: int) -> list[tuple[Integers, Integers]]:
    """Rows to fit on and rows held out of each fold; by group, stratified by class.

    Rows whose class the other folds lack are in no held-out part.

    Args:
        targets: The class of each row, (N,).
        groups: What must not be in two folds, such as the subject of each row, (N,).
        seed: Seed of the folds.
    """
    codes = np.unique(np.asarray([str(group) for group in groups]), return_inverse=True)[1]
    first = np.unique(codes, return_index=True)[1]
    classes = targets[first]
    folds = max(2, min(INNER_FOLDS, int(np.bincount(classes)[np.unique(classes)].min())))
    order = np.random.default_rng((seed, 0xC1A)).permutation(len(first))
    fold_of = np.empty(len(first), dtype=np.int64)
    # Dealing out the groups of the classes in turn balances both the classes and the sizes of the folds.
    fold_of[order[np.argsort(classes[order], kind="stable")]] = np.arange(len(first)) % folds
    found = []
    for fold in range(folds):
        held_out = fold_of[codes] == fold
        train = np.flatnonzero(~held_out)
        if len(np.unique(targets[train])) < 2:
            continue
        found.append((train, np.flatnonzero(held_out & np.isin(targets, targets[train]))))
    return found
