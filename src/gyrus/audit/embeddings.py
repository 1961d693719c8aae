"""Maps and clusters of a data set: each image a point, like images near each other.

They show what to look at; distances between far points and sizes of clusters on a map mean little, and no verdict rests
on them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gyrus.extras import missing_dependency

Floats = NDArray[np.floating]
Clusters = NDArray[np.int64]

PERPLEXITY, SEED = 30.0, 42
"""Parameters of t-SNE in common use."""

REACH, LEAST = 3.0, 5
"""Parameters of DBSCAN in common use on the coordinates of t-SNE."""


def standard(features: Floats) -> NDArray[np.float64]:
    """Each column with mean 0 and deviation 1; NaN becomes the mean."""
    values = np.asarray(features, np.float64)
    centred = values - np.nanmean(values, axis=0)
    scale = np.nanstd(values, axis=0)
    return np.nan_to_num(centred / np.where(scale > 0, scale, 1.0))


def tsne(features: Floats, *, perplexity: float = PERPLEXITY, seed: int = SEED) -> NDArray[np.float32]:
    """t-SNE (van der Maaten and Hinton 2008) of (N, D), as (N, 2)."""
    from sklearn.manifold import TSNE

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
    # Its spectral start needs a larger graph than that of a few images.
    start = "spectral" if len(features) > 2 * neighbours else "random"
    model = UMAP(n_neighbors=neighbours, random_state=seed, n_jobs=1, init=start)
    return np.asarray(model.fit_transform(np.asarray(features, np.float32)), np.float32)


def dbscan(points: Floats, *, reach: float = REACH, least: int = LEAST) -> Clusters:
    """DBSCAN (Ester et al. 1996): the cluster of each point, -1 for none.

    Args:
        points: (N, D).
        reach: Distance up to which points are neighbours.
        least: Neighbours that make a point the core of a cluster, itself included.
    """
    from sklearn.cluster import DBSCAN

    return DBSCAN(eps=reach, min_samples=least).fit_predict(points).astype(np.int64)


def hdbscan(points: Floats, *, least: int = LEAST) -> Clusters:
    """HDBSCAN (Campello, Moulavi and Sander 2013): the cluster of each point, -1 for none.

    Args:
        points: (N, D).
        least: Points of a cluster at least.
    """
    from sklearn.cluster import HDBSCAN

    if len(points) <= least:
        return np.full(len(points), -1, np.int64)
    return HDBSCAN(min_cluster_size=least, copy=True).fit_predict(points).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Clustering:
    """Clusters, and what they go with.

    Attributes:
        name: The method and what it was run on.
        clusters: Of each point, -1 for none (N,).
        agreement: Adjusted Rand index, of the points in clusters, with the class, the person ...: 0 by chance.
    """

    name: str
    clusters: Clusters
    agreement: dict[str, float]

    @classmethod
    def judged(cls, name: str, clusters: Clusters, against: dict[str, NDArray[np.int64] | None]) -> Clustering:
        """Clusters with their agreement with each known grouping; negative numbers in it are unknown."""
        from sklearn.metrics import adjusted_rand_score

        agreement = {}
        for what, known in against.items():
            chosen = (clusters >= 0) & (known >= 0) if known is not None else np.zeros(0, bool)
            if known is not None and chosen.any():
                agreement[what] = float(adjusted_rand_score(known[chosen], clusters[chosen]))
        return cls(name, clusters, agreement)

    @property
    def count(self) -> int:
        """How many clusters there are."""
        return int(self.clusters.max(initial=-1)) + 1

    @property
    def outside(self) -> float:
        """Share of the points that are in no cluster."""
        return float((self.clusters < 0).mean())
