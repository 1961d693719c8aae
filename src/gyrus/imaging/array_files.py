"""Write arrays as image files with the same pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gyrus.imaging.orientation import array_from_slices


def write_image(path: Path, image: npt.NDArray[np.uint8]) -> None:
    """Write an image (rows, columns) or (rows, columns, 3) as PNG."""
    from PIL import Image

    Image.fromarray(image).save(path, compress_level=1)


def write_volume(path: Path, volume: npt.NDArray[Any], spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> None:
    """Write a volume (slices, rows, columns) as NIfTI in RAS, so that its slices are read as they are.

    Args:
        path: A ``.nii`` file.
        volume: Axial slices from bottom to top, front at the top, of a type that NIfTI has.
        spacing: mm along slices, rows and columns.
    """
    import nibabel

    nibabel.save(nibabel.Nifti1Image(array_from_slices(volume), np.diag([*spacing[::-1], 1.0])), path)
