"""Where the network's pixels lie in the image's own pixels, and in the scanner, so that maps can be brought back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gyrus.errors import DataError
from gyrus.imaging.volume import Volume, affine_from_slices
from gyrus.transforms.preprocessing import AnyStep, Crop, Pad, Resize

Matrix = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Placement:
    """From the network's pixels to an image's own.

    Attributes:
        matrix: float64 (n + 1, n + 1), from the numbers of a pixel of the network to those of the image's own.
        shape: The image's own pixels along each axis.
    """

    matrix: Matrix
    shape: tuple[int, ...]

    def bring(self, values: np.ndarray) -> NDArray[np.float32]:
        """A map on the network's grid, brought to the image's own, linearly; 0 where the network saw nothing."""
        back = np.linalg.inv(self.matrix)
        turn, offset = back[:-1, :-1], back[:-1, -1]
        brought = ndimage.affine_transform(
            np.asarray(values, np.float32), turn, offset, output_shape=self.shape, order=1, mode="nearest"
        )
        seen = np.ones(values.shape, np.float32)
        brought *= ndimage.affine_transform(
            seen, turn, offset, output_shape=self.shape, order=0, mode="grid-constant", cval=0
        )
        return brought

    def fetch(self, labels: np.ndarray, shape: Sequence[int]) -> np.ndarray:
        """Labels on the image's own grid, as they lie on the network's of that shape; 0 where it reaches beyond."""
        turn, offset = self.matrix[:-1, :-1], self.matrix[:-1, -1]
        return ndimage.affine_transform(
            labels, turn, offset, output_shape=tuple(shape), order=0, mode="grid-constant", cval=0
        )


def in_plane(steps: Sequence[AnyStep], shape: tuple[int, int]) -> tuple[Matrix, tuple[int, int]]:
    """What deterministic steps do to the place of a pixel.

    Args:
        steps: In their order.
        shape: Rows and columns before.

    Returns:
        (3, 3), from pixels behind the steps to pixels before them, and the rows and columns behind them.
    """
    matrix = np.eye(3)
    for step in steps:
        if isinstance(step, Resize):
            matrix, shape = _resized(matrix, shape, step)
        elif isinstance(step, Pad | Crop):
            matrix, shape = matrix @ _centred(shape, step.size), step.size
    return matrix, shape


def place(steps: Sequence[AnyStep], own: tuple[int, ...], network: tuple[int, ...]) -> Placement:
    """The placement of an image, or of a stack of slices, that went through the steps.

    Args:
        steps: In their order.
        own: Pixels of the image along each axis.
        network: Pixels of what the network is fed.

    Raises:
        DataError: The steps do not lead from the one to the other.
    """
    matrix, plane = in_plane(steps, (own[-2], own[-1]))
    if (*own[:-2], *plane) != network:
        raise DataError(f"The steps lead from {own} to {(*own[:-2], *plane)}, but the network is fed {network}.")
    return Placement(matrix if len(own) == 2 else _with_slices(matrix), own)


def place_in_scan(
    steps: Sequence[AnyStep], prepared: Volume, scan: Volume, network: tuple[int, ...], first_slice: int = 0
) -> Placement:
    """The placement of a volume, by way of millimetres.

    Args:
        steps: Those of slices, behind those of volumes.
        prepared: The volume behind the steps of volumes.
        scan: The volume as it is in its files.
        network: Voxels of what the network is fed.
        first_slice: The slice of the prepared volume that its first one is.

    Raises:
        DataError: The steps do not lead to what the network is fed.
    """
    rows, columns = prepared.shape[1::-1]
    placed = place(steps, (network[0], rows, columns), network)
    start = np.eye(4)
    start[0, 3] = first_slice
    to_mm = slices_affine(prepared) @ start @ placed.matrix
    return Placement(np.linalg.inv(slices_affine(scan)) @ to_mm, scan.shape[::-1])


def slices_affine(volume: Volume) -> Matrix:
    """float64 (4, 4), from (slice, row, column) of :meth:`Volume.slices` to mm in RAS+."""
    across, along, _ = volume.shape
    turn = np.zeros((4, 4))
    turn[0, 2] = turn[1, 1] = -1
    turn[2, 0] = turn[3, 3] = 1
    turn[:2, 3] = across - 1, along - 1
    return volume.affine @ turn


def made_up_affine(shape: tuple[int, ...], spacing: Sequence[float]) -> Matrix:
    """The affine of slices (slice, row, column) of which only the spacing is known; the middle of the body is at 0."""
    empty = Volume(np.empty(shape[::-1], np.float32), affine_from_slices(_three(spacing), _three_ints(shape)))
    return slices_affine(empty)


def to_volume(values: np.ndarray, affine: Matrix) -> Volume:
    """Values (slices, rows, columns) with the affine of their slices, as a volume in RAS+."""
    return Volume.from_array(values.transpose(2, 1, 0), affine[:, [2, 1, 0, 3]])


def _resized(matrix: Matrix, shape: tuple[int, int], step: Resize) -> tuple[Matrix, tuple[int, int]]:
    """As :class:`gyrus.transforms.preprocessing.Resize` sizes an image, and then cuts or pads it."""
    if shape == step.size:
        return matrix, shape
    target = step.size
    if step.aspect != "stretch":
        ratios = step.size[0] / shape[0], step.size[1] / shape[1]
        ratio = min(ratios) if step.aspect == "pad" else max(ratios)
        target = (max(1, round(shape[0] * ratio)), max(1, round(shape[1] * ratio)))
    factors = np.array(shape) / np.array(target)
    # The outer edges of both grids fall together, not the centres of their outer pixels.
    scaling = np.diag([*factors, 1.0])
    scaling[:2, 2] = (factors - 1) / 2
    return matrix @ scaling @ _centred(target, step.size), step.size


def _centred(shape: tuple[int, int], size: tuple[int, int]) -> Matrix:
    """From pixels of an image cut or padded evenly to ``size`` to those before; an odd pixel goes to the end."""
    matrix = np.eye(3)
    for axis, (present, wanted) in enumerate(zip(shape, size, strict=True)):
        matrix[axis, 2] = (present - wanted) // 2 if present > wanted else -((wanted - present) // 2)
    return matrix


def _with_slices(matrix: Matrix) -> Matrix:
    whole = np.eye(4)
    whole[1:, 1:] = matrix
    return whole


def _three(spacing: Sequence[float]) -> tuple[float, float, float]:
    first, second, third = spacing
    return float(first), float(second), float(third)


def _three_ints(shape: Sequence[int]) -> tuple[int, int, int]:
    first, second, third = shape
    return int(first), int(second), int(third)
