"""Phantom data: synthetic heads whose ventricles and sulci widen with the class.

For demos, documents and tests. A phantom says nothing about any disease; it behaves like the real thing in the way
that matters here: neighbouring slices of one person look alike, so a split by image leaks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gyrus.errors import ConfigError
from gyrus.files import new_folder
from gyrus.registry import look_up
from gyrus.synthetic.phantom_anatomy import FIELD_OF_VIEW, SLAB
from gyrus.synthetic.phantom_head import draw_person, render
from gyrus.synthetic.phantom_layouts import LAYOUTS

_NAMES = {
    2: ("Control", "Dementia"),
    4: ("Non_Demented", "Very_Mild_Demented", "Mild_Demented", "Moderate_Demented"),
}

_ALLOWED = {
    "subjects": (1, 100_000),
    "slices": (1, 512),
    "classes": (2, 20),
    "size": (32, 512),
    "seed": (0, 2**32 - 1),
}


@dataclass(frozen=True, eq=False)
class Phantom:
    """Synthetic people and their slices.

    Attributes:
        volumes: Gray values, uint8 (subjects, slices, size, size): slices bottom to top, row 0 the front, column 0
            the right side of the person.
        labels: Class index of each subject, int64 (subjects,).
        class_names: In order of severity.
        subjects: Names of the subjects: "P001", "P002" ...
        age: Years, float64 (subjects,); rises mildly with atrophy.
        sex: "F" or "M", one a subject.
        structures: What differs by class, uint8 of the shape of ``volumes``: 1 ventricle, 2 CSF in sulci.
        spacing: Of the voxels in mm: between slices, rows, columns.
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
) -> Phantom:
    """Make synthetic people.

    Each subject has a random generator of its own: subject 7 of seed 0 is the same person whatever the number of
    subjects, and shows the same anatomy whatever the number of slices.

    Args:
        subjects: Number of people.
        slices: Axial slices of each person, evenly spread over 40 mm.
        classes: Number of classes; atrophy is a scale from 0 to 1 that is cut into that many equal parts.
        size: Rows and columns of a slice; the field of view is 192 mm.
        seed: Another seed, other people.
        balance: Relative frequency of each class, one number a class. By default the classes take turns, so that
            they are of equal size; with a balance they are drawn.

    Raises:
        ConfigError: An argument is out of its range.
    """
    _check(subjects=subjects, slices=slices, classes=classes, size=size, seed=seed)
    weights = _weights(balance, classes)
    volumes = np.empty((subjects, slices, size, size), dtype=np.uint8)
    structures = np.empty_like(volumes)
    labels = np.empty(subjects, dtype=np.int64)
    people = []
    for number in range(subjects):
        generator = np.random.default_rng([seed, number])
        drawn = int(generator.choice(classes, p=weights))
        labels[number] = number % classes if balance is None else drawn
        person = draw_person(generator, (labels[number] + generator.uniform(0.2, 0.8)) / classes)
        volumes[number], structures[number] = render(person, generator, slices, size)
        people.append(person)
    return Phantom(
        volumes=volumes,
        labels=labels,
        class_names=_NAMES.get(classes, tuple(f"Stage_{number}" for number in range(classes))),
        subjects=tuple(f"P{number + 1:03d}" for number in range(subjects)),
        age=np.array([person.age for person in people]),
        sex=tuple(person.sex for person in people),
        structures=structures,
        spacing=((SLAB[1] - SLAB[0]) / slices, FIELD_OF_VIEW / size, FIELD_OF_VIEW / size),
    )


def write(phantom: Phantom, folder: Path, layout: str = "folder") -> Path:
    """Write a phantom as files, into a new folder.

    Args:
        phantom: What to write.
        folder: Must not exist, or be empty.
        layout: One of :data:`gyrus.synthetic.phantom_layouts.LAYOUTS`.

    Returns:
        The folder, which is either complete or not there.

    Raises:
        UnknownNameError: There is no such layout.
        GyrusError: The folder is not empty, or cannot be written to.
    """
    write_files = look_up(layout, LAYOUTS, "layout")
    with new_folder(Path(folder).resolve()) as temporary:
        write_files(phantom, temporary)
    return Path(folder)


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
        raise ConfigError(f"`balance` must be {classes} numbers from 0 up, one a class, not all 0, got {balance!r}.")
    return weights / weights.sum()
