"""A volume: gray values on a grid with a known position in mm."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from gyrus.errors import UnusableImageError
from gyrus.imaging.orientation import slices_from_array, to_ras

RIGHT_ANGLE_TOLERANCE = 1e-3
"""Largest absolute cosine between two axes of a volume that does not count as sheared."""


@dataclass(frozen=True, eq=False)
class Volume:
    """Gray values in RAS+: the first axis runs to the subject's right, the second to the front, the third upwards.

    Attributes:
        array: float32 (X, Y, Z).
        affine: float64 (4, 4), from voxel numbers to mm in the frame of the scanner.
        notes: Decisions and oddities of reading the file. Never header content that describes a person.
        mask: bool (X, Y, Z), the brain or head, once a step has found it.
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
        """Bring an array to RAS+ by flipping and permuting whole axes; voxels that are not finite become 0.

        Args:
            array: (X, Y, Z) in any order of axes.
            affine: (4, 4), from its voxel numbers to mm, RAS+.
            notes: Decisions of the reader.
            stored: The type in the file, by default that of ``array``.

        Raises:
            UnusableImageError: The affine is not valid, or the array has no voxel.
        """
        affine = np.asarray(affine, dtype=np.float64)
        if array.ndim != 3 or 0 in array.shape:
            raise UnusableImageError("geometry", f"a volume needs three axes with voxels, got shape {array.shape}")
        if affine.shape != (4, 4) or not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
            raise UnusableImageError("geometry", "the affine in the header is not valid")
        turned, affine = to_ras(array, affine)
        axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
        if np.abs(axes.T @ axes - np.eye(3)).max() > RIGHT_ANGLE_TOLERANCE:
            notes = (*notes, "the axes are not at right angles")
        values = np.array(turned, dtype=np.float32, order="C")
        # Not the whole array at once, which would take another byte per voxel.
        broken = [slab for slab in values if not np.isfinite(slab).all()]
        if broken:
            notes = (*notes, "voxels that are not finite were set to 0")
        for slab in broken:
            slab[~np.isfinite(slab)] = 0
        return cls(values, affine, notes, stored=np.dtype(stored or array.dtype).newbyteorder("="))

    def replaced(
        self, array: np.ndarray, *, affine: np.ndarray | None = None, mask: np.ndarray | None = None
    ) -> Volume:
        """A copy with other values, and with another grid and mask if given."""
        return replace(
            self,
            array=np.ascontiguousarray(array, dtype=np.float32),
            affine=self.affine if affine is None else affine,
            mask=self.mask if mask is None else mask,
        )

    def slices(self) -> NDArray[np.float32]:
        """Axial slices (Z, Y, X) from the bottom up: row 0 the front, column 0 the right (radiological convention)."""
        return slices_from_array(self.array)
