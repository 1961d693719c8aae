"""Phantom data: synthetic heads whose ventricles and sulci widen with the class.

For demonstrations, documentation and tests. A phantom carries no information about any disease, but it shares the
property that matters here: neighbouring slices of one subject look alike, so a split by image leaks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gyrus.errors import ConfigError
from gyrus.synthetic.phantom_anatomy import (
    FIELD_OF_VIEW,
    SLAB,
    Field,
    Grid,
    depth_in_brain,
    in_sheet,
    inside,
    place,
    sulci,
    ventricles,
    white_in_nuclei,
)

VENTRICLE, SULCUS = 1, 2
"""Labels in the mask of structures; 0 is everything else."""

_CORTEX = 2.7  # mm, thickness of the gray matter
_WIDEST = 5.0  # mm, greatest width of a sulcus
_SHARPNESS = 2.5  # mm, width of the transition from cortex to white matter
_BLUR = 0.8  # mm, standard deviation of the scanner's point spread function

_NAMES = {2: ("Control", "Dementia"), 4: ("Non_Demented", "Very_Mild_Demented", "Mild_Demented", "Moderate_Demented")}

_ALLOWED = {"subjects": (1, 100_000), "slices": (1, 512), "classes": (2, 20), "size": (32, 512), "seed": (0, 2**32 - 1)}


@dataclass(frozen=True, eq=False)
class Phantom:
    """Synthetic subjects and their slices.

    Attributes:
        volumes: Gray values, uint8 (subjects, slices, size, size): slices bottom to top, row 0 the front, column 0
            the right side of the subject.
        labels: Class index of each subject, int64 (subjects,).
        class_names: In order of severity.
        subjects: Names of the subjects: "P001", "P002" ...
        age: Age in years, float64 (subjects,); rises slightly with atrophy.
        sex: "F" or "M" for each subject.
        structures: Structures that differ by class, uint8 of the shape of ``volumes``: 1 ventricle, 2 CSF in sulci.
        spacing: Millimetres between slices, rows, columns.
    """

    volumes: NDArray[np.uint8]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    subjects: tuple[str, ...]
    age: NDArray[np.float64]
    sex: tuple[str, ...]
    structures: NDArray[np.uint8]
    spacing: tuple[float, float, float]


def generate(
    subjects: int = 60,
    slices: int = 16,
    classes: int = 4,
    size: int = 128,
    seed: int = 0,
    *,
    balance: Sequence[float] | None = None,
    age_effect: float = 1.0,
) -> Phantom:
    """Generate synthetic subjects.

    Each subject has its own random generator: subject 7 of seed 0 is the same for any number of subjects, and has the
    same anatomy for any number of slices.

    Args:
        subjects: Number of subjects.
        slices: Axial slices of each subject, evenly spaced over 40 mm.
        classes: Number of classes; the scale of atrophy, 0 to 1, is divided into that many equal intervals.
        size: Rows and columns of a slice; the field of view is 192 mm.
        seed: Seed of the random numbers.
        balance: Relative frequency of each class. By default classes alternate and have equal size; with a balance
            they are drawn at random.
        age_effect: How strongly age widens ventricles and sulci: 1 slightly, 6 so that an image tells the age to
            within a few years, 0 not at all; then no image tells anything about the age.

    Raises:
        ConfigError: An argument is out of range.
    """
    if not 0 <= age_effect <= 10:
        raise ConfigError(f"`age_effect` must be a number from 0 to 10, got {age_effect!r}.")
    made = outline(subjects, slices, classes, size, seed)
    weights = _weights(balance, classes)
    parameters = []
    for number in range(subjects):
        generator = np.random.default_rng([seed, number])
        drawn = int(generator.choice(classes, p=weights))
        if balance is not None:
            made.labels[number] = drawn
        subject = draw_subject(generator, (made.labels[number] + generator.uniform(0.2, 0.8)) / classes, age_effect)
        made.volumes[number], made.structures[number] = render(subject, generator, slices, size)
        parameters.append(subject)
    return described(made, parameters)


def outline(subjects: int, slices: int, classes: int, size: int, seed: int) -> Phantom:
    """Subjects without images yet: their names, the grid, and classes that alternate.

    Raises:
        ConfigError: An argument is out of range.
    """
    _check(subjects=subjects, slices=slices, classes=classes, size=size, seed=seed)
    volumes = np.zeros((subjects, slices, size, size), dtype=np.uint8)
    return Phantom(
        volumes=volumes,
        labels=np.arange(subjects, dtype=np.int64) % classes,
        class_names=_NAMES.get(classes, tuple(f"Stage_{number}" for number in range(classes))),
        subjects=tuple(f"P{number + 1:03d}" for number in range(subjects)),
        age=np.zeros(subjects),
        sex=("F",) * subjects,
        structures=np.zeros_like(volumes),
        spacing=((SLAB[1] - SLAB[0]) / slices, FIELD_OF_VIEW / size, FIELD_OF_VIEW / size),
    )


def described(phantom: Phantom, subjects: Sequence[SubjectParameters]) -> Phantom:
    """The phantom with the age and the sex of its subjects."""
    ages = np.array([subject.age for subject in subjects])
    return replace(phantom, age=ages, sex=tuple(subject.sex for subject in subjects))


def _check(**arguments: int) -> None:
    mistakes = []
    for name, value in arguments.items():
        low, high = _ALLOWED[name]
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or not low <= value <= high:
            mistakes.append(f"`{name}` must be a whole number from {low} to {high}, got {value!r}.")
    if mistakes:
        raise ConfigError(" ".join(mistakes))


def _weights(balance: Sequence[float] | None, classes: int) -> NDArray[np.float64]:
    weights = np.ones(classes) if balance is None else np.asarray(balance, dtype=np.float64)
    if weights.shape != (classes,) or not (np.isfinite(weights) & (weights >= 0)).all() or weights.sum() == 0:
        raise ConfigError(f"`balance` must be {classes} numbers from 0 up, one per class, not all 0, got {balance!r}.")
    return weights / weights.sum()


@dataclass(frozen=True)
class SubjectParameters:
    """Parameters of one synthetic subject, apart from the random fields.

    Attributes:
        atrophy: Degree of atrophy by disease, 0 to 1.
        age: Age in years.
        sex: "F" or "M"; men have larger heads.
        ventricles: Added to the radius of the ventricles, mm.
        sulci: Typical width of the sulci, mm.
        asymmetry: Asymmetry of the ventricles, mm.
        axes: Half width and half length of the brain, mm.
        signals: Gray values of CSF, gray matter and white matter.
        noise: Standard deviation of the noise in gray values.
        shift: Position of the head in the field of view, mm: x, y, z.
        turn: Rotation of the head, radians: in the axial plane, pitch, roll.
    """

    atrophy: float
    age: float
    sex: str
    ventricles: float
    sulci: float
    asymmetry: float
    axes: tuple[float, float]
    signals: tuple[float, float, float]
    noise: float
    shift: tuple[float, float, float]
    turn: tuple[float, float, float]


def draw_subject(generator: np.random.Generator, atrophy: float, age_effect: float = 1.0) -> SubjectParameters:
    """Draw the parameters of a subject with a given degree of ``atrophy`` (0 to 1); see :func:`generate`.

    Disease and, slightly, age widen the ventricles and the sulci. Their baseline width varies so much between subjects
    that neighbouring classes overlap.
    """
    normal = generator.standard_normal
    sex = "FM"[int(generator.integers(2))]
    age = round(float(np.clip(73.0 + 4.0 * atrophy * min(age_effect, 1.0) + 7.0 * normal(), 55.0, 95.0)), 1)
    decades = age_effect * (age - 75.0) / 10.0
    head = (1.03 if sex == "M" else 0.98) * (1.0 + float(np.clip(0.025 * normal(), -0.05, 0.05)))
    white = 208.0 + 6.0 * normal()
    return SubjectParameters(
        atrophy=atrophy,
        age=age,
        sex=sex,
        ventricles=float(np.clip(-0.8 + 5.6 * atrophy + 0.3 * decades + 0.6 * normal(), -2.0, 8.0)),
        sulci=float(np.clip(0.5 + 2.4 * atrophy + 0.15 * decades + 0.3 * normal(), 0.2, 4.5)),
        asymmetry=0.5 * normal(),
        axes=(68.0 * head * (1.0 + 0.02 * normal()), 82.0 * head * (1.0 + 0.02 * normal())),
        signals=(38.0 + 5.0 * normal(), white * (0.66 + 0.02 * normal()), white),
        noise=float(generator.uniform(3.5, 6.0)),
        # The back of the head is longer than the front; moving it forward centres it in the slice.
        shift=(2.0 * normal(), 2.5 + 2.0 * normal(), 1.5 * normal()),
        turn=(0.03 * normal(), 0.04 * normal(), 0.02 * normal()),
    )


def render(
    subject: SubjectParameters, generator: np.random.Generator, slices: int, size: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Render the slices of a head.

    Args:
        subject: The parameters.
        generator: Source of the random fields. Noise is drawn last, so that the anatomy is the same for any grid.
        slices: Number of axial slices, evenly spaced over the slab, bottom to top.
        size: Rows and columns of a slice; row 0 is the front, column 0 the right side of the subject.

    Returns:
        The gray values, and the mask of the structures that widen with the class (1 ventricle, 2 CSF in sulci),
        both uint8 of shape (slices, size, size).
    """
    grid = Grid.over_slab(slices, size)
    brain, hollow, fluid, white = _tissues(subject, grid, generator)
    low, middle, high = subject.signals
    image = middle + (high - middle) * white * (1.0 + grid.smooth(generator, 9.0, 0.05))
    image += (low - image) * np.maximum(fluid, hollow)
    image *= brain * (1.0 + grid.smooth(generator, 60.0, 0.07))
    image = ndimage.gaussian_filter(image, (0.0, _BLUR / grid.voxel, _BLUR / grid.voxel))
    # A skull-stripped image is black outside the brain, without noise.
    image += brain * subject.noise * generator.standard_normal(image.shape, dtype=np.float32)
    structures = np.where(hollow >= 0.5, VENTRICLE, np.where(fluid * brain >= 0.5, SULCUS, 0))
    return np.clip(np.rint(image), 0, 255).astype(np.uint8), structures.astype(np.uint8)


