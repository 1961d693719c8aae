"""Where the network's pixels lie on the original pixel grid and in scanner space, to resample maps and labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gyrus.errors import DataError
from gyrus.imaging.orientation import affine_from_slices
from gyrus.imaging.volume import Volume
from gyrus.transforms.image_steps import Crop, Pad, Resize
from gyrus.transforms.preprocessing import AnyImageStep

Matrix = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Placement:
    """The mapping from the network's pixel grid to the original grid of an image.

    Attributes:
        matrix: float64 (n + 1, n + 1), from pixel indices of the network to those of the original image.
        shape: Pixels of the original image along each axis.
    """

    matrix: Matrix
    shape: tuple[int, ...]

    def to_original(self, values: np.ndarray) -> NDArray[np.float32]:
        """A map on the network's grid, resampled linearly to the original grid; 0 outside the network's view."""
        inverse = np.linalg.inv(self.matrix)
        linear, offset = inverse[:-1, :-1], inverse[:-1, -1]
        resampled = ndimage.affine_transform(
            np.asarray(values, np.float32), linear, offset, output_shape=self.shape, order=1, mode="nearest"
        )
        inside = np.ones(values.shape, np.float32)
        resampled *= ndimage.affine_transform(
            inside, linear, offset, output_shape=self.shape, order=0, mode="grid-constant", cval=0
        )
        return resampled

    def to_network(self, labels: np.ndarray, shape: Sequence[int]) -> np.ndarray:
        """Labels on the original grid, resampled to the network's grid of that shape; 0 outside the original image."""
        linear, offset = self.matrix[:-1, :-1], self.matrix[:-1, -1]
        return ndimage.affine_transform(
            labels, linear, offset, output_shape=tuple(shape), order=0, mode="grid-constant", cval=0
        )


def in_plane(steps: Sequence[AnyImageStep], shape: tuple[int, int]) -> tuple[Matrix, tuple[int, int]]:
    """The effect of preprocessing steps on pixel coordinates.

    Args:
        steps: The steps, in order.
        shape: Rows and columns before the steps.

    Returns:
        (3, 3), from pixels after the steps to pixels before them; and the rows and columns after them.
    """
    matrix = np.eye(3)
    for step in steps:
        if isinstance(step, Resize):
            matrix, shape = _resized(matrix, shape, step)
        elif isinstance(step, Pad | Crop):
            matrix, shape = matrix @ _centred(shape, step.size), step.size
    return matrix, shape


def placement_of_slices(
    steps: Sequence[AnyImageStep], original: tuple[int, ...], network: tuple[int, ...]
) -> Placement:
    """The placement of a slice, or of a stack of slices.

    Args:
        steps: Preprocessing steps, in order.
        original: Pixels of the original image along each axis.
        network: Pixels of the network's input along each axis.

    Raises:
        DataError: The steps do not give an image of the network's size.
    """
    matrix, plane = in_plane(steps, (original[-2], original[-1]))
    if (*original[:-2], *plane) != network:
        raise DataError(
            f"The steps turn {original} pixels into {(*original[:-2], *plane)}, but the network's input has {network}."
        )
    if len(original) == 3:
        in_slice, matrix = matrix, np.eye(4)
        matrix[1:, 1:] = in_slice
    return Placement(matrix, original)


def placement_of_volume(
    steps: Sequence[AnyImageStep], prepared: Volume, scan: Volume, network: tuple[int, ...], first_slice: int = 0
) -> Placement:
    """The placement of a volume, through scanner coordinates in mm.

    Args:
        steps: Preprocessing steps of slices, which follow those of volumes.
        prepared: The volume after the steps of volumes.
        scan: The original volume.
        network: Voxels of the network's input along each axis.
        first_slice: The slice of the prepared volume that is the network's first one.

    Raises:
        DataError: The steps do not give a volume of the network's size.
    """
    rows, columns = prepared.shape[1::-1]
    in_prepared = placement_of_slices(steps, (network[0], rows, columns), network)
    start = np.eye(4)
    start[0, 3] = first_slice
    to_mm = slices_affine(prepared) @ start @ in_prepared.matrix
    return Placement(np.linalg.inv(slices_affine(scan)) @ to_mm, scan.shape[::-1])


def slices_affine(volume: Volume) -> Matrix:
    """float64 (4, 4), from (slice, row, column) of :meth:`Volume.slices` to mm in RAS+."""
    width, height, _ = volume.shape
    to_voxel = np.zeros((4, 4))
    to_voxel[0, 2] = to_voxel[1, 1] = -1
    to_voxel[2, 0] = to_voxel[3, 3] = 1
    to_voxel[:2, 3] = width - 1, height - 1
    return volume.affine @ to_voxel


def affine_from_spacing(shape: tuple[int, ...], spacing: Sequence[float]) -> Matrix:
    """The affine of a stack (slice, row, column) with known spacing only; the centre of the stack is at 0 mm."""
    first, second, third = map(float, spacing)
    slices, rows, columns = map(int, shape)
    affine = affine_from_slices((first, second, third), (slices, rows, columns))
    return slices_affine(Volume(np.empty(shape[::-1], np.float32), affine))


def to_volume(values: np.ndarray, affine: Matrix) -> Volume:
    """Values (slices, rows, columns) with the affine of their slices, as a volume in RAS+."""
    return Volume.from_array(values.transpose(2, 1, 0), affine[:, [2, 1, 0, 3]])


def _resized(matrix: Matrix, shape: tuple[int, int], step: Resize) -> tuple[Matrix, tuple[int, int]]:
    """As :class:`gyrus.transforms.image_steps.Resize` resizes an image, and then crops or pads it."""
    if shape == step.size:
        return matrix, shape
    target = step.size
    if step.aspect != "stretch":
        ratios = step.size[0] / shape[0], step.size[1] / shape[1]
        ratio = min(ratios) if step.aspect == "pad" else max(ratios)
        target = (max(1, round(shape[0] * ratio)), max(1, round(shape[1] * ratio)))
    factors = np.array(shape) / np.array(target)
    # The outer edges of both grids coincide, not the centres of their outer pixels.
    scaling = np.diag([*factors, 1.0])
    scaling[:2, 2] = (factors - 1) / 2
    return matrix @ scaling @ _centred(target, step.size), step.size


def _centred(shape: tuple[int, int], size: tuple[int, int]) -> Matrix:
    """From pixels of an image cropped or padded evenly to ``size`` to those before; an odd pixel is at the end."""
    matrix = np.eye(3)
    for axis, (before, after) in enumerate(zip(shape, size, strict=True)):
        matrix[axis, 2] = (before - after) // 2 if before > after else -((after - before) // 2)
    return matrix
