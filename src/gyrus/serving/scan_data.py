"""Scans and maps as they are sent in answers."""

from __future__ import annotations

import base64
import gzip
from pathlib import Path
from typing import Literal

import numpy as np

from gyrus.errors import UnusableImageError
from gyrus.imaging.decoding import GrayWindow, decode, encode_png
from gyrus.imaging.dicom import read_series
from gyrus.imaging.orientation import affine_from_slices, array_from_slices
from gyrus.imaging.volume import Volume
from gyrus.imaging.volume_formats import read_volume, write_nifti
from gyrus.serving.scans import Scan


def volume_of(scan: Scan, window: GrayWindow | None = None) -> Volume:
    """The volume of a scan, as it is stored; slice images are seen as axial slices of 1 mm.

    Args:
        scan: A volume, a series or slices.
        window: Gray values of slices with more than 8 bits.

    Raises:
        UnusableImageError: It cannot be read, or its slices differ in size.
    """
    if scan.kind == "slices":
        images = [decode(path.read_bytes(), window).mean(axis=0) for path in sorted(scan.path.iterdir())]
        if len({each.shape for each in images}) > 1:
            raise UnusableImageError("several sizes", "the slices differ in size")
        slices = np.stack(images).astype(np.float32)
        return Volume.from_array(array_from_slices(slices), affine_from_slices((1.0, 1.0, 1.0), slices.shape))
    return read_series(sorted(scan.path.iterdir())) if scan.kind == "series" else read_volume(scan.path)


def nifti(volume: Volume, folder: Path) -> dict[str, str]:
    """A volume as NIfTI for an answer, without anything of its header but the grid.

    Args:
        volume: The volume.
        folder: Of temporary files.
    """
    path = folder / "view.nii"
    try:
        write_nifti(volume, path)
        content = gzip.compress(path.read_bytes(), compresslevel=1, mtime=0)
    finally:
        path.unlink(missing_ok=True)
    return _encoded("nifti", content)


def png(pixels: np.ndarray) -> dict[str, str]:
    """Pixels uint8 (C, rows, columns) as PNG for an answer."""
    return _encoded("png", encode_png(pixels))


def _encoded(kind: Literal["png", "nifti"], content: bytes) -> dict[str, str]:
    return {"format": kind, "data": base64.b64encode(content).decode("ascii")}
