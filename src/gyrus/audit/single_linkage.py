"""Single linkage on a graph of nearest neighbours, and the threshold at which the groups are stable.

The most similar images are linked first, then the next, until all images are in one group. Natural groups, such as the
slices of a subject, show as a range of thresholds over which nothing changes: all links within groups have been made,
and none between them. This range is a plateau in the *effective number of groups*, the inverse of the probability that
two images drawn at random are in the same group (the inverse Simpson index; Hill 1973, "Diversity and evenness"). It
weights groups by their size, so that a few single images do not hide the plateau.

Without natural groups, one large group absorbs the rest, and there is no plateau.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

TOLERANCE = 1.1
"""Factor by which the effective number of groups may change within a plateau."""

SMALLEST_GROUP = 1.9
"""Smallest number of images per effective group: single images are not groups."""

FEWEST_GROUPS = 1.8
"""Smallest effective number of groups: one group of all images is not a grouping."""

SMALLEST_CHAIN = 5
"""Smallest number of images in a group whose shape is considered."""

REPRESENTATIVES = 16
"""Images of each group that are compared with other groups where the graph is not connected."""

_SMALLEST = 1e-7


@dataclass(frozen=True)
class Dendrogram:
    """The links of single linkage, the most similar first.

    Attributes:
        first: Row of one image of each link, int64 (M,).
        second: Row of the other.
        similarity: Their similarity, float64 (M,), decreasing.
        effective: Effective number of groups after each link, float64 (M,).
        count: Number of images.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    similarity: NDArray[np.float64]
    effective: NDArray[np.float64]
    count: int

    def groups(self, threshold: float) -> NDArray[np.int64]:
        """The group of each image (N,) if images at least as similar as ``threshold`` are linked."""
        linked = self.similarity >= threshold
        return connected_groups(self.first[linked], self.second[linked], self.count)


@dataclass(frozen=True)
class StableThreshold:
    """A range of thresholds over which the groups do not change.

    Attributes:
        low: Its lowest similarity.
        high: Its highest similarity.
        threshold: The chosen threshold, in the middle of the widest gap within the range.
        width: ``log((1 - low) / (1 - high))``: 0.7 means that the dissimilarity doubles without a change.
        effective: Effective number of groups within the range.
    """

    low: float
    high: float
    threshold: float
    width: float
    effective: float


