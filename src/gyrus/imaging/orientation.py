"""Orientation of volumes: to RAS+, to slices as radiologists view them, and assumed where a header lacks it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gyrus.errors import ConfigError, UnusableImageError

Plane = Literal["axial", "coronal", "sagittal"]
PLANES: tuple[Plane, ...] = ("axial", "coronal", "sagittal")

_AXIS_LETTERS = ("LR", "PA", "IS")


def to_ras(array: np.ndarray, affine: NDArray[np.float64]) -> tuple[np.ndarray, NDArray[np.float64]]:
    """Bring an array to RAS+ by flipping and permuting whole axes; no value changes.

    Args:
        array: (X, Y, Z) in any order of axes.
        affine: (4, 4), from its voxel numbers to mm, RAS+.

    Returns:
        The array, whose axes run to the subject's right, to the front and upwards, and its affine.
    """
    from nibabel import orientations

    found = orientations.io_orientation(affine)
    return orientations.apply_orientation(array, found), affine @ orientations.inv_ornt_aff(found, array.shape)


def slices_from_array(array: np.ndarray) -> np.ndarray:
    """Axial slices (Z, Y, X) of an array (X, Y, Z) in RAS+: from the bottom up, row 0 the front, column 0 the right."""
    return array.transpose(2, 1, 0)[:, ::-1, ::-1]


def array_from_slices(slices: np.ndarray) -> np.ndarray:
    """The array (X, Y, Z) in RAS+ of axial slices (Z, Y, X); the inverse of :func:`slices_from_array`."""
    return slices[:, ::-1, ::-1].transpose(2, 1, 0)


def affine_from_slices(spacing: tuple[float, float, float], shape: tuple[int, int, int]) -> NDArray[np.float64]:
    """The affine of an array (X, Y, Z) in RAS+ from axial slices, centred at 0; arguments are slices, rows, columns."""
    steps, counts = np.array(spacing[::-1]), np.array(shape[::-1])
    affine = np.diag([*steps, 1.0])
    affine[:3, 3] = -steps * (counts - 1) / 2
    return affine


def slices_along(slices: np.ndarray, plane: str) -> np.ndarray:
    """The slices of a plane, as they are usually viewed.

    Args:
        slices: Axial slices (slices, rows, columns): bottom to top, front to back, right to left.
        plane: axial: bottom to top, front at the top; coronal: back to front, head upright; sagittal: left to right,
            head upright and front on the left.
    """
    if plane == "axial":
        return slices
    if plane == "coronal":
        return slices[::-1, ::-1].transpose(1, 0, 2)
    return slices[::-1, :, ::-1].transpose(2, 0, 1)


@dataclass(frozen=True)
class AssumedGeometry:
    """Orientation and spacing that the user gives for volumes whose header lacks them; a header always wins.

    Attributes:
        orientation: Directions of the axes of the array, such as "RAS" or "LPS".
        spacing: Millimetres along each axis of the array.
        dataset: The array, where a file of HDF5 has several.
    """

    orientation: str | None = None
    spacing: tuple[float, float, float] | None = None
    dataset: str | None = None

    def __post_init__(self) -> None:
        letters = self.orientation or "RAS"
        if len(letters) != 3 or any(not set(letters) & set(pair) for pair in _AXIS_LETTERS):
            raise ConfigError(
                f"An orientation needs one letter each of L|R, P|A and I|S, for example RAS; got '{letters}'."
            )
        if self.spacing is not None and (len(self.spacing) != 3 or min(self.spacing) <= 0):
            raise ConfigError(f"A spacing is three lengths in mm above 0, for example 1,1,1; got {self.spacing}.")

    def affine(self, shape: Sequence[int], spacing: Sequence[float] | None) -> NDArray[np.float64]:
        """From voxel numbers to mm, RAS+, centred at 0; ``spacing`` is that of the header, if there is one.

        Raises:
            UnusableImageError: Neither the header nor the user gives orientation and spacing.
        """
        spacing = spacing or self.spacing
        if self.orientation is None:
            raise UnusableImageError(
                "orientation unknown", "the header has no orientation; give it with --orientation, for example RAS"
            )
        if spacing is None:
            raise UnusableImageError("spacing unknown", "the header has no voxel size; give it with --spacing, in mm")
        affine = np.zeros((4, 4))
        affine[3, 3] = 1
        for axis, letter in enumerate(self.orientation):
            world = next(number for number, pair in enumerate(_AXIS_LETTERS) if letter in pair)
            affine[world, axis] = spacing[axis] * (1 if letter in "RAS" else -1)
        affine[:3, 3] = -affine[:3, :3] @ (np.array(shape) - 1) / 2
        return affine
