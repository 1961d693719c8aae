"""Where the head is, and the brain, by thresholds and shapes only; no model, nothing to download.

The brain mask follows the classical recipe of threshold, erosion, largest component and dilation (Atkins and
Mackiewich, IEEE Trans Med Imaging 17, 1998), on a grid of 2 mm. It is meant for cropping and for scaling gray values;
where the border of the brain itself matters, use an external tool.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gyrus.imaging.resampling import resample_array
from gyrus.imaging.volume import Volume

_GRID = 2.0  # mm
_BRAIN_HEIGHT = 150.0
"""Millimetres from the top of the head down to which there may be brain: what is below is neck and face."""

_OPENINGS = (4.0, 5.0, 6.0, 7.0, 8.0)
"""Millimetres by which the tissue is eroded, so that scalp, eyes and neck come off."""

_LEAK = 0.05
"""Share of its volume that a brain loses at most when it is eroded a millimetre more; what loses more had a part of the
face or neck attached, which came off."""

_REGROWTH = 1.75
"""The core is grown again by so many times what was eroded, within the tissue: the rim of cortex and its folds."""


_THRESHOLD_SHARE = 0.75
"""The share of Otsu's threshold above which is tissue: the threshold lies between gray and white matter."""

Mask = NDArray[np.bool_]


def head_mask(volume: Volume) -> Mask:
    """All that is not air: the largest body above Otsu's threshold, with its cavities filled.

    Returns:
        bool, of the shape of the volume. All True where there is no contrast to find a head by.
    """
    return _on_grid(volume, _head)


def brain_mask(volume: Volume) -> Mask:
    """The brain with its ventricles, from a head or from a volume that is stripped of its skull already.

    Returns:
        bool, of the shape of the volume. All True where there is no contrast to find a brain by.
    """
    return _on_grid(volume, _brain)


def otsu(values: NDArray[np.float32]) -> float:
    """Otsu's threshold (IEEE Trans SMC 9, 1979): the cut that leaves the two sides most alike within themselves."""
    counts, edges = np.histogram(values, bins=256)
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return float(centres[np.nanargmax(between[:-1])]) if len(values) else 0.0


def _on_grid(volume: Volume, find: object) -> Mask:
    assert callable(find)
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
    """Between air and tissue; the brightest voxels, vessels and fat, are cut so that they do not draw it up."""
    return otsu(np.minimum(values, np.percentile(values, 99)).ravel())


def _brain(values: NDArray[np.float32], spacing: np.ndarray) -> Mask:
    head = _head(values, spacing)
    if not head.any():
        return np.ones(values.shape, bool)
    inside = head & _below_top(head, spacing)
    threshold = otsu(np.minimum(values, np.percentile(values[inside], 98))[inside])
    tissue = inside & (values > _THRESHOLD_SHARE * threshold)
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
    """The largest connected part."""
    labels, count = ndimage.label(mask)
    if count < 2:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray(labels == sizes.argmax())


def _eroded(mask: Mask, spacing: np.ndarray, radius: float) -> Mask:
    """Without what lies within ``radius`` mm of the outside; distances take care of voxels that are not cubes."""
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
    """Without holes, seen in three dimensions and in each axial slice."""
    mask = np.asarray(ndimage.binary_fill_holes(mask))
    return np.stack([ndimage.binary_fill_holes(mask[:, :, number]) for number in range(mask.shape[2])], axis=2)
