"""Phantom sessions of two sequences, T1 and FLAIR, whose classes differ in the FLAIR alone.

The anatomy of a subject is the same in both sequences and says nothing about the class. Subjects of the second class
have bright lesions around the ventricles, which T1 does not show. So a classifier of T1 can only guess, and one of both
sequences can be right: what channels are for, with a known truth.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gyrus.errors import ConfigError
from gyrus.synthetic.phantom import Phantom, described, draw_subject, outline, render
from gyrus.synthetic.phantom_lesions import CLASSES, as_flair, draw_lesions
from gyrus.synthetic.phantom_nifti import affine_of, save_volume, voxels_of, write_nifti

_LESIONS = 14
_RADIUS = (4.0, 8.0)  # mm
_BRIGHTER = 90.0  # gray values
_NEAR = (2.0, 14.0)  # mm from the wall of a ventricle


@dataclass(frozen=True, eq=False)
class SequencePhantom:
    """Synthetic sessions of two sequences.

    Attributes:
        t1: The T1 volumes, the classes, the subjects and the spacing.
        flair: Gray values of the FLAIR on the same grid, uint8 (subjects, slices, size, size).
        lesions: Whether a voxel is in a lesion, bool of the same shape.
    """

    t1: Phantom
    flair: NDArray[np.uint8]
    lesions: NDArray[np.bool_]


def generate_sequences(subjects: int = 60, slices: int = 16, size: int = 128, seed: int = 0) -> SequencePhantom:
    """Generate synthetic sessions; arguments as for :func:`gyrus.synthetic.phantom.generate`.

    Raises:
        ConfigError: An argument is out of range, or the size is odd.
    """
    if size % 2:
        raise ConfigError(f"`size` must be even, got {size}.")
    t1 = replace(outline(subjects, slices, len(CLASSES), size, seed), class_names=CLASSES)
    flair = np.empty_like(t1.volumes)
    lesions = np.zeros(flair.shape, dtype=bool)
    drawn = []
    for number, label in enumerate(t1.labels):
        place = [seed, number, 1]  # other heads than those of the plain phantom, whose atrophy depends on the class
        generator = np.random.default_rng(place)
        subject = draw_subject(generator, float(generator.uniform(0.1, 0.9)))
        state = generator.bit_generator.state
        t1.volumes[number], t1.structures[number] = render(subject, generator, slices, size)
        again = np.random.default_rng(place)
        again.bit_generator.state = state
        flair[number], _ = render(as_flair(subject), again, slices, size)
        if label == 1:
            added = _draw_lesions(t1.structures[number] == 1, t1.volumes[number] > 0, t1.spacing, generator)
            flair[number] = np.clip(flair[number] + _BRIGHTER * added, 0, 255).astype(np.uint8)
            lesions[number] = added > 0.5
        drawn.append(subject)
    return SequencePhantom(described(t1, drawn), flair, lesions)


def write_sequences(phantom: SequencePhantom, folder: Path) -> None:
    """BIDS with two sequences, the FLAIR with pixels of twice the size, and ``participants.tsv``.

    Files: ``sub-P001/anat/sub-P001_T1w.nii.gz`` and ``sub-P001/anat/sub-P001_FLAIR.nii.gz``.
    """
    write_nifti(phantom.t1, folder)
    factors = np.array([2, 2, 1])
    affine = affine_of(phantom.t1)
    # The mean of two voxels lies between them.
    affine[:3, 3] += affine[:3, :3] @ ((factors - 1) / 2)
    affine[:3, :3] = affine[:3, :3] * factors
    for name, volume in zip(phantom.t1.subjects, phantom.flair, strict=True):
        voxels = voxels_of(volume).astype(np.float32)
        means = (voxels[::2, ::2] + voxels[1::2, ::2] + voxels[::2, 1::2] + voxels[1::2, 1::2]) / 4
        path = folder / f"sub-{name}" / "anat" / f"sub-{name}_FLAIR.nii.gz"
        save_volume(np.rint(means).astype(np.uint8), affine, path)


def _draw_lesions(
    ventricles: NDArray[np.bool_],
    brain: NDArray[np.bool_],
    spacing: tuple[float, float, float],
    generator: np.random.Generator,
) -> NDArray[np.float32]:
    """Lesions near the ventricles, 0 to 1, float32 (slices, rows, columns)."""
    distance = ndimage.distance_transform_edt(~ventricles, sampling=spacing)
    places = (distance > _NEAR[0]) & (distance < _NEAR[1]) & brain
    return draw_lesions(places, _LESIONS, _RADIUS, spacing, generator) * (brain & ~ventricles)
