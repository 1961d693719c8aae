from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import fcluster, linkage
from sklearn.metrics import adjusted_rand_score

from gyrus.audit.single_linkage import Dendrogram, build_dendrogram, excess_leaf_fraction, find_plateau, separations


def blobs(groups: int, size: int, spread: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Directions around random centres in 16 dimensions, rows of length 1, and the group of each."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(groups, 16))
    rows = np.repeat(centres, size, axis=0) + spread * generator.normal(size=(groups * size, 16))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True), np.repeat(np.arange(groups), size)


def linked(vectors: np.ndarray, neighbours: int = 6) -> Dendrogram:
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -2)
    index = np.argsort(-similarity, axis=1)[:, :neighbours]
    return build_dendrogram(index, np.take_along_axis(similarity, index, axis=1), vectors)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 1000))
def test_groups_at_a_threshold_are_those_of_scipy(seed: int) -> None:
    vectors, _ = blobs(4, 6, 0.4, seed)
    dendrogram = linked(vectors, neighbours=23)
    distance = 1 - (vectors @ vectors.T)[np.triu_indices(24, 1)]
    tree = linkage(distance, "single")
    np.testing.assert_allclose(np.sort(1 - dendrogram.similarity), tree[:, 2], atol=1e-9)
    threshold = 1 - (tree[11, 2] + tree[12, 2]) / 2
    expected = fcluster(tree, 1 - threshold, "distance")
    assert adjusted_rand_score(dendrogram.groups(threshold), expected) == 1.0


def test_effective_number_counts_by_size() -> None:
    vectors, truth = blobs(5, 8, 0.1)
    dendrogram = linked(vectors)
    groups = dendrogram.groups(find_plateau(dendrogram).threshold)
    assert adjusted_rand_score(groups, truth) == 1.0
    # Five groups of the same size are effectively five; the last link makes one group of all.
    assert 5.0 in np.round(dendrogram.effective, 9)
    assert dendrogram.effective[-1] == pytest.approx(1.0)


def test_disconnected_graphs_are_bridged() -> None:
    vectors, truth = blobs(6, 20, 0.1)
    dendrogram = linked(vectors, neighbours=3)
    assert len(dendrogram.similarity) == len(truth) - 1
    assert adjusted_rand_score(dendrogram.groups(find_plateau(dendrogram).threshold), truth) == 1.0


def test_plateau_of_groups_is_wide_and_of_a_cloud_narrow() -> None:
    wide = find_plateau(linked(blobs(10, 10, 0.15)[0]))
    narrow = find_plateau(linked(np.linalg.qr(np.random.default_rng(0).normal(size=(100, 100)))[0][:, :16]))
    assert wide.width > 1.0
    assert narrow is None or narrow.width < 0.2


def test_separations_are_larger_for_tighter_groups() -> None:
    loose, _ = blobs(2, 10, 0.3, seed=1)
    tight, _ = blobs(2, 10, 0.05, seed=2)
    vectors = np.concatenate([loose, tight])
    dendrogram = linked(vectors)
    found = separations(dendrogram, np.repeat(np.arange(4), 10))
    assert found[2:].min() > found[:2].max()


def test_chains_have_no_excess_leaves_and_stars_have() -> None:
    chain, star = np.arange(9), np.zeros(9, np.int64)
    others, groups = np.arange(1, 10), np.zeros(10, np.int64)
    similarity, effective = np.full(9, 0.9), np.ones(9)
    assert excess_leaf_fraction(Dendrogram(chain, others, similarity, effective, 10), groups) == pytest.approx(0.0)
    assert excess_leaf_fraction(Dendrogram(star, others, similarity, effective, 10), groups) == pytest.approx(0.9 - 0.2)
    pairs = np.repeat(np.arange(5), 2)
    assert excess_leaf_fraction(Dendrogram(chain, others, similarity, effective, 10), pairs) == 0.0
