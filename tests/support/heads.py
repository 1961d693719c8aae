"""Small volumes for tests: a head of nested shells, and the same volume in every format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np

from gyrus.imaging.volume import Volume

OBLIQUE = np.array([[1.9, 0.1, -0.2, -30.0], [-0.1, 2.1, 0.3, -40.0], [0.2, -0.3, 2.9, 12.0], [0, 0, 0, 1]])
"""Voxels of about 2 x 2 x 3 mm on axes rotated against those of the scanner."""


def noise(shape: tuple[int, int, int] = (7, 6, 5), seed: int = 0) -> np.ndarray:
    """Whole gray values, so that every format holds them exactly."""
    return np.random.default_rng(seed).integers(0, 2000, shape).astype(np.int16)


def head(spacing: tuple[float, float, float] = (3.0, 3.0, 3.0), *, seed: int = 0) -> tuple[Volume, np.ndarray]:
    """A head with scalp, skull and brain as concentric balls, and the brain's mask."""
    shape = tuple(round(210 / length) for length in spacing)
    grid = np.meshgrid(*[(np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, spacing, strict=True)], indexing="ij")
    radius = np.sqrt(sum(axis**2 for axis in grid))
    values = np.select([radius < 68, radius < 80, radius < 88], [800.0, 80.0, 900.0], 5.0)
    values += np.random.default_rng(seed).normal(0, 15, shape)
    affine = np.diag([*spacing, 1.0])
    return Volume.from_array(values.astype(np.float32), affine), radius < 68


def nifti(array: np.ndarray, path: Path, affine: np.ndarray = OBLIQUE, **fields: object) -> Path:
    """A NIfTI file in mm, with header fields set as named."""
    image = nib.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm")
    for name, value in fields.items():
        image.header[name] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    return path


def _simpleitk(array: np.ndarray, path: Path) -> Path:
    import SimpleITK

    image = SimpleITK.GetImageFromArray(array.transpose())
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ OBLIQUE
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    # ITK wants right angles; the nearest ones are taken, and the affine for comparison is made of them.
    left, _, right = np.linalg.svd(lps[:3, :3] / spacing)
    image.SetDirection((left @ right).ravel().tolist())
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    SimpleITK.WriteImage(image, str(path))
    return path


def _npz(array: np.ndarray, path: Path) -> Path:
    np.savez(path, array=array, affine=OBLIQUE)
    return path


def _nifti2(array: np.ndarray, path: Path) -> Path:
    image = nib.Nifti2Image(array, OBLIQUE)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    return path


def _pair(array: np.ndarray, path: Path) -> Path:
    image = nib.Nifti1Pair(array, OBLIQUE)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    return path


def _mgh(array: np.ndarray, path: Path) -> Path:
    nib.save(nib.MGHImage(array, OBLIQUE), path)
    return path


def _minc(array: np.ndarray, path: Path) -> Path:
    """MINC 1: NetCDF whose dimensions are named, each with a start, a step and a direction."""
    from scipy.io import netcdf_file

    starts = np.linalg.solve(OBLIQUE[:3, :3] / np.linalg.norm(OBLIQUE[:3, :3], axis=0), OBLIQUE[:3, 3])
    with netcdf_file(path, "w") as file:
        for axis, name in enumerate(("xspace", "yspace", "zspace")):
            file.createDimension(name, array.shape[axis])
            variable = file.createVariable(name, "i4", ())
            step = float(np.linalg.norm(OBLIQUE[:3, axis]))
            variable.start, variable.step, variable.spacing = float(starts[axis]), step, b"regular__"
            variable.direction_cosines = OBLIQUE[:3, axis] / step
        names = ("zspace", "yspace", "xspace")
        image = file.createVariable("image", "i2", names)
        image[:] = array.transpose()
        image.signtype, image.valid_range = b"signed__", np.array([-32768.0, 32767.0])
        for name, value in (("image-max", 32767.0), ("image-min", -32768.0)):
            file.createVariable(name, "f8", names[:1])[:] = value
    return path


def _tensor(array: np.ndarray, path: Path) -> Path:
    import torch

    content = {"images": {"image": (torch.from_numpy(array)[None], OBLIQUE)}, "masks": {}, "additional_data": {}}
    torch.save(content, path)
    return path


FORMATS: dict[str, Callable[[np.ndarray, Path], Path]] = {
    "a.nii": nifti,
    "a.nii.gz": nifti,
    "two.nii": _nifti2,
    "pair.hdr": _pair,
    "a.mgh": _mgh,
    "a.mgz": _mgh,
    "a.mnc": _minc,
    "a.nrrd": _simpleitk,
    "a.nhdr": _simpleitk,
    "a.mha": _simpleitk,
    "a.mhd": _simpleitk,
    "a.npz": _npz,
    "a.pt": _tensor,
}
"""File name to the function that writes a volume under it, by the usual library."""
