"""Phantom FLAIR slices whose classes differ in bright spots at random places.

Controls have few lesions of the white matter, the other class has many. The anatomy says nothing about the class, and
no pixel is brighter in one class than in the other on average, so a linear classifier of pixels can only guess. A
network that learns what a lesion is can be right. Neighbouring slices of a subject share their lesions, so a split by
image leaks.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gyrus.synthetic.phantom import (
    VENTRICLE,
    Phantom,
    SubjectParameters,
    described,
    draw_subject,
    outline,
    render,
)

CLASSES = ("Control", "Lesions")

_FLAIR = (0.12, 0.72, 0.58)
"""Gray values of CSF, gray matter and white matter in a FLAIR image, as fractions of the white matter in T1."""

_COUNTS = ((0, 7), (15, 30))
_RADIUS = (4.0, 6.0)
_BRIGHTER = 110.0
_BELOW_SURFACE = 7.0  # mm from the surface of the brain and from the ventricles


def generate_lesions(
    subjects: int = 60,
    slices: int = 16,
    size: int = 128,
    seed: int = 0,
    *,
    counts: tuple[tuple[int, int], tuple[int, int]] = _COUNTS,
    radius: tuple[float, float] = _RADIUS,
    brighter: float = _BRIGHTER,
) -> Phantom:
    """Generate synthetic subjects with lesions.

    Args:
        subjects: Number of subjects.
        slices: Axial slices of each subject, evenly spaced over 40 mm. A single slice cuts all lesions.
        size: Rows and columns of a slice.
        seed: Seed of the random numbers.
        counts: Fewest and most lesions of a subject of each class.
        radius: Smallest and largest radius, mm.
        brighter: Gray values of a lesion above its surroundings. Gray matter is about 30 brighter than white matter.

    Returns:
        FLAIR slices. ``structures`` marks the lesions with 1. Controls and subjects with lesions alternate.

    Raises:
        ConfigError: An argument is out of range.
    """
    made = replace(outline(subjects, slices, len(CLASSES), size, seed), class_names=CLASSES)
    drawn = []
    for number, label in enumerate(made.labels):
        generator = np.random.default_rng([seed, number, 3])
        subject = as_flair(draw_subject(generator, float(generator.uniform(0.1, 0.7))))
        flair, anatomy = render(subject, generator, slices, size)
        tissue = (flair > 0) & (anatomy != VENTRICLE)
        inner = ndimage.distance_transform_edt(tissue, sampling=made.spacing) > _BELOW_SURFACE
        count = int(generator.integers(*counts[label], endpoint=True))
        field = tissue * draw_lesions(inner, count, radius, made.spacing, generator, edge=made.spacing[1])
        made.volumes[number] = np.clip(flair + brighter * field, 0, 255).astype(np.uint8)
        made.structures[number] = field > 0.5
        drawn.append(subject)
    return described(made, drawn)


def as_flair(subject: SubjectParameters) -> SubjectParameters:
    """The same subject with the gray values of a FLAIR image."""
    white = subject.signals[2]
    return replace(subject, signals=(white * _FLAIR[0], white * _FLAIR[1], white * _FLAIR[2]))


def draw_lesions(
    places: NDArray[np.bool_],
    count: int,
    radius: tuple[float, float],
    spacing: tuple[float, float, float],
    generator: np.random.Generator,
    *,
    edge: float = 1.0,
) -> NDArray[np.float32]:
    """Draw balls at random places.

    Args:
        places: Where centres may lie, bool (slices, rows, columns).
        count: Number of balls.
        radius: Smallest and largest radius, mm.
        spacing: Millimetres between slices, rows, columns.
        generator: Source of centres and radii.
        edge: Width of the transition at the surface of a ball, mm.

    Returns:
        0 outside to 1 inside, float32 of the shape of ``places``.
    """
    candidates = np.argwhere(places)
    field = np.zeros(places.shape, dtype=np.float32)
    grid = np.stack(np.meshgrid(*map(np.arange, places.shape), indexing="ij"), axis=-1) * spacing
    for centre in candidates[generator.integers(len(candidates), size=count)] if len(candidates) else ():
        away = np.linalg.norm(grid - centre * spacing, axis=-1)
        field = np.maximum(field, np.clip((generator.uniform(*radius) - away) / edge + 0.5, 0, 1).astype(np.float32))
    return field
