"""Single linkage on a graph of neighbours, and the threshold at which the groups hold still.

The most similar images are joined first, then the next ones, until all are one group. Where images come in natural
groups, such as the slices of a person, there is a range of thresholds over which nothing happens: all links within the
groups have been made, and none between them. The range shows as a plateau in the *effective number of groups*, one
over the chance that two images drawn at random are of the same group (the inverse Simpson index; Hill 1973, "Diversity
and evenness"). It counts groups by their size, so that a few stray images do not hide the plateau.

Without natural groups one large group swallows the rest, and there is no plateau.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

TOLERANCE = 1.1
"""Ratio by which the effective number of groups may change within a plateau."""

SMALLEST_GROUP = 1.9
"""Images an effective group at least: where each image is its own group, nothing has been found."""

FEWEST_GROUPS = 1.8
"""Effective groups at least: where all images are one group, nothing has been found either."""

SMALLEST_THREAD = 5
"""Images of a group at least, before its shape says anything."""

REPRESENTATIVES = 16
"""Images of each group that are compared with those of other groups, where the graph falls apart."""

_SMALLEST = 1e-7


@dataclass(frozen=True)
class Dendrogram:
    """The links that join images to groups, the most similar first.

    Attributes:
        first: Row of one image of each link, int64 (M,).
        second: Row of the other.
        similarity: How similar they are, float64 (M,), falling.
        effective: Effective number of groups after each link, float64 (M,).
        count: Number of images.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    similarity: NDArray[np.float64]
    effective: NDArray[np.float64]
    count: int

    def groups(self, threshold: float) -> NDArray[np.int64]:
        """The group of each image (N,), where images at least as similar as ``threshold`` are linked."""
        linked = self.similarity >= threshold
        ones = np.ones(int(linked.sum()))
        graph = coo_matrix((ones, (self.first[linked], self.second[linked])), shape=(self.count, self.count))
        return connected_components(graph, directed=False)[1].astype(np.int64)


@dataclass(frozen=True)
class StableThreshold:
    """A range of thresholds over which the groups hold still.

    Attributes:
        low: Its lowest similarity.
        high: Its highest similarity.
        threshold: Where to cut: in the middle of the widest gap within it.
        width: ``log((1 - low) / (1 - high))``: 0.7 means that the dissimilarity doubles and nothing happens.
        effective: Effective number of groups within it.
    """

    low: float
    high: float
    threshold: float
    width: float
    effective: float


def merge(index: NDArray[np.int64], similarity: NDArray[np.floating], vectors: NDArray[np.floating]) -> Dendrogram:
    """Single linkage: the minimum spanning tree of the graph of neighbours, its links sorted.

    Args:
        index: Rows of the neighbours (N, k).
        similarity: How similar they are (N, k).
        vectors: A row of length 1 for each image; links groups of images that have no neighbour in common.
    """
    count = len(index)
    first = np.repeat(np.arange(count), index.shape[1])
    tree = _tree(first, index.ravel(), 1.0 - similarity.ravel().astype(np.float64), count)
    while (groups := _components(tree, count)).max() > 0:
        bridges = _bridges(groups, vectors)
        # Bridges are at least as long as any link of the graph, whatever scale its similarities are on.
        longest = tree[2].max(initial=_SMALLEST)
        ends = (np.concatenate([tree[0], bridges[0]]), np.concatenate([tree[1], bridges[1]]))
        tree = _tree(*ends, np.concatenate([tree[2], np.maximum(bridges[2], longest)]), count)
    order = np.argsort(tree[2], kind="stable")
    first, second, distance = tree[0][order], tree[1][order], tree[2][order]
    return Dendrogram(first, second, 1.0 - distance, _effective_numbers(first, second, count), count)


