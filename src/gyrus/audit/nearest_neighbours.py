"""The most similar images: nearest neighbours among thumbnails and their mirror images.

Shared anatomy makes any two slices at the same height similar. The search therefore works on whitened principal
components, which give little weight to what many images have in common and much weight to what distinguishes subjects.
Very small sets are too few to estimate components and are searched by plain correlation.

Large sets are divided into cells around centres (an inverted file: Jegou et al. 2011, "Product quantization for nearest
neighbor search"), and an image is compared with the nearest cells only. Time and memory then grow with the number of
images and not with its square.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

COUNT = 8
"""Number of neighbours of each image."""

COMPONENTS = 256
"""Largest number of principal components."""

IMAGES_PER_COMPONENT = 3
"""Images per component. With fewer components, subjects whose slices lie far apart are missed; with as many components
as images, all images are equally dissimilar."""

SMALLEST_WHITENED = 96
"""Smallest number of images for whitening; fewer are compared by correlation."""

FITTED_ON = 4_000
"""Images from which the components are estimated, chosen at random in larger sets."""

EXACT_LIMIT = 25_000
"""Largest number of images that are all compared with each other."""

CELL = 256
"""Images per cell in larger sets."""

PROBED = 16
"""Cells that an image is compared with."""

PARTITIONS = 3
"""Number of partitions of a large set: images in different cells of one partition may share a cell of another."""

BLOCK = 1_024
"""Images that are processed at a time."""


@dataclass(frozen=True)
class Neighbours:
    """The nearest neighbours of each image.

    Attributes:
        index: Row of each neighbour, int64 (N, k).
        similarity: Cosine of the vectors, float32 (N, k), the most similar first.
        correlation: Pearson correlation of the thumbnails, float32 (N, k).
        mirrored: Whether the image was mirrored left to right for this similarity, (N, k).
        vectors: Whitened thumbnails (N, components), or standardised ones in small sets; rows of length 1.
    """

    index: NDArray[np.int64]
    similarity: Floats
    correlation: Floats
    mirrored: NDArray[np.bool_]
    vectors: Floats


def find_neighbours(thumbnails: NDArray[np.uint8], *, count: int = COUNT, seed: int = 0) -> Neighbours:
    """The nearest neighbours of each image among all others and their mirror images.

    Args:
        thumbnails: (N, rows, columns), N at least 2.
        count: Number of neighbours.
        seed: Seed of the choice of images from which components and cells are estimated.
    """
    count = min(count, len(thumbnails) - 1)
    project = _Whitening(thumbnails, seed) if len(thumbnails) >= SMALLEST_WHITENED else standardise
    vectors, mirrors = project(thumbnails), project(thumbnails[:, :, ::-1])
    found = [
        search(queries, vectors, count, seed=seed + partition)
        for queries in (vectors, mirrors)
        for partition in range(PARTITIONS if len(vectors) > EXACT_LIMIT else 1)
    ]
    index = np.concatenate([rows for rows, _ in found], axis=1)
    similarity = np.concatenate([values for _, values in found], axis=1)
    mirrored = np.broadcast_to(np.arange(index.shape[1]) >= index.shape[1] // 2, index.shape)
    return _merge(index, similarity, mirrored, thumbnails, vectors, count)


def standardise(thumbnails: NDArray[Any]) -> Floats:
    """Images as rows of mean 0 and length 1, so that a scalar product is their correlation."""
    rows = thumbnails.reshape(len(thumbnails), -1).astype(np.float32)
    rows -= rows.mean(axis=1, keepdims=True)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)
    return rows


class _Whitening:
    """Projection to whitened principal components, fitted on images and their mirror images."""

    def __init__(self, thumbnails: NDArray[np.uint8], seed: int) -> None:
        from sklearn.utils.extmath import randomized_svd

        size = len(thumbnails)
        chosen = np.sort(np.random.default_rng(seed).choice(size, min(size, FITTED_ON), replace=False))
        turned = thumbnails[chosen].copy()
        turned[1::2] = turned[1::2, :, ::-1]
        rows = standardise(turned)
        self._mean = rows.mean(axis=0)
        rows -= self._mean
        kept = min(COMPONENTS, size // IMAGES_PER_COMPONENT)
        _, scale, basis = randomized_svd(rows, kept, n_iter=3, random_state=seed)
        self._basis = (basis / np.maximum(scale, max(scale[0] * 1e-3, 1e-6))[:, None]).T.astype(np.float32)

    def __call__(self, thumbnails: NDArray[np.uint8]) -> Floats:
        result = np.empty((len(thumbnails), self._basis.shape[1]), np.float32)
        for start in range(0, len(thumbnails), BLOCK):
            block = slice(start, start + BLOCK)
            result[block] = (standardise(thumbnails[block]) - self._mean) @ self._basis
        result /= np.maximum(np.linalg.norm(result, axis=1, keepdims=True), 1e-9)
        return result


def search(queries: Floats, vectors: Floats, count: int, *, seed: int) -> tuple[NDArray[np.int64], Floats]:
    """The nearest vectors of each query, except its own row; approximate in large sets.

    Args:
        queries: (N, D), in the order of ``vectors``, of length 1.
        vectors: (N, D).
        count: Number of neighbours.
        seed: Seed of the cells.

    Returns:
        Rows (N, count), not sorted, and their scalar products.
    """
    cells = _Cells(vectors, seed)
    index = np.zeros((len(vectors), count), np.int64)
    similarity = np.full((len(vectors), count), -2, np.float32)
    for rows, candidates in cells.pairs(queries):
        index[rows], similarity[rows] = _best(queries[rows], vectors[candidates], count, rows, candidates)
    return index, similarity


class _Cells:
    """Which images are compared with which."""

    def __init__(self, vectors: Floats, seed: int) -> None:
        self._size = len(vectors)
        self._centres: Floats | None = None
        if self._size > EXACT_LIMIT:
            self._centres = _centres(vectors, seed)
            self._members = _grouped(_nearest_centre(vectors, self._centres), len(self._centres))
            self._probed = np.argsort(-(self._centres @ self._centres.T), axis=1)[:, :PROBED]

    def pairs(self, queries: Floats) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Rows of queries, and the rows of all images that they are compared with."""
        if self._centres is None:
            for start in range(0, self._size, BLOCK):
                yield np.arange(start, min(start + BLOCK, self._size)), np.arange(self._size)
            return
        for cell, rows in enumerate(_grouped(_nearest_centre(queries, self._centres), len(self._centres))):
            candidates = np.concatenate([self._members[probed] for probed in self._probed[cell]])
            for start in range(0, len(rows), BLOCK):
                yield rows[start : start + BLOCK], candidates


