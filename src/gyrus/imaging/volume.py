"""A volume: gray values on a grid whose place in the head is known in millimetres."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from gyrus.imaging.decoding import UnusableImageError

RIGHT_ANGLE_TOLERANCE = 1e-3
"""How far from 0 the cosine between two axes may be before a volume counts as sheared."""


@dataclass(frozen=True, eq=False)
class Volume:
    """Gray values in RAS+: the first axis runs to the person's right, the second to the front, the third upwards.

    Attributes:
        array: float32 (X, Y, Z).
        affine: float64 (4, 4), from voxel numbers to mm in the frame of the scanner.
        notes: What a reader had to decide or noticed, in words. Never anything that a header says about a person.
        mask: bool (X, Y, Z), what is brain or head, once a step has found it.
        stored: The type of the voxels in the file.
    """

    array: NDArray[np.float32]
    affine: NDArray[np.float64]
    notes: tuple[str, ...] = ()
    mask: NDArray[np.bool_] | None = None
    stored: np.dtype = field(default_factory=lambda: np.dtype(np.float32))

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Millimetres from one voxel to the next along each axis."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along each axis."""
        x, y, z = self.array.shape
        return x, y, z

    @classmethod
    def from_array(
        cls, array: np.ndarray, affine: np.ndarray, *, notes: tuple[str, ...] = (), stored: np.dtype | None = None
    ) -> Volume:
        """Bring an array to RAS+ by turning whole axes, so that no value changes.

        Args:
            array: (X, Y, Z) in any order of axes.
            affine: (4, 4), from its voxel numbers to mm, RAS+.
            notes: What the reader had to decide.
            stored: The type in the file, by default that of ``array``.

        Raises:
            UnusableImageError: The affine is not one, or the array has no voxel.
        """
        from nibabel import orientations

        affine = np.asarray(affine, dtype=np.float64)
        _require_geometry(array, affine)
        found = orientations.io_orientation(affine)
        turned = orientations.apply_orientation(array, found)
        affine = affine @ orientations.inv_ornt_aff(found, array.shape)
        notes = (*notes, *_shear_note(affine))
        values = np.array(turned, dtype=np.float32, order="C")
        broken = ~np.isfinite(values)
        if broken.any():
            notes = (*notes, "voxels without a number were set to 0")
            values[broken] = 0
        return cls(values, affine, notes, stored=np.dtype(stored or array.dtype).newbyteorder("="))

    def replaced(
        self,
        array: np.ndarray,
        *,
        affine: np.ndarray | None = None,
        mask: np.ndarray | None = None,
    ) -> Volume:
        """A copy with other values; also with another grid and mask, where given."""
        return replace(
            self,
            array=np.ascontiguousarray(array, dtype=np.float32),
            affine=self.affine if affine is None else affine,
            mask=self.mask if mask is None else mask,
        )

    def slices(self) -> NDArray[np.float32]:
        """(Z, Y, X): axial slices from the bottom up, row 0 the front, column 0 the right, as radiologists look."""
        return self.array.transpose(2, 1, 0)[:, ::-1, ::-1]


def affine_from_slices(spacing: tuple[float, float, float], shape: tuple[int, int, int]) -> NDArray[np.float64]:
    """The affine of axial slices (slices, rows, columns) once they are an array (X, Y, Z) in RAS+, centred at 0.

    Args:
        spacing: Millimetres between slices, rows and columns.
        shape: Slices, rows, columns.
    """
    steps, counts = np.array(spacing[::-1]), np.array(shape[::-1])
    affine = np.diag([*steps, 1.0])
    affine[:3, 3] = -steps * (counts - 1) / 2
    return affine


def from_slices(slices: np.ndarray) -> np.ndarray:
    """(X, Y, Z) of axial slices (Z, Y, X): the way back from :meth:`Volume.slices`."""
    return slices[:, ::-1, ::-1].transpose(2, 1, 0)


def _require_geometry(array: np.ndarray, affine: np.ndarray) -> None:
    if array.ndim != 3 or 0 in array.shape:
        raise UnusableImageError("geometry", f"a volume needs three axes with voxels, this one is {array.shape}")
    if affine.shape != (4, 4) or not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        raise UnusableImageError("geometry", "the header's affine does not place the voxels in space")


def _shear_note(affine: np.ndarray) -> tuple[str, ...]:
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    cosine = np.abs(axes.T @ axes - np.eye(3)).max()
    return ("the axes are not at right angles",) if cosine > RIGHT_ANGLE_TOLERANCE else ()
