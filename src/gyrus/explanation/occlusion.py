"""Occlusion and deletion with arrays alone, for any function from images to scores; without PyTorch.

What other methods share with them is here too: the width of squares and of the blur, random maps, and the order in
which the pixels of a map are changed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import islice, product

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Scores = Callable[[NDArray[np.float32]], NDArray[np.float64]]
"""From images (B, C, *spatial) to the score (B,) of a class."""

BLUR_WIDTH = 1 / 10
"""Standard deviation of the blur as a fraction of the image: removes the content without adding edges."""

STEPS = 16
"""Steps of a deletion curve."""

_RANDOM_WIDTH = 1 / 12
"""Standard deviation of the smoothing of a random map, as a fraction of the image; about that of a class activation
map."""


def occluding_window(spatial: Sequence[int], fraction: float | None = None) -> tuple[int, ...]:
    """Pixels of the occluding square along each axis.

    Args:
        spatial: Pixels of the image.
        fraction: Of the image; by default 1/8, and 1/5 in volumes.
    """
    fraction = fraction or (1 / 8 if len(spatial) == 2 else 1 / 5)
    return tuple(min(length, max(2, round(fraction * length))) for length in spatial)


def occluding_step(window: Sequence[int], stride: float) -> tuple[int, ...]:
    """Pixels from one square to the next along each axis; ``stride`` is a fraction of the square."""
    return tuple(max(1, round(stride * width)) for width in window)


def occlusion_passes(spatial: Sequence[int], window: Sequence[int], step: Sequence[int]) -> int:
    """Passes of the network for one map: one per square, and one of the whole image."""
    return 1 + math.prod(len(starts) for starts in _starts(spatial, window, step))


def blurred(image: np.ndarray) -> NDArray[np.float32]:
    """An image (C, *spatial) with its content erased."""
    widths = [0.0, *(BLUR_WIDTH * length for length in image.shape[1:])]
    return np.asarray(ndimage.gaussian_filter(np.asarray(image, np.float32), widths, mode="nearest"))


def occlusion_map(
    scores: Scores, image: np.ndarray, window: Sequence[int], step: Sequence[int], batch: int
) -> NDArray[np.float32]:
    """Decrease of the class score when a square is blurred, averaged over the squares that cover a pixel.

    Zeiler and Fergus 2014, https://arxiv.org/abs/1311.2901; the same values as
    :func:`gyrus.explanation.perturbation_methods.occlusion`, without PyTorch.

    Args:
        scores: The network and its class.
        image: float32 (C, *spatial), normalised.
        window: From :func:`occluding_window`.
        step: From :func:`occluding_step`.
        batch: Images per pass.

    Returns:
        float32 (*spatial); negative values are evidence against the class.
    """
    erased, spatial = blurred(image), image.shape[1:]
    whole = float(scores(image[None])[0])
    total, covered = np.zeros(spatial), np.zeros(spatial)
    squares = _squares(spatial, window, step)
    while some := list(islice(squares, batch)):
        images = np.repeat(image[None], len(some), axis=0)
        for number, square in enumerate(some):
            images[number][(slice(None), *square)] = erased[(slice(None), *square)]
        for square, score in zip(some, scores(images).tolist(), strict=True):
            total[square] += whole - score
            covered[square] += 1
    return np.asarray(total / np.maximum(covered, 1), np.float32)


def deletion_curve(
    probabilities: Scores,
    image: np.ndarray,
    heat: np.ndarray,
    batch: int,
    steps: int = STEPS,
    seed: int = 0,
    erased: np.ndarray | None = None,
) -> np.ndarray:
    """The class probability while pixels are blurred in the order of a map, the hottest first.

    Petsiuk et al. 2018, https://arxiv.org/abs/1806.07421; one curve of
    :func:`gyrus.explanation.deletion_insertion.deletion_insertion`, without PyTorch.

    Args:
        probabilities: The network and its class.
        image: float32 (C, *spatial), normalised.
        heat: (*spatial); pixels of equal heat are in random order.
        batch: Images per pass.
        steps: How often some more pixels are blurred.
        seed: Seed of that order.
        erased: From :func:`blurred`, where it is known already.

    Returns:
        (steps + 1,); the fractions of blurred pixels are evenly spaced from 0 to 1.
    """
    ranks, erased = deletion_order(heat, seed), blurred(image) if erased is None else erased
    fractions = iter(np.linspace(0, 1, steps + 1).tolist())
    found: list[np.ndarray] = []
    while some := list(islice(fractions, batch)):
        found.append(probabilities(np.stack([np.where(ranks < fraction, erased, image) for fraction in some])))
    return np.concatenate(found)


def random_maps(count: int, spatial: Sequence[int], seed: int) -> NDArray[np.float32]:
    """Smooth random maps, (count, *spatial)."""
    return np.stack(list(islice(each_random_map(spatial, seed), count)))


def each_random_map(spatial: Sequence[int], seed: int) -> Iterator[NDArray[np.float32]]:
    """The maps of :func:`random_maps` one by one, without an end."""
    generator = np.random.default_rng(seed)
    widths = [_RANDOM_WIDTH * length for length in spatial]
    while True:
        yield ndimage.gaussian_filter(generator.normal(size=tuple(spatial)), widths).astype(np.float32)


def deletion_order(heat: np.ndarray, seed: int) -> NDArray[np.float64]:
    """The rank of each pixel from the hottest to the coldest, as a fraction in [0, 1)."""
    ties = np.random.default_rng(seed).permutation(heat.size)
    ranks = np.empty(heat.size)
    ranks[np.lexsort((ties, -heat.ravel()))] = np.arange(heat.size) / heat.size
    return ranks.reshape(heat.shape)


def _squares(spatial: Sequence[int], window: Sequence[int], step: Sequence[int]) -> Iterator[tuple[slice, ...]]:
    for corner in product(*_starts(spatial, window, step)):
        yield tuple(slice(at, at + width) for at, width in zip(corner, window, strict=True))


def _starts(spatial: Sequence[int], window: Sequence[int], step: Sequence[int]) -> Iterator[range]:
    """The first pixels of the squares along each axis; the last square ends at the edge or is cut by it."""
    for length, width, stride in zip(spatial, window, step, strict=True):
        count = -(-(length - width) // stride) + 1
        yield range(0, count * stride, stride)
