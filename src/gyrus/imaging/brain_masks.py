"""Masks of the head and of the brain: by thresholds and morphology, or by an installed program.

The built-in brain mask follows the classical recipe of threshold, erosion, largest component and dilation (Atkins and
Mackiewich, IEEE Trans Med Imaging 17, 1998), on a grid of 2 mm. It is meant for cropping and for scaling gray
values; use an external tool where the border of the brain matters. Gyrus neither includes nor downloads these tools.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy  # loads its submodules on first use
from numpy.typing import NDArray

from gyrus.errors import DataError, MissingDependencyError
from gyrus.files import temporary_folder
from gyrus.imaging.otsu import otsu
from gyrus.imaging.resampling import resample_array
from gyrus.imaging.volume import Volume
from gyrus.imaging.volume_formats import read_volume, write_nifti
from gyrus.registry import look_up

_GRID = 2.0  # mm
_BRAIN_HEIGHT = 150.0
"""Height of the brain in mm, measured from the top of the head; neck and face lie below."""

_OPENINGS = (4.0, 5.0, 6.0, 7.0, 8.0)
"""Depths of erosion in mm, tried in turn to remove scalp, eyes and neck."""

_LEAK = 0.05
"""Largest fraction of its volume that a brain loses when eroded by one more millimetre. A mask that loses more was
attached to the face or neck."""

_REGROWTH = 1.75
"""The core is dilated within the tissue by this multiple of the erosion, to recover the cortex and its folds."""

_TISSUE_FRACTION = 0.75
"""Tissue is brighter than this fraction of Otsu's threshold, which lies between gray and white matter."""

Mask = NDArray[np.bool_]


def head_mask(volume: Volume) -> Mask:
    """Everything that is not air: the largest component above Otsu's threshold, with its cavities filled.

    Returns:
        bool, of the shape of the volume. All True if the volume has no contrast.
    """
    return _on_grid(volume, _head)


def brain_mask(volume: Volume) -> Mask:
    """The brain with its ventricles, from a head or from a skull-stripped volume.

    Returns:
        bool, of the shape of the volume. All True if the volume has no contrast.
    """
    return _on_grid(volume, _brain)


def _on_grid(volume: Volume, find: Callable[[NDArray[np.float32], np.ndarray], Mask]) -> Mask:
    """The mask that ``find`` gives on a grid of 2 mm, resampled to the volume."""
    factors = _GRID / np.array(volume.spacing)
    shape = tuple(int(length) for length in np.maximum(1, np.round(np.array(volume.shape) / factors)))
    small = resample_array(volume.array, shape, order=1)
    if small.max() <= small.min():
        return np.ones(volume.shape, bool)
    spacing = np.array(volume.spacing) * np.array(volume.shape) / np.array(shape)
    found = find(small, spacing)
    return resample_array(found.astype(np.float32), volume.shape, order=1, antialias=False) >= 0.5


def _head(values: NDArray[np.float32], spacing: np.ndarray) -> Mask:
    # The brightest voxels (vessels, fat) are clipped so as not to raise the threshold between air and tissue.
    body = values > otsu(np.minimum(values, np.percentile(values, 99)).ravel()) / 2
    opened = _grown(_eroded(body, spacing, 2.0), spacing, 2.0) & body
    return _filled(_closed(largest_component(opened), spacing, 6.0))


def _brain(values: NDArray[np.float32], spacing: np.ndarray) -> Mask:
    head = _head(values, spacing)
    if not head.any():
        return np.ones(values.shape, bool)
    depth = np.flatnonzero(head.any(axis=(0, 1))).max() - np.arange(head.shape[2])
    inside = head & (depth * spacing[2] <= _BRAIN_HEIGHT)
    threshold = otsu(np.minimum(values, np.percentile(values[inside], 98))[inside])
    tissue = inside & (values > _TISSUE_FRACTION * threshold)
    found = largest_component(tissue)
    for opening in _OPENINGS:
        core = largest_component(_eroded(tissue, spacing, opening))
        grown = _grown(core, spacing, _REGROWTH * opening) & tissue
        smaller = _filled(_closed(grown, spacing, 8.0)) & inside
        if smaller.sum() >= (1 - _LEAK) * found.sum() and opening > _OPENINGS[0]:
            return found
        found = smaller if smaller.any() else found
    return found


def largest_component(mask: Mask) -> Mask:
    """The largest connected component."""
    labels, count = scipy.ndimage.label(mask)
    if count < 2:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray(labels == sizes.argmax())


