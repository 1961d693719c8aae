"""A map of a data set: each image a point, like images near each other.

It shows what to look at; distances between far points and sizes of clusters on it mean little, and no verdict rests
on it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

PERPLEXITY, SEED = 30.0, 42
"""Parameters in common use."""


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
