"""Where a map points to: into the brain or past it, into a known structure, into the regions of an atlas."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage

from gyrus.errors import DataError
from gyrus.imaging.masks import brain_mask, otsu
from gyrus.imaging.volume import Volume

Mask = NDArray[np.bool_]

HEAD = 190.0
"""Millimetres that the longer side of a slice is taken to span where the size of a pixel is not known."""

_SKULL_DEPTH = (3.0, 16.0)
"""Millimetres below the outline of the head between which the skull, a dark ring, is looked for."""

_SKULL_DARKNESS = 0.6
"""The skull is darker than this share of the scalp outside it and of the brain inside it; no rim of a brain is."""


def brain_of(image: np.ndarray, affine: np.ndarray | None = None) -> Mask:
    """Where the brain is, roughly: good enough to tell a map that looks past it.

    Args:
        image: Gray values (rows, columns), or (slices, rows, columns), bottom to top.
        affine: (4, 4), from (slice, row, column) to mm, of a volume; without it slices are looked at one by one.

    Returns:
        bool, of the shape of the image. All True where there is no contrast to find a brain by.
    """
    if image.ndim == 3 and affine is not None:
        return _brain_of_volume(image, affine)
    if image.ndim == 3:
        return np.stack([_brain_of_slice(one) for one in image])
    return _brain_of_slice(image)


def share_inside(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """The share of each map that lies inside its mask, by the size of its values.

    Args:
        maps: (N, *spatial).
        masks: bool, of the same shape.

    Returns:
        float64 (N,); NaN where a map says nothing.
    """
    size = np.abs(maps.reshape(len(maps), -1).astype(np.float64))
    inside = np.where(masks.reshape(len(masks), -1), size, 0).sum(1)
    total = size.sum(1)
    return np.divide(inside, total, out=np.full(len(maps), np.nan), where=total > 0)


def region_table(maps: np.ndarray, labels: np.ndarray, names: Mapping[int, str] | None = None) -> pd.DataFrame:
    """How much of the maps lies in each region.

    Args:
        maps: (N, *spatial).
        labels: int (*spatial), the region of each voxel for all maps, or one a map (N, *spatial); 0 is outside of all.
        names: Of the regions.

    Returns:
        One row a region: ``region``, ``name``, ``voxels`` as a share of all, ``share`` of the attribution by size,
        ``concentration`` (the one divided by the other: 1 is as much as by chance), ``for`` and ``against`` (shares of
        the attribution that are positive and negative); by share.

    Raises:
        DataError: The labels have another shape than the maps.
    """
    if labels.shape not in (maps.shape, maps.shape[1:]):
        raise DataError(
            f"The regions have the shape {labels.shape}, but the maps {maps.shape[1:]}. Give them on the grid of the "
            "images, or as NIfTI in the space of the scans."
        )
    labels = np.broadcast_to(labels, maps.shape)
    total = float(np.abs(maps).sum(dtype=np.float64)) or np.nan
    rows = []
    for region in np.unique(labels):
        chosen = maps[labels == region].astype(np.float64)
        voxels, share = chosen.size / maps.size, float(np.abs(chosen).sum()) / total
        rows.append(
            {
                "region": int(region),
                "name": (names or {}).get(int(region), "outside" if region == 0 else f"region {region}"),
                "voxels": voxels,
                "share": share,
                "concentration": share / voxels,
                "for": float(chosen.clip(min=0).sum()) / total,
                "against": float(-chosen.clip(max=0).sum()) / total,
            }
        )
    return pd.DataFrame(rows).sort_values("share", ascending=False, kind="stable").reset_index(drop=True)


def _brain_of_volume(image: np.ndarray, affine: np.ndarray) -> Mask:
    """By the method for volumes, which works on (X, Y, Z) in RAS+."""
    order = affine[:, [2, 1, 0, 3]]
    volume = Volume.from_array(np.transpose(image, (2, 1, 0)), order)
    flips = tuple(axis for axis in range(3) if order[axis, axis] < 0)
    return np.transpose(np.flip(brain_mask(volume), flips), (2, 1, 0))


def _brain_of_slice(image: np.ndarray) -> Mask:
    """The head, without what is outside the skull where there is one."""
    values = image.astype(np.float32)
    if values.max() <= values.min():
        return np.ones(image.shape, bool)
    head, pixel = _head(values), HEAD / max(image.shape)
    depth = ndimage.distance_transform_edt(np.pad(head, 1))[1:-1, 1:-1] * pixel
    brain = depth > _skull_depth(values, depth, max(2.0, pixel))
    return np.asarray(brain) if brain.any() else head


def _head(values: np.ndarray) -> Mask:
    body = values > otsu(np.minimum(values, np.percentile(values, 99)).ravel()) / 2
    width = max(1, round(max(values.shape) / 32))
    closed = ndimage.binary_closing(np.pad(body, width), iterations=width)[width:-width, width:-width]
    labels, count = ndimage.label(closed | body)
    if count == 0:
        return np.ones(values.shape, bool)
    largest = labels == np.bincount(labels.ravel())[1:].argmax() + 1
    return np.asarray(ndimage.binary_fill_holes(largest))


def _skull_depth(values: np.ndarray, depth: np.ndarray, width: float) -> float:
    """Millimetres below the outline at which the dark ring of the skull ends; 0 where there is none.

    Args:
        values: Gray values of a slice.
        depth: Of each pixel below the outline of the head, mm.
        width: Of the rings that are looked at, mm.
    """
    edges = np.arange(0.0, 2 * _SKULL_DEPTH[1], width)
    rings = [(depth > low) & (depth <= low + width) for low in edges]
    profile = np.array([np.median(values[ring]) for ring in rings if ring.any()])
    edges = edges[: len(profile)]
    within = np.flatnonzero((edges >= _SKULL_DEPTH[0]) & (edges <= _SKULL_DEPTH[1]))
    if not len(within):
        return 0.0
    darkest = int(within[profile[within].argmin()])
    scalp, brain = profile[:darkest].max(), profile[darkest:].max()
    if profile[darkest] >= _SKULL_DARKNESS * min(scalp, brain):
        return 0.0
    risen = profile[darkest:] > (profile[darkest] + brain) / 2
    return float(edges[darkest + int(risen.argmax())])
