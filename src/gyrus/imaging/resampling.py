"""Resample, crop and pad volumes; the affine follows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gyrus.errors import UnusableImageError

if TYPE_CHECKING:
    from gyrus.imaging.volume import Volume

SAME_PLACE = 0.01
"""Two grids are the same if no corner differs by more than this fraction of a voxel: room for rounded headers."""


def resample_array(
    array: NDArray[np.float32], shape: Sequence[int], *, order: int, antialias: bool = True
) -> NDArray[np.float32]:
    """Resample to another number of voxels over the same field of view.

    Args:
        array: Any number of axes.
        shape: The new number of voxels along each.
        order: Order of the spline: 0 nearest, 1 linear, 3 cubic.
        antialias: Smooth axes that shrink first, by a Gaussian with standard deviation (factor - 1) / 2 as in
            scikit-image.
    """
    from scipy import ndimage

    factors = np.array(array.shape) / np.array(shape)
    if (factors == 1).all():
        return array
    if antialias and order > 0:
        array = ndimage.gaussian_filter(array, np.maximum(0, (factors - 1) / 2), mode="nearest")
    # The outer edges of both grids coincide, not the centres of their outer voxels.
    offset = (factors - 1) / 2
    return ndimage.affine_transform(
        array, factors, offset=offset, output_shape=tuple(shape), order=order, mode="nearest", output=np.float32
    )


def resample(volume: Volume, spacing: Sequence[float], *, order: int = 1) -> Volume:
    """Resample volume and mask to a spacing in mm along X, Y and Z; ``order`` as in :func:`resample_array`.

    The spacing is rounded so that a whole number of voxels fits the same field of view.
    """
    old = np.array(volume.shape)
    new = np.maximum(1, np.round(old * np.array(volume.spacing) / np.array(spacing))).astype(int)
    if (old == new).all():
        return volume
    # From voxel numbers of the new grid to those of the old one.
    scaling = np.diag([*(old / new), 1.0])
    scaling[:3, 3] = (old / new - 1) / 2
    mask = volume.mask
    if mask is not None:
        mask = resample_array(mask.astype(np.float32), new, order=1, antialias=False) >= 0.5
    array = resample_array(volume.array, new, order=order)
    return volume.replaced(array, affine=volume.affine @ scaling, mask=mask)


def same_grid(volume: Volume, other: Volume) -> bool:
    """Whether two volumes have the same voxels: no corner differs by more than :data:`SAME_PLACE` voxels."""
    if volume.shape != other.shape:
        return False
    corners = np.array([[x, y, z, 1] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * [*volume.shape, 1]
    shift = corners @ (volume.affine - other.affine).T
    return bool(np.linalg.norm(shift[:, :3], axis=1).max() <= SAME_PLACE * min(volume.spacing))


def resample_to(volume: Volume, reference: Volume, *, order: int = 1) -> Volume:
    """Bring a volume to the grid of another one of the same session, by the positions in their headers.

    Voxels of the reference outside of the volume get its darkest value. Nothing is registered: a subject who moved
    between two sequences stays moved.

    Args:
        volume: The volume, smoothed first along axes whose voxels grow, as in :func:`resample_array`.
        reference: Its grid is used.
        order: As for :func:`resample_array`.

    Raises:
        UnusableImageError: The two do not overlap.
    """
    from scipy import ndimage

    if same_grid(volume, reference):
        return volume
    # From voxel numbers of the reference to those of the volume.
    place = np.linalg.inv(volume.affine) @ reference.affine
    corners = np.array([[x, y, z, 1] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * [*reference.shape, 1]
    reached = (corners @ place.T)[:, :3]
    if (reached.max(axis=0) < 0).any() or (reached.min(axis=0) > volume.shape).any():
        raise UnusableImageError("geometry", "by the positions in the headers the sequences do not overlap")
    array = volume.array
    factors = np.abs(place[:3, :3]).max(axis=1)
    if order > 0 and (factors > 1).any():
        array = ndimage.gaussian_filter(array, np.maximum(0, (factors - 1) / 2), mode="nearest")
    darkest = float(array.min())
    array = ndimage.affine_transform(
        array,
        place[:3, :3],
        offset=place[:3, 3],
        output_shape=reference.shape,
        order=order,
        mode="constant",
        cval=darkest,
        output=np.float32,
    )
    return volume.replaced(array, affine=reference.affine)


def crop(volume: Volume, start: Sequence[int], shape: Sequence[int], fill: float) -> Volume:
    """A box of the volume, filled where it extends beyond the volume.

    Args:
        volume: The volume; its mask is cropped too.
        start: The first voxel along each axis; negative where the box starts before the volume.
        shape: Voxels of the box along each axis.
        fill: The value outside of the volume.
    """
    affine = volume.affine.copy()
    affine[:3, 3] = (volume.affine @ [*start, 1])[:3]
    mask = None if volume.mask is None else _boxed(volume.mask, start, shape, False)
    return volume.replaced(_boxed(volume.array, start, shape, fill), affine=affine, mask=mask)


def _boxed(array: np.ndarray, start: Sequence[int], shape: Sequence[int], fill: float) -> np.ndarray:
    box = np.full(tuple(shape), fill, dtype=array.dtype)
    source, target = [], []
    for first, length, present in zip(start, shape, array.shape, strict=True):
        low, high = max(0, first), min(present, first + length)
        source.append(slice(low, max(low, high)))
        target.append(slice(low - first, max(low, high) - first))
    box[tuple(target)] = array[tuple(source)]
    return box
