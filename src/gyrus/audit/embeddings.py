"""Two-dimensional maps and clusters of a data set: each image is a point, and similar images are near each other.

Maps are for exploration only. Large distances and cluster sizes on a map mean little, and no verdict rests on them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gyrus.extras import missing_dependency

Floats = NDArray[np.floating]
Clusters = NDArray[np.int64]

PERPLEXITY, SEED = 30.0, 42
"""Common parameters of t-SNE."""

DBSCAN_DISTANCE, MIN_SAMPLES = 3.0, 5
"""Common parameters of DBSCAN on the coordinates of t-SNE."""


def standardise_columns(features: Floats) -> NDArray[np.float64]:
    """Each column with mean 0 and standard deviation 1; NaN becomes the mean, and a column without values 0."""
    values = np.asarray(features, np.float64)
    values = np.where(np.isnan(values).all(axis=0), 0.0, values)
    centred = values - np.nanmean(values, axis=0)
    scale = np.nanstd(values, axis=0)
    return np.nan_to_num(centred / np.where(scale > 0, scale, 1.0))


def tsne(features: Floats, *, perplexity: float = PERPLEXITY, seed: int = SEED) -> NDArray[np.float32]:
    """t-SNE (van der Maaten and Hinton 2008) of (N, D), as (N, 2); all at the origin if all rows are equal."""
    from sklearn.manifold import TSNE

    if not np.ptp(features, axis=0).any():
        return np.zeros((len(features), 2), np.float32)
    perplexity = min(perplexity, (len(features) - 1) / 3)
    return TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(np.asarray(features, np.float32))


def umap(features: Floats, *, neighbours: int = 15, seed: int = SEED) -> NDArray[np.float32]:
    """UMAP (McInnes, Healy and Melville 2018) of (N, D), as (N, 2).

    Raises:
        MissingDependencyError: The library umap-learn is not installed.
    """
    try:
        from umap import UMAP
    except ImportError as error:
        raise missing_dependency("A UMAP map", "umap") from error
    neighbours = min(neighbours, len(features) - 1)
    # Spectral initialisation fails on very small graphs.
    start = "spectral" if len(features) > 2 * neighbours else "random"
    model = UMAP(n_neighbors=neighbours, random_state=seed, n_jobs=1, init=start)
    return np.asarray(model.fit_transform(np.asarray(features, np.float32)), np.float32)


def dbscan(points: Floats, *, distance: float = DBSCAN_DISTANCE, min_samples: int = MIN_SAMPLES) -> Clusters:
    """DBSCAN (Ester et al. 1996): the cluster of each point, -1 for none.

    Args:
        points: (N, D).
        distance: Distance up to which points are neighbours.
        min_samples: Neighbours, the point itself included, that make a point the core of a cluster.
    """
    from sklearn.cluster import DBSCAN

    return DBSCAN(eps=distance, min_samples=min_samples).fit_predict(points).astype(np.int64)


def hdbscan(points: Floats, *, min_cluster_size: int = MIN_SAMPLES) -> Clusters:
    """HDBSCAN (Campello, Moulavi and Sander 2013): the cluster of each point, -1 for none.

    Args:
        points: (N, D).
        min_cluster_size: Smallest number of points in a cluster.
    """
    from sklearn.cluster import HDBSCAN

    if len(points) <= min_cluster_size:
        return np.full(len(points), -1, np.int64)
    return HDBSCAN(min_cluster_size=min_cluster_size, copy=True).fit_predict(points).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Clustering:
    """Clusters and their agreement with known groupings.

    Attributes:
        name: The method and its input.
        clusters: Cluster of each point, -1 for none (N,).
        agreement: Adjusted Rand index of the clustered points with the class, the subject ...: 0 by chance.
    """

    name: str
    clusters: Clusters
    agreement: dict[str, float]

    @classmethod
    def compare(cls, name: str, clusters: Clusters, groupings: dict[str, NDArray[np.int64] | None]) -> Clustering:
        """Compute the agreement of clusters with each known grouping; negative numbers in it are unknown."""
        from sklearn.metrics import adjusted_rand_score

        agreement = {}
        for grouping, numbers in groupings.items():
            known = (clusters >= 0) & (numbers >= 0) if numbers is not None else np.zeros(0, bool)
            if numbers is not None and known.any():
                agreement[grouping] = float(adjusted_rand_score(numbers[known], clusters[known]))
        return cls(name, clusters, agreement)

    @property
    def count(self) -> int:
        """Number of clusters."""
        return int(self.clusters.max(initial=-1)) + 1

    @property
    def unclustered_fraction(self) -> float:
        """Fraction of the points that are in no cluster."""
        return float((self.clusters < 0).mean())
