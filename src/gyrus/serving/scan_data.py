"""Scans and maps as they are sent in answers."""

from __future__ import annotations

import base64
import gzip
from pathlib import Path
from typing import Literal

import numpy as np

from gyrus.imaging.decoding import encode_png
from gyrus.imaging.dicom import read_series
from gyrus.imaging.volume import Volume
from gyrus.imaging.volume_formats import read_volume, write_nifti
from gyrus.serving.scans import Scan


def volume_of(scan: Scan) -> Volume:
    """The volume of a scan, as it is stored.

    Raises:
        UnusableImageError: It cannot be read.
    """
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
