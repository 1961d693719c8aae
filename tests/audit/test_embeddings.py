from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import pytest
from sklearn.cluster import DBSCAN
from sklearn.manifold import TSNE
from sklearn.metrics import adjusted_rand_score

from gyrus.audit.embeddings import Clustering, dbscan, hdbscan, standardise_columns, tsne, umap
from gyrus.errors import MissingDependencyError


@pytest.fixture(scope="module")
def clouds() -> tuple[np.ndarray, np.ndarray]:
    """Three clouds of 40 points in 8 dimensions, and the cloud of each point."""
    generator = np.random.default_rng(0)
    centres = 12 * generator.normal(size=(3, 8))
    numbers = np.repeat(np.arange(3), 40)
    return centres[numbers] + generator.normal(size=(120, 8)), numbers


def same_cloud_fraction(points: np.ndarray, numbers: np.ndarray) -> float:
    """Fraction of points whose nearest other point is of the same cloud."""
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    return float((numbers[distance.argmin(axis=1)] == numbers).mean())


def test_tsne_is_that_of_the_library_with_the_parameters_in_common_use(clouds: tuple[np.ndarray, np.ndarray]) -> None:
    points, numbers = clouds
    features = points[:, :4].astype(np.float32)
    expected = TSNE(n_components=2, perplexity=30, random_state=42).fit_transform(features)
    np.testing.assert_array_equal(tsne(features), expected)
    assert same_cloud_fraction(tsne(points), numbers) == 1.0


# umap-learn compiles itself for half a minute, and warns about TensorFlow, which only another of its methods needs.
@pytest.mark.filterwarnings("ignore:Tensorflow not installed:ImportWarning")
@pytest.mark.parametrize("draw", [tsne, pytest.param(umap, marks=pytest.mark.slow)])
def test_a_few_points_are_mapped_too(draw: Callable[[np.ndarray], np.ndarray]) -> None:
    assert np.isfinite(draw(np.random.default_rng(0).normal(size=(9, 3)))).all()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Tensorflow not installed:ImportWarning")
def test_umap_keeps_clouds_together_and_is_reproducible(clouds: tuple[np.ndarray, np.ndarray]) -> None:
    points, numbers = clouds
    first = umap(points)
    assert first.shape == (120, 2)
    assert same_cloud_fraction(first, numbers) == 1.0
    np.testing.assert_array_equal(first, umap(points))


def test_without_the_library_umap_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(MissingDependencyError, match="\\[umap\\]"):
        umap(np.zeros((20, 3)))


def test_clusters_are_those_of_the_library(clouds: tuple[np.ndarray, np.ndarray]) -> None:
    points, numbers = clouds
    flat = points[:, :2]
    np.testing.assert_array_equal(dbscan(flat), DBSCAN(eps=3.0, min_samples=5).fit_predict(flat))
    assert adjusted_rand_score(numbers, hdbscan(points)) > 0.95
    assert (hdbscan(points[:4]) == -1).all()


def test_agreement_is_of_the_clustered_points_with_what_is_known() -> None:
    clusters = np.array([0, 0, 1, 1, -1, -1])
    known = np.array([5, 5, 7, 7, 5, 7])
    judged = Clustering.compare("test", clusters, {"class": known, "person": None, "subset": np.full(6, -1)})
    assert judged.agreement == {"class": 1.0}
    assert judged.count == 2
    assert judged.unclustered_fraction == pytest.approx(1 / 3)


def test_standardised_columns_have_mean_0_and_deviation_1_and_no_gaps() -> None:
    values = np.array([[1.0, 5.0, np.nan], [3.0, 5.0, 2.0], [5.0, 5.0, 4.0]])
    result = standardise_columns(values)
    np.testing.assert_allclose(result.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(result[:, 0].std(), 1)
    assert not result[:, 1].any()
    assert np.isfinite(result).all()
