"""Masks of the head and of the brain by thresholds and morphology: no model, nothing to download.

The brain mask follows the classical recipe of threshold, erosion, largest component and dilation (Atkins and
Mackiewich, IEEE Trans Med Imaging 17, 1998), on a grid of 2 mm. It is meant for cropping and for scaling gray
values; use an external tool where the border of the brain matters.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gyrus.imaging.resampling import resample_array
from gyrus.imaging.thresholding import otsu
from gyrus.imaging.volume import Volume

_GRID = 2.0  # mm
_BRAIN_HEIGHT = 150.0
"""Height of the brain in mm, measured from the top of the head; neck and face lie below."""

_OPENINGS = (4.0, 5.0, 6.0, 7.0, 8.0)
"""Depths of erosion in mm, tried in turn to remove scalp, eyes and neck."""

_LEAK = 0.05
"""Largest fraction of its volume that a brain loses when eroded by one more millimetre. A mask that loses more was
attached to the face or neck."""

_REGROWTH = 1.75
"""The core is dilated within the tissue by this multiple of the erosion, to recover the cortex and its folds."""

_TISSUE_FRACTION = 0.75
"""Tissue is brighter than this fraction of Otsu's threshold, which lies between gray and white matter."""

Mask = NDArray[np.bool_]


def head_mask(volume: Volume) -> Mask:
    """Everything that is not air: the largest component above Otsu's threshold, with its cavities filled.

    Returns:
        bool, of the shape of the volume. All True if the volume has no contrast.
    """
    return _on_grid(volume, _head)


def brain_mask(volume: Volume) -> Mask:
    """The brain with its ventricles, from a head or from a skull-stripped volume.

    Returns:
        bool, of the shape of the volume. All True if the volume has no contrast.
    """
    return _on_grid(volume, _brain)


def _on_grid(volume: Volume, find: Callable[[NDArray[np.float32], np.ndarray], Mask]) -> Mask:
    """The mask that ``find`` gives on a grid of 2 mm, resampled to the volume."""
    factors = _GRID / np.array(volume.spacing)
    shape = tuple(int(length) for length in np.maximum(1, np.round(np.array(volume.shape) / factors)))
    small = resample_array(volume.array, shape, order=1)
    if small.max() <= small.min():
        return np.ones(volume.shape, bool)
    spacing = np.array(volume.spacing) * np.array(volume.shape) / np.array(shape)
    found = find(small, spacing)
    return resample_array(found.astype(np.float32), volume.shape, order=1, antialias=False) >= 0.5


def _head(values: NDArray[np.float32], spacing: np.ndarray) -> Mask:
    body = values > _threshold(values) / 2
    body = _largest(_opened(body, spacing, 2.0))
    return _filled(_closed(body, spacing, 6.0))


def _threshold(values: NDArray[np.float32]) -> float:
    """Threshold between air and tissue; the brightest voxels (vessels, fat) are clipped so as not to raise it."""
    return otsu(np.minimum(values, np.percentile(values, 99)).ravel())


def _brain(values: NDArray[np.float32], spacing: np.ndarray) -> Mask:
    head = _head(values, spacing)
    if not head.any():
        return np.ones(values.shape, bool)
    inside = head & _below_top(head, spacing)
    threshold = otsu(np.minimum(values, np.percentile(values[inside], 98))[inside])
    tissue = inside & (values > _TISSUE_FRACTION * threshold)
    found = _largest(tissue)
    for opening in _OPENINGS:
        core = _largest(_eroded(tissue, spacing, opening))
        grown = _grown(core, spacing, _REGROWTH * opening) & tissue
        smaller = _filled(_closed(grown, spacing, 8.0)) & inside
        if smaller.sum() >= (1 - _LEAK) * found.sum() and opening > _OPENINGS[0]:
            return found
        found = smaller if smaller.any() else found
    return found


def _below_top(head: Mask, spacing: np.ndarray) -> Mask:
    top = np.flatnonzero(head.any(axis=(0, 1))).max()
    height = top - np.arange(head.shape[2])
    return np.broadcast_to(height * spacing[2] <= _BRAIN_HEIGHT, head.shape)


def _largest(mask: Mask) -> Mask:
    """The largest connected component."""
    labels, count = ndimage.label(mask)
    if count < 2:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray(labels == sizes.argmax())


def _eroded(mask: Mask, spacing: np.ndarray, radius: float) -> Mask:
    """Erode by ``radius`` mm; distances account for anisotropic voxels."""
    framed = np.pad(mask, 1)
    return np.asarray(ndimage.distance_transform_edt(framed, sampling=spacing) > radius)[1:-1, 1:-1, 1:-1]


def _grown(mask: Mask, spacing: np.ndarray, radius: float) -> Mask:
    return np.asarray(ndimage.distance_transform_edt(~mask, sampling=spacing) <= radius) if mask.any() else mask


def _opened(mask: Mask, spacing: np.ndarray, radius: float) -> Mask:
    return _grown(_eroded(mask, spacing, radius), spacing, radius) & mask


def _closed(mask: Mask, spacing: np.ndarray, radius: float) -> Mask:
    width = [int(np.ceil(radius / length)) for length in spacing]
    framed = np.pad(mask, [(one, one) for one in width])
    closed = _eroded_inside(_grown(framed, spacing, radius), spacing, radius)
    return closed[tuple(slice(one, -one) for one in width)] | mask


def _eroded_inside(mask: Mask, spacing: np.ndarray, radius: float) -> Mask:
    return np.asarray(ndimage.distance_transform_edt(mask, sampling=spacing) > radius) if not mask.all() else mask


def _filled(mask: Mask) -> Mask:
    """Fill holes in three dimensions and in each axial slice."""
    mask = np.asarray(ndimage.binary_fill_holes(mask))
    return np.stack([ndimage.binary_fill_holes(mask[:, :, number]) for number in range(mask.shape[2])], axis=2)