def _eroded(mask: Mask, spacing: np.ndarray, radius: float) -> Mask:
    """Erode by ``radius`` mm; distances account for anisotropic voxels."""
    framed = np.pad(mask, 1)
    return np.asarray(scipy.ndimage.distance_transform_edt(framed, sampling=spacing) > radius)[1:-1, 1:-1, 1:-1]


def _grown(mask: Mask, spacing: np.ndarray, radius: float) -> Mask:
    return np.asarray(scipy.ndimage.distance_transform_edt(~mask, sampling=spacing) <= radius) if mask.any() else mask


def _closed(mask: Mask, spacing: np.ndarray, radius: float) -> Mask:
    width = [int(np.ceil(radius / length)) for length in spacing]
    framed = np.pad(mask, [(one, one) for one in width])
    closed = _grown(framed, spacing, radius)
    if not closed.all():
        closed = np.asarray(scipy.ndimage.distance_transform_edt(closed, sampling=spacing) > radius)
    return closed[tuple(slice(one, -one) for one in width)] | mask


def _filled(mask: Mask) -> Mask:
    """Fill holes in three dimensions and in each axial slice."""
    mask = np.asarray(scipy.ndimage.binary_fill_holes(mask))
    return np.stack([scipy.ndimage.binary_fill_holes(mask[:, :, number]) for number in range(mask.shape[2])], axis=2)


TIMEOUT = 1800.0
"""Time limit of a program for one volume, in seconds."""


@dataclass(frozen=True)
class Tool:
    """A program that writes a brain mask.

    Attributes:
        program: Its name on the command line.
        command: Builds its arguments from the volume file and the mask file.
        mask: Maps the requested mask file to the one that the program writes.
        home: Its web page.
    """

    program: str
    command: Callable[[Path, Path], list[str]]
    mask: Callable[[Path], Path]
    home: str


TOOLS: dict[str, Tool] = {
    "hd-bet": Tool(
        "hd-bet",
        lambda volume, out: ["-i", str(volume), "-o", str(out), "-device", "cpu", "--disable_tta", "--save_bet_mask"],
        lambda out: out.with_name(out.name.replace(".nii.gz", "_bet.nii.gz")),
        "https://github.com/MIC-DKFZ/HD-BET (version 2)",
    ),
    "synthstrip": Tool(
        "mri_synthstrip",
        lambda volume, out: ["-i", str(volume), "-m", str(out)],
        lambda out: out,
        "https://surfer.nmr.mgh.harvard.edu/docs/synthstrip",
    ),
}
"""The tools by their names in configs."""


def external_mask(volume: Volume, name: str) -> NDArray[np.bool_]:
    """The mask, bool of the shape of the volume, that an installed program of :data:`TOOLS` finds.

    The volume is passed to the program without its header.

    Raises:
        UnknownNameError: There is no such tool.
        MissingDependencyError: The program is not installed.
        DataError: The program fails, or its mask does not match the volume.
    """
    tool = look_up(name, TOOLS, "tool for brain masks")
    program = shutil.which(tool.program)
    if program is None:
        raise MissingDependencyError(
            f"The program '{tool.program}' was not found. Install it from {tool.home}, "
            "or use the built-in mask (tool: classical)."
        )
    with temporary_folder() as folder:
        source, out = folder / "volume.nii.gz", folder / "mask.nii.gz"
        write_nifti(volume, source)
        _run([program, *tool.command(source, out)], tool)
        return _read_mask(tool.mask(out), volume, tool)


def _run(command: list[str], tool: Tool) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired as error:
        raise DataError(f"'{tool.program}' took longer than {TIMEOUT:.0f} s for one volume.") from error
    except OSError as error:
        raise DataError(f"'{tool.program}' cannot be run: {error.strerror}.") from error
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no output"]
        raise DataError(f"'{tool.program}' failed with exit code {done.returncode}: {last[0]}")


def _read_mask(path: Path, volume: Volume, tool: Tool) -> NDArray[np.bool_]:
    if not path.is_file():
        raise DataError(f"'{tool.program}' finished without an error, but wrote no mask to {path.name}.")
    mask = read_volume(path)
    if mask.shape != volume.shape or not np.allclose(mask.affine, volume.affine, atol=1e-3):
        raise DataError(f"'{tool.program}' wrote a mask on another grid than the volume.")
    return np.asarray(mask.array > 0.5)
