"""One synthetic head: what is particular to a person, and the slices that a scanner would make of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gyrus.synthetic.phantom_anatomy import (
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
"""What the mask of structures holds; 0 is everything else."""

_CORTEX = 2.7  # mm, thickness of the gray matter ribbon
_WIDEST = 5.0  # mm, width of a sulcus
_SHARPNESS = 2.5  # mm, over which cortex goes over into white matter
_BLUR = 0.8  # mm, standard deviation of the scanner's point spread


@dataclass(frozen=True)
class Person:
    """What is particular to one person, apart from the random fields.

    Attributes:
        atrophy: How far the brain has shrunk by disease, 0 to 1.
        age: Years.
        sex: "F" or "M"; men have larger heads.
        ventricles: What is added to the radius of the ventricles, mm.
        sulci: Typical width of the sulci, mm.
        asymmetry: Of the ventricles, mm.
        axes: Half width and half length of the brain, mm.
        signals: Gray values of CSF, gray matter and white matter.
        noise: Standard deviation of the noise in gray values.
        shift: Of the head in the field of view, mm: x, y, z.
        turn: Of the head, radians: in the axial plane, pitch, roll.
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


def draw_person(generator: np.random.Generator, atrophy: float) -> Person:
    """Draw the particulars of a person with a given degree of ``atrophy`` (0 to 1).

    Disease and, mildly, age widen the ventricles and the sulci; how wide they were to begin with differs so much
    from person to person that neighbouring classes overlap.
    """
    normal = generator.standard_normal
    sex = "FM"[int(generator.integers(2))]
    age = round(float(np.clip(73.0 + 4.0 * atrophy + 7.0 * normal(), 55.0, 95.0)), 1)
    decades = (age - 75.0) / 10.0
    head = (1.03 if sex == "M" else 0.98) * (1.0 + float(np.clip(0.025 * normal(), -0.05, 0.05)))
    white = 208.0 + 6.0 * normal()
    return Person(
        atrophy=atrophy,
        age=age,
        sex=sex,
        ventricles=float(np.clip(-0.8 + 5.6 * atrophy + 0.3 * decades + 0.6 * normal(), -2.0, 8.0)),
        sulci=float(np.clip(0.5 + 2.4 * atrophy + 0.15 * decades + 0.3 * normal(), 0.2, 4.5)),
        asymmetry=0.5 * normal(),
        axes=(68.0 * head * (1.0 + 0.02 * normal()), 82.0 * head * (1.0 + 0.02 * normal())),
        signals=(38.0 + 5.0 * normal(), white * (0.66 + 0.02 * normal()), white),
        noise=float(generator.uniform(3.5, 6.0)),
        # The back of the head is longer than the front: moved forward, it lies in the middle of the slice.
        shift=(2.0 * normal(), 2.5 + 2.0 * normal(), 1.5 * normal()),
        turn=(0.03 * normal(), 0.04 * normal(), 0.02 * normal()),
    )


def render(
    person: Person, generator: np.random.Generator, slices: int, size: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Make the slices of a head.

    Args:
        person: The particulars.
        generator: Source of the random fields. Noise is drawn last: all the rest is the same for any grid.
        slices: Number of axial slices, evenly spread over the slab, bottom to top.
        size: Rows and columns of a slice; row 0 is the front, column 0 the right side of the person.

    Returns:
        The gray values, and the mask of the structures that widen with the class (1 ventricle, 2 CSF in sulci),
        both uint8 of shape (slices, size, size).
    """
    grid = Grid.of(slices, size)
    brain, hollow, fluid, white = _tissues(person, grid, generator)
    low, middle, high = person.signals
    image = middle + (high - middle) * white * (1.0 + grid.smooth(generator, 9.0, 0.05))
    image += (low - image) * np.maximum(fluid, hollow)
    image *= brain * (1.0 + grid.smooth(generator, 60.0, 0.07))
    image = ndimage.gaussian_filter(image, (0.0, _BLUR / grid.voxel, _BLUR / grid.voxel))
    # A skull-stripped image is black outside of the brain, without noise.
    image += brain * person.noise * generator.standard_normal(image.shape, dtype=np.float32)
    structures = np.where(hollow >= 0.5, VENTRICLE, np.where(fluid * brain >= 0.5, SULCUS, 0))
    return np.clip(np.rint(image), 0, 255).astype(np.uint8), structures.astype(np.uint8)


def _tissues(person: Person, grid: Grid, generator: np.random.Generator) -> tuple[Field, Field, Field, Field]:
    """Shares of each voxel: within the brain's surface, in a ventricle, in other CSF, white matter."""
    edge = grid.voxel
    points = place(grid, person.shift, person.turn, generator)
    depth = depth_in_brain(points, person.axes, generator)
    midline = points.x - grid.smooth(generator, 25.0, 1.0)
    distance, widths = sulci(points, depth, midline, person.sulci, generator)
    # Sulci gape at the surface, and are wider here than there.
    widths *= np.exp(grid.smooth(generator, 14.0, 0.5)) * (1.0 + np.exp(np.minimum(-depth / 4.0, 0.0)))
    np.minimum(widths, _WIDEST, out=widths)
    hollow = inside(-ventricles(points, person.ventricles, person.asymmetry), edge)

    below = depth - 0.4 * person.sulci  # a rim of fluid lies on the cortex
    fluid = np.maximum(in_sheet(distance, widths, edge), 1.0 - inside(below, edge))
    blurred = max(edge, _SHARPNESS)
    cortex = np.maximum(in_sheet(distance, widths + 2 * _CORTEX, blurred), 1.0 - inside(below - _CORTEX, blurred))
    white = (1.0 - cortex) * white_in_nuclei(points, 1.5 * edge)
    return inside(depth, edge), hollow, fluid, white
