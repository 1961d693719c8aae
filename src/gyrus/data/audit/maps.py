"""Maps of a data set: each image a point, like images near each other, and the clusters of such a map.

A map shows what to look at; distances between far points and sizes of clusters on it mean little, and no verdict rests
on one.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from gyrus.errors import MissingDependencyError

Floats = NDArray[np.floating]

PERPLEXITY, SEED = 30.0, 42
"""Parameters in common use."""

EPS, MIN_SAMPLES = 3.0, 5
"""Of DBSCAN on the coordinates of t-SNE, likewise."""


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
    """UMAP (McInnes et al. 2018) of (N, D), as (N, 2).

    Raises:
        MissingDependencyError: umap-learn is not installed.
    """
    try:
        from umap import UMAP  # type: ignore[import-not-found,unused-ignore]
    except ImportError as error:
        raise MissingDependencyError('UMAP needs umap-learn: pip install "gyrus[maps]".') from error
    return UMAP(n_neighbors=min(neighbours, len(features) - 1), random_state=seed, n_jobs=1).fit_transform(features)


MAPS: dict[str, Callable[..., NDArray[np.float32]]] = {"t-SNE": tsne, "UMAP": umap}
"""Map name to the function that makes it."""


def dbscan(points: Floats, *, eps: float = EPS, min_samples: int = MIN_SAMPLES) -> NDArray[np.int64]:
    """Cluster of each point (N,), -1 for none (Ester et al. 1996)."""
    from sklearn.cluster import DBSCAN

    return DBSCAN(eps=eps, min_samples=min_samples).fit_predict(points).astype(np.int64)


def hdbscan(points: Floats, *, min_samples: int = MIN_SAMPLES) -> NDArray[np.int64]:
    """Cluster of each point (N,), -1 for none, without a distance to choose (Campello et al. 2013)."""
    from sklearn.cluster import HDBSCAN

    return HDBSCAN(min_cluster_size=min_samples, copy=True).fit_predict(points).astype(np.int64)


CLUSTERINGS: dict[str, Callable[..., NDArray[np.int64]]] = {"DBSCAN": dbscan, "HDBSCAN": hdbscan}
"""Clustering name to the function that does it."""