def find_plateau(merges: Dendrogram) -> StableThreshold | None:
    """The widest range of thresholds over which the groups hold still; None where no range is admissible at all."""
    height = np.log(np.maximum(1.0 - merges.similarity, _SMALLEST))
    effective = merges.effective
    # Where the effective number is still the one of the end of the range, times the tolerance.
    starts = np.searchsorted(-effective, -effective * TOLERANCE)
    ends = np.arange(len(effective) - 1)
    allowed = (effective[:-1] >= FEWEST_GROUPS) & (merges.count / effective[starts[:-1]] >= SMALLEST_GROUP)
    if not allowed.any():
        return None
    width = np.where(allowed, height[1:] - height[starts[:-1]], -1.0)
    end = int(ends[np.argmax(width)])
    start = int(starts[end])
    gap = start + int(np.argmax(np.diff(height[start : end + 2])))
    return StableThreshold(
        low=float(merges.similarity[end + 1]),
        high=float(merges.similarity[start]),
        threshold=float(1.0 - np.exp((height[gap] + height[gap + 1]) / 2)),
        width=float(width[end]),
        effective=float(effective[gap]),
    )


def margins(merges: Dendrogram, groups: NDArray[np.int64]) -> NDArray[np.float64]:
    """How far each group stands apart: log of the ratio of its nearest outside link to its loosest inside link (G,)."""
    number = int(groups.max()) + 1
    distance = np.maximum(1.0 - merges.similarity, _SMALLEST)
    left, right = groups[merges.first], groups[merges.second]
    inside, outside = np.full(number, _SMALLEST), np.full(number, 1.0)
    np.maximum.at(inside, left[left == right], distance[left == right])
    for side in (left, right):
        np.minimum.at(outside, side[left != right], distance[left != right])
    single = np.bincount(groups, minlength=number) == 1
    return np.where(single, 0.0, np.maximum(np.log(outside / inside), 0.0))


def loose_ends(merges: Dendrogram, groups: NDArray[np.int64]) -> float:
    """How far the groups are from threads, of which only the two ends have a single link: 0 for threads, 1 for stars.

    Slices of a person make a thread, each linked to the next one. Images of many people at one height make a bunch,
    about half of whose images have a single link. Groups of fewer than five images can be either and are left out.

    Returns:
        Mean over the images of the share of loose ends in excess of a thread's; 0 where all groups are small.
    """
    linked = groups[merges.first] == groups[merges.second]
    ends = np.concatenate([merges.first[linked], merges.second[linked]])
    links = np.bincount(ends, minlength=merges.count)
    size = np.bincount(groups)[groups]
    large = size >= SMALLEST_THREAD
    if not large.any():
        return 0.0
    return float((links[large] == 1).mean() - (2 / size[large]).mean())


Links = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]


def _tree(first: NDArray[np.int64], second: NDArray[np.int64], distance: NDArray[np.float64], count: int) -> Links:
    low, high = np.minimum(first, second), np.maximum(first, second)
    distance = np.maximum(distance, _SMALLEST)
    # Sparse matrices add up doubles: keep the shortest link of each pair.
    order = np.lexsort((distance, high, low))
    low, high, distance = low[order], high[order], distance[order]
    keep = np.r_[True, (np.diff(low) != 0) | (np.diff(high) != 0)] & (low != high)
    tree = minimum_spanning_tree(coo_matrix((distance[keep], (low[keep], high[keep])), shape=(count, count))).tocoo()
    return tree.row.astype(np.int64), tree.col.astype(np.int64), tree.data


def _components(tree: Links, count: int) -> NDArray[np.int64]:
    graph = coo_matrix((np.ones(len(tree[0])), tree[:2]), shape=(count, count))
    return connected_components(graph, directed=False)[1]


def _bridges(groups: NDArray[np.int64], vectors: NDArray[np.floating]) -> Links:
    """From some images of each group the link to the nearest image of another one (a round of Boruvka's method)."""
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
    """One over the chance that two images are of one group, after each link; by union-find."""
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