def _centres(vectors: Floats, seed: int) -> Floats:
    """Centres of cells: a few rounds of spherical k-means on some of the images."""
    generator = np.random.default_rng(seed)
    number = len(vectors) // CELL
    sample = vectors[generator.choice(len(vectors), min(len(vectors), 32 * number), replace=False)]
    centres = sample[:number].copy()
    for _ in range(5):
        for cell, rows in enumerate(_grouped(_nearest_centre(sample, centres), number)):
            if len(rows):
                centres[cell] = sample[rows].mean(axis=0)
        centres /= np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), 1e-9)
    return centres


def _nearest_centre(vectors: Floats, centres: Floats) -> NDArray[np.int64]:
    blocks = (vectors[start : start + 8 * BLOCK] for start in range(0, len(vectors), 8 * BLOCK))
    return np.concatenate([np.argmax(block @ centres.T, axis=1) for block in blocks])


def _grouped(numbers: NDArray[np.int64], count: int) -> list[NDArray[np.int64]]:
    """The rows that have each number."""
    order = np.argsort(numbers, kind="stable")
    return np.split(order, np.searchsorted(numbers[order], np.arange(1, count)))


def _best(
    queries: Floats, vectors: Floats, count: int, rows: NDArray[np.int64], candidates: NDArray[np.int64]
) -> tuple[NDArray[np.int64], Floats]:
    similarity = queries @ vectors.T
    similarity[rows[:, None] == candidates[None]] = -2
    if len(candidates) <= count:
        missing = count + 1 - len(candidates)
        similarity = np.pad(similarity, ((0, 0), (0, missing)), constant_values=-2)
        candidates = np.pad(candidates, (0, missing))
    best = np.argpartition(-similarity, count - 1, axis=1)[:, :count]
    return candidates[best], np.take_along_axis(similarity, best, axis=1)


def _merge(
    index: NDArray[np.int64],
    similarity: Floats,
    mirrored: NDArray[np.bool_],
    thumbnails: NDArray[np.uint8],
    vectors: Floats,
    count: int,
) -> Neighbours:
    """The best of the unchanged and the mirrored neighbours, each neighbour once."""
    order = np.argsort(-similarity, axis=1, kind="stable")
    ranked = np.take_along_axis(index, order, axis=1)
    again = np.zeros(index.shape, bool)
    for column in range(1, index.shape[1]):
        again[:, column] = (ranked[:, :column] == ranked[:, column : column + 1]).any(axis=1)
    order = np.take_along_axis(order, np.argsort(again, axis=1, kind="stable"), axis=1)[:, :count]
    index = np.take_along_axis(index, order, axis=1)
    similarity = np.take_along_axis(similarity, order, axis=1)
    mirrored = np.take_along_axis(mirrored, order, axis=1)
    return Neighbours(index, similarity, _correlation(thumbnails, index, mirrored), mirrored, vectors)


def _correlation(thumbnails: NDArray[np.uint8], index: NDArray[np.int64], mirrored: NDArray[np.bool_]) -> Floats:
    result = np.empty(index.shape, np.float32)
    for start in range(0, len(index), BLOCK):
        block = slice(start, start + BLOCK)
        plain = standardise(thumbnails[block])
        turned = standardise(thumbnails[block, :, ::-1])
        for column in range(index.shape[1]):
            own = np.where(mirrored[block, column, None], turned, plain)
            result[block, column] = np.einsum("ij,ij->i", own, standardise(thumbnails[index[block, column]]))
    return result
