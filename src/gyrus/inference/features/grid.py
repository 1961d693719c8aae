"""Images as means over blocks of voxels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gyrus.errors import DataError
from gyrus.inference.features.base import FeatureMaker, Floats


@dataclass(frozen=True)
class Grid:
    """Blocks of voxels, whose means are the cells of an image.

    Attributes:
        image: Voxels of the images along each axis.
        cells: Blocks along each axis.
    """

    image: tuple[int, ...]
    cells: tuple[int, ...]

    @classmethod
    def for_images(cls, image: Sequence[int], most: int) -> Grid:
        """Blocks that are as cubic as possible, at most ``most`` of them, and none smaller than a voxel."""
        cells = np.array(image, dtype=np.float64)
        if cells.prod() <= most:
            return cls(tuple(image), tuple(image))
        low, high = 1.0, float(max(image))
        for _ in range(60):  # the edge of the blocks, by bisection: the number of blocks falls with it
            edge = (low + high) / 2
            low, high = (low, edge) if _divided(image, edge).prod() <= most else (edge, high)
        return cls(tuple(image), tuple(int(each) for each in _divided(image, high)))

    def means(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The means of values (n, C, *image), (n, C, *cells): float32, or float64 of whole numbers.

        Raises:
            DataError: The images have another size.
        """
        if values.shape[2:] != self.image:
            raise DataError(
                f"The images have {' x '.join(map(str, values.shape[2:]))} voxels after the preprocessing, and the "
                f"classifier was fitted on {' x '.join(map(str, self.image))}. Resize them in the preprocessing."
            )
        # Fractions are exact to the last digit, so that trees never split between two equal ones.
        dtype = np.float32 if values.dtype.kind == "f" else np.float64
        means: npt.NDArray[Any] = values.astype(dtype, copy=False)
        for axis, (length, count) in enumerate(zip(self.image, self.cells, strict=True), 2):
            if count < length:
                ends = np.linspace(0, length, count + 1).astype(int)
                widths = np.diff(ends).reshape([-1 if each == axis else 1 for each in range(means.ndim)])
                means = (np.add.reduceat(means, ends[:-1], axis=axis) / widths).astype(dtype)
        return means

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Grid:
        """Load what ``asdict`` gave."""
        return cls(tuple(map(int, document["image"])), tuple(map(int, document["cells"])))


def _divided(image: Sequence[int], edge: float) -> Floats:
    return np.maximum(np.floor(np.array(image, dtype=np.float64) / edge), 1)


class OnGrid(FeatureMaker):
    """A maker whose images have the size of a grid."""

    grid: Grid

    @property
    def spatial_dims(self) -> int:
        """Those of the grid."""
        return len(self.grid.image)
