"""Volumes to NIfTI files whose headers hold the grid and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gyrus.files import atomic_path
from gyrus.imaging.volume import Volume


def write_nifti(volume: Volume, path: Path) -> None:
    """Write a volume as NIfTI-1, atomically: values and grid exactly, no text of any kind.

    The voxels are stored in the type that they came in where that holds every value, else as float32.

    Args:
        volume: What to write.
        path: Must end in .nii or .nii.gz.

    Raises:
        GyrusError: The file cannot be written.
    """
    import nibabel

    image = nibabel.Nifti1Image(_in_stored_type(volume), volume.affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(volume.affine, code="scanner")
    image.set_qform(volume.affine, code="scanner", strip_shears=True)
    with atomic_path(path) as temporary:
        # Compressed files carry a time and a name; without them, equal volumes are equal files.
        data = image.to_bytes()
        temporary.write_bytes(_compressed(data) if path.name.endswith(".gz") else data)


def _in_stored_type(volume: Volume) -> np.ndarray:
    kind = volume.stored
    if kind.kind in "iu" and kind.itemsize <= 4:
        cast = volume.array.astype(kind)
        if np.array_equal(cast.astype(np.float32), volume.array):
            return cast
    return volume.array


def _compressed(data: bytes) -> bytes:
    import gzip

    return gzip.compress(data, compresslevel=6, mtime=0)