def _tissues(
    subject: SubjectParameters, grid: Grid, generator: np.random.Generator
) -> tuple[Field, Field, Field, Field]:
    """Fractions of each voxel: inside the brain surface, in a ventricle, in other CSF, in white matter."""
    edge = grid.voxel
    points = place(grid, subject.shift, subject.turn, generator)
    depth = depth_in_brain(points, subject.axes, generator)
    midline = points.x - grid.smooth(generator, 25.0, 1.0)
    distance, widths = sulci(points, depth, midline, subject.sulci, generator)
    # Sulci open towards the surface, and their width varies.
    widths *= np.exp(grid.smooth(generator, 14.0, 0.5)) * (1.0 + np.exp(np.minimum(-depth / 4.0, 0.0)))
    np.minimum(widths, _WIDEST, out=widths)
    hollow = inside(-ventricles(points, subject.ventricles, subject.asymmetry), edge)

    below = depth - 0.4 * subject.sulci  # a layer of fluid covers the cortex
    fluid = np.maximum(in_sheet(distance, widths, edge), 1.0 - inside(below, edge))
    blurred = max(edge, _SHARPNESS)
    cortex = np.maximum(in_sheet(distance, widths + 2 * _CORTEX, blurred), 1.0 - inside(below - _CORTEX, blurred))
    white = (1.0 - cortex) * white_in_nuclei(points, 1.5 * edge)
    return inside(depth, edge), hollow, fluid, white