def connected_groups(first: NDArray[np.int64], second: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Number of the group of each of ``count`` items (count,), from links between items ``first`` and ``second``."""
    graph = coo_matrix((np.ones(len(first)), (first, second)), shape=(count, count))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def build_dendrogram(
    index: NDArray[np.int64], similarity: NDArray[np.floating], vectors: NDArray[np.floating]
) -> Dendrogram:
    """Single linkage: the minimum spanning tree of the graph of neighbours, its links sorted.

    Args:
        index: Rows of the neighbours (N, k).
        similarity: Their similarity (N, k).
        vectors: One row of length 1 per image, to connect groups of images that have no neighbour in common.
    """
    count = len(index)
    first = np.repeat(np.arange(count), index.shape[1])
    tree = _tree(first, index.ravel(), 1.0 - similarity.ravel().astype(np.float64), count)
    while (groups := connected_groups(tree[0], tree[1], count)).max() > 0:
        bridges = _bridges(groups, vectors)
        # Bridges are at least as long as any link of the graph, whatever scale its similarities are on.
        longest = tree[2].max(initial=_SMALLEST)
        ends = (np.concatenate([tree[0], bridges[0]]), np.concatenate([tree[1], bridges[1]]))
        tree = _tree(*ends, np.concatenate([tree[2], np.maximum(bridges[2], longest)]), count)
    order = np.argsort(tree[2], kind="stable")
    first, second, distance = tree[0][order], tree[1][order], tree[2][order]
    return Dendrogram(first, second, 1.0 - distance, _effective_numbers(first, second, count), count)


def find_plateau(dendrogram: Dendrogram) -> StableThreshold | None:
    """The widest range of thresholds over which the groups do not change; None where no range is admissible."""
    height = np.log(np.maximum(1.0 - dendrogram.similarity, _SMALLEST))
    effective = dendrogram.effective
    # The first link at which the effective number is within the tolerance of the one at the end of the range.
    starts = np.searchsorted(-effective, -effective * TOLERANCE)
    ends = np.arange(len(effective) - 1)
    allowed = (effective[:-1] >= FEWEST_GROUPS) & (dendrogram.count / effective[starts[:-1]] >= SMALLEST_GROUP)
    if not allowed.any():
        return None
    width = np.where(allowed, height[1:] - height[starts[:-1]], -1.0)
    end = int(ends[np.argmax(width)])
    start = int(starts[end])
    gap = start + int(np.argmax(np.diff(height[start : end + 2])))
    return StableThreshold(
        low=float(dendrogram.similarity[end + 1]),
        high=float(dendrogram.similarity[start]),
        threshold=float(1.0 - np.exp((height[gap] + height[gap + 1]) / 2)),
        width=float(width[end]),
        effective=float(effective[gap]),
    )


def separations(dendrogram: Dendrogram, groups: NDArray[np.int64]) -> NDArray[np.float64]:
    """Separation of each group: log ratio of its nearest link to another group and its longest link inside (G,)."""
    number = int(groups.max()) + 1
    distance = np.maximum(1.0 - dendrogram.similarity, _SMALLEST)
    left, right = groups[dendrogram.first], groups[dendrogram.second]
    inside, outside = np.full(number, _SMALLEST), np.full(number, 1.0)
    np.maximum.at(inside, left[left == right], distance[left == right])
    for side in (left, right):
        np.minimum.at(outside, side[left != right], distance[left != right])
    single = np.bincount(groups, minlength=number) == 1
    return np.where(single, 0.0, np.maximum(np.log(outside / inside), 0.0))


def excess_leaf_fraction(dendrogram: Dendrogram, groups: NDArray[np.int64]) -> float:
    """How far the groups are from chains, in which only the two ends have a single link: 0 for chains, 1 for stars.

    The slices of a subject form a chain, each linked to the next one. Images of many subjects at one height form a
    bushy tree, in which about half of the images are leaves (have a single link). Groups of fewer than five images can
    be either and are ignored.

    Returns:
        Fraction of images that are leaves, in excess of that of a chain; 0 where all groups are small.
    """
    linked = groups[dendrogram.first] == groups[dendrogram.second]
    ends = np.concatenate([dendrogram.first[linked], dendrogram.second[linked]])
    links = np.bincount(ends, minlength=dendrogram.count)
    size = np.bincount(groups)[groups]
    large = size >= SMALLEST_CHAIN
    if not large.any():
        return 0.0
    return float((links[large] == 1).mean() - (2 / size[large]).mean())


Links = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]


def _tree(first: NDArray[np.int64], second: NDArray[np.int64], distance: NDArray[np.float64], count: int) -> Links:
    low, high = np.minimum(first, second), np.maximum(first, second)
    distance = np.maximum(distance, _SMALLEST)
    # Sparse matrices add duplicate entries: keep the shortest link of each pair.
    order = np.lexsort((distance, high, low))
    low, high, distance = low[order], high[order], distance[order]
    keep = np.r_[True, (np.diff(low) != 0) | (np.diff(high) != 0)] & (low != high)
    tree = minimum_spanning_tree(coo_matrix((distance[keep], (low[keep], high[keep])), shape=(count, count))).tocoo()
    return tree.row.astype(np.int64), tree.col.astype(np.int64), tree.data


def _bridges(groups: NDArray[np.int64], vectors: NDArray[np.floating]) -> Links:
    """Links from some images of each group to the nearest image of another group (a round of Boruvka's algorithm)."""
    number = int(groups.max()) + 1
    each = max(1, min(REPRESENTATIVES, 16_384 // number))
    order = np.argsort(groups, kind="stable")
    sizes = np.bincount(groups)
    starts = np.cumsum(sizes) - sizes
    picked = [
        start + np.unique(np.linspace(0, size - 1, each).astype(int)) for start, size in zip(starts, sizes, strict=True)
    ]
    rows = order[np.concatenate(picked)]
    nearest, distance = np.empty(len(rows), np.int64), np.empty(len(rows))
    for start in range(0, len(rows), 1024):
        block = rows[start : start + 1024]
        similarity = vectors[block] @ vectors[rows].T
        similarity[groups[block][:, None] == groups[rows][None]] = -2
        best = np.argmax(similarity, axis=1)
        nearest[start : start + 1024] = rows[best]
        distance[start : start + 1024] = 1.0 - similarity[np.arange(len(block)), best]
    return rows, nearest, distance


def _effective_numbers(first: NDArray[np.int64], second: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """Inverse probability that two images are in the same group, after each link; by union-find."""
    parent, size = list(range(count)), [1] * count
    squares, result = count, np.empty(len(first))

    def find(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    for number, (one, other) in enumerate(zip(first.tolist(), second.tolist(), strict=True)):
        large, small = find(one), find(other)
        if size[large] < size[small]:
            large, small = small, large
        squares += 2 * size[large] * size[small]
        parent[small] = large
        size[large] += size[small]
        result[number] = count**2 / squares
    return result
