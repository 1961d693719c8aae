"""The order of the training set in an epoch, as a function of seed and epoch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gyrus.training.random_state import generator

Sampler = Callable[[np.ndarray, int, int], np.ndarray]
"""From targets int64 (N,), seed and epoch to positions int64 (N,)."""


def shuffle(targets: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """Every image once, in random order."""
    return generator(seed, "order", epoch).permutation(len(targets))


def balanced(targets: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """As many draws as images, with replacement and all classes equally likely: weight 1 / count(class)."""
    weights = 1 / np.bincount(targets)[targets]
    return generator(seed, "order", epoch).choice(len(targets), len(targets), p=weights / weights.sum())


SAMPLERS: dict[str, Sampler] = {"shuffle": shuffle, "balanced": balanced}


def batches(order: np.ndarray, batch_size: int) -> list[list[int]]:
    """Divide an order into batches.

    A last batch of one image is merged with the previous batch, because batch normalisation needs two images.
    """
    result = [order[start : start + batch_size].tolist() for start in range(0, len(order), batch_size)]
    if len(result) > 1 and len(result[-1]) == 1 and batch_size > 1:
        single = result.pop()
        result[-1] += single
    return result
