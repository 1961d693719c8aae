"""One synthetic head: what is drawn for a person, and the slices that a scanner would make of it.

A head is a set of implicit functions in millimetres (x to the right, y to the front, z up, the origin between the
thalami), so that neighbouring slices cut one coherent volume and any number of slices shows the same person.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

FIELD_OF_VIEW = 192.0
"""Side of a slice, mm."""

SLAB = (-6.0, 34.0)
"""Where the slices lie, mm above the origin: from the thalami to above the lateral ventricles."""

VENTRICLE, SULCUS = 1, 2

Field = NDArray[np.float32]

_CORTEX = 2.7  # mm, thickness of the gray matter ribbon
_RADIUS = 68.0  # mm, where the lattice of the folds is laid round the head
_FOLD_STEP = (2.0, 2.5, 4.0)  # mm, lattice of the folds: round the head, upwards, inwards
_FOLD_DEPTH = 32.0  # mm

# The lateral ventricle of one side, front to back: x, y, z, radius in mm.
_LATERAL = np.array(
    [
        (13.5, 35.0, 1.0, 2.4),
        (7.0, 20.0, 9.0, 4.2),
        (8.0, 0.0, 15.0, 4.2),
        (12.0, -20.0, 13.0, 4.6),
        (20.0, -34.0, 3.0, 5.2),
        (19.0, -52.0, -4.0, 2.0),
    ]
)

# Deep gray nuclei of one side: centre x, y, z; radii; turn in the axial plane (degrees); share of white matter
# in the signal.
_NUCLEI = (
    ((12.0, -11.0, 3.0), (9.0, 14.0, 10.0), -20.0, 0.55),  # thalamus
    ((26.0, 8.0, 0.0), (5.5, 17.0, 11.0), 14.0, 0.15),  # putamen
    ((19.5, 5.0, -2.0), (4.0, 10.0, 7.0), 22.0, 0.6),  # pallidum
    ((15.5, 23.0, 5.0), (5.0, 9.0, 9.0), 12.0, 0.1),  # head of the caudate
)


@dataclass(frozen=True)
class Person:
    """What is particular to one person, apart from the random fields.

    Attributes:
        atrophy: How far the brain has shrunk by disease, 0 to 1.
        age: Years.
        sex: "F" or "M".
        ventricles: What is added to the radius of the ventricles, mm.
        sulci: Width of the sulci, mm.
        asymmetry: Left against right difference of the ventricles, mm.
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

    Age and disease both widen the ventricles and sulci; how wide they were to begin with differs so much from
    person to person that neighbouring classes overlap.
    """
    normal = generator.standard_normal
    sex = "FM"[int(generator.integers(2))]
    age = float(np.clip(73.0 + 4.0 * atrophy + 7.0 * normal(), 55.0, 95.0))
    years = (age - 75.0) / 10.0
    head = (1.03 if sex == "M" else 0.98) * (1.0 + 0.025 * normal())
    white = 208.0 + 6.0 * normal()
    return Person(
        atrophy=atrophy,
        age=round(age, 1),
        sex=sex,
        ventricles=float(np.clip(-0.8 + 5.6 * atrophy + 0.4 * years + 0.85 * normal(), -2.0, 8.0)),
        sulci=float(np.clip(0.5 + 2.4 * atrophy + 0.2 * years + 0.4 * normal(), 0.2, 4.5)),
        asymmetry=0.5 * normal(),
        axes=(67.0 * head * (1.0 + 0.02 * normal()), 84.0 * head * (1.0 + 0.02 * normal())),
        signals=(38.0 + 5.0 * normal(), white * (0.66 + 0.02 * normal()), white),
        noise=float(generator.uniform(5.0, 8.0)),
        shift=(1.5 * normal(), 1.5 * normal(), 1.5 * normal()),
        turn=(0.03 * normal(), 0.04 * normal(), 0.02 * normal()),
    )


def render(
    person: Person, generator: np.random.Generator, slices: int, size: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Make the slices of a head.

    Args:
        person: The particulars.
        generator: Source of the random fields (folds, shape, bias field, noise); all of anatomy is drawn before
            anything whose amount depends on ``slices`` and ``size``.
        slices: Number of axial slices, evenly spread over :data:`SLAB`, bottom to top.
        size: Rows and columns of a slice; row 0 is the front, column 0 the right side of the person.

    Returns:
        The gray values, and the mask of the structures that widen with the class (1 ventricle, 2 CSF in sulci),
        both uint8 of shape (slices, size, size).
    """
    grid = _Grid.of(slices, size)
    x, y, z = _place(grid, person, generator)
    head = _outer_surface(x, y, z, person, generator)
    midline = x - grid.smooth(generator, 25.0, 1.0)
    sulci, widths = _sulci(x, y, z, midline, head, person, generator)
    ventricles = _ventricles(x, y, z, person)
    bias = 1.0 + grid.smooth(generator, 60.0, 0.05)

    edge = grid.voxel
    brain = _inside(head, edge)
    fluid = np.maximum(_sheet(sulci, widths, edge), 1.0 - _inside(head - 0.4 * person.sulci, edge))
    cortex = np.maximum(
        _sheet(sulci, widths + 2 * _CORTEX, edge), 1.0 - _inside(head - 0.4 * person.sulci - _CORTEX, edge)
    )
    white = (1.0 - cortex) * _white_in_nuclei(x, y, z, edge)
    hollow = _inside(-ventricles, edge)
    fluid = np.maximum(fluid * (1.0 - hollow), hollow)
    white *= 1.0 - hollow

    low, middle, high = person.signals
    image = middle + (high - middle) * white
    image += (low - image) * fluid
    image = brain * (bias * image)
    image = ndimage.gaussian_filter(image, (0.0, 0.45 * 1.5 / edge, 0.45 * 1.5 / edge))
    speckle = generator.standard_normal(image.shape, dtype=np.float32) * person.noise
    image += speckle * np.minimum(brain, 1.0)
    structures = np.where(hollow >= 0.5, VENTRICLE, np.where((fluid * brain) >= 0.5, SULCUS, 0))
    return np.clip(np.rint(image), 0, 255).astype(np.uint8), structures.astype(np.uint8)


@dataclass(frozen=True)
class _Grid:
    """The centres of the voxels, mm: z of the slices, y of the rows, x of the columns."""

    z: Field
    y: Field
    x: Field

    @classmethod
    def of(cls, slices: int, size: int) -> _Grid:
        bottom, top = SLAB
        z = bottom + (np.arange(slices) + 0.5) * (top - bottom) / slices
        across = (np.arange(size) - (size - 1) / 2) * (FIELD_OF_VIEW / size)
        return cls(z.astype(np.float32), -across.astype(np.float32), -across.astype(np.float32))

    @property
    def voxel(self) -> float:
        """Side of a voxel within the slice, mm."""
        return FIELD_OF_VIEW / len(self.x)

    def smooth(self, generator: np.random.Generator, length: float, deviation: float) -> Field:
        """A smooth random field of shape (slices, rows, columns).

        Args:
            generator: Source of the weights; how many are drawn does not depend on the grid.
            length: How far one has to go for another value, mm.
            deviation: Standard deviation of the values.
        """
        bases = [_bumps(axis, length) for axis in (self.z, self.y, self.x)]
        weights = generator.standard_normal([basis.shape[1] for basis in bases], dtype=np.float32) * deviation
        planes = np.einsum("zi,ijk->zjk", bases[0], weights)
        return np.matmul(np.matmul(bases[1], planes), bases[2].T)


def _bumps(positions: Field, length: float) -> Field:
    """Gaussian bumps a ``length`` apart over the field of view, with squares that sum to one at each position."""
    reach = FIELD_OF_VIEW / 2 + length
    centres = np.arange(-reach, reach + length, length, dtype=np.float32)
    basis = np.exp(-0.5 * ((positions[:, None] - centres) / (0.7 * length)) ** 2)
    return basis / np.sqrt((basis**2).sum(axis=1, keepdims=True))


def _place(grid: _Grid, person: Person, generator: np.random.Generator) -> tuple[Field, Field, Field]:
    """Coordinates in the frame of the head, bent by a smooth displacement: three (slices, rows, columns)."""
    turn, pitch, roll = person.turn
    z, y, x = np.meshgrid(grid.z, grid.y, grid.x, indexing="ij")
    x, y, z = x - person.shift[0], y - person.shift[1], z - person.shift[2]
    x, y, z = x + turn * y - roll * z, y - turn * x - pitch * z, z + pitch * y + roll * x
    x += grid.smooth(generator, 35.0, 1.3)
    y += grid.smooth(generator, 35.0, 1.6)
    z += grid.smooth(generator, 35.0, 1.3)
    return x, y, z


def _outer_surface(x: Field, y: Field, z: Field, person: Person, generator: np.random.Generator) -> Field:
    """Depth below the outer surface of the brain along the ray from the axis, mm; negative outside."""
    angle = np.arctan2(x, y)
    shape = 1.0 - 0.035 * np.cos(angle) - 0.02 * np.cos(4 * angle) - 0.012 * np.exp(-((angle / 0.12) ** 2))
    for order in (2, 3, 4, 5):
        cosine, sine = generator.standard_normal(2) * 0.02 / order
        shape += (cosine * np.cos(order * angle) + sine * np.sin(order * angle)).astype(np.float32)
    height = np.sqrt(np.clip(1.0 - ((z + 2.0) / 74.0) ** 2, 0.05, 1.0))
    radius = np.hypot(x, y)
    relative = np.hypot(x / person.axes[0], y / person.axes[1])
    return shape * height * radius / np.maximum(relative, 1e-3) - radius


def _sulci(
    x: Field, y: Field, z: Field, midline: Field, head: Field, person: Person, generator: np.random.Generator
) -> tuple[Field, Field]:
    """Distance to the nearest sulcus or fissure (mm), and the width of the fluid there (mm)."""
    angle = np.arctan2(midline, y)
    folds = _fold_field(generator)
    steps = np.array(_FOLD_STEP, dtype=np.float32)
    round_head = (angle + np.pi) * _RADIUS / steps[0]
    upwards = (z - SLAB[0] + 20.0) / steps[1]
    inwards = np.clip(head, 0.0, _FOLD_DEPTH) / steps[2]
    near = (head > -3.0) & (head < _FOLD_DEPTH + 8.0)
    where = np.stack([round_head[near], upwards[near], inwards[near]])
    beside = np.full(x.shape, 50.0, dtype=np.float32)
    beside[near] = np.abs(ndimage.map_coordinates(folds, where, order=1, mode="nearest", output=np.float32))
    floor = np.full(x.shape, 16.0, dtype=np.float32)
    bottoms = ndimage.gaussian_filter(generator.standard_normal(folds.shape[:2], dtype=np.float32), (5.0, 4.0))
    bottoms = 15.0 + 5.0 * bottoms / bottoms.std()
    floor[near] = ndimage.map_coordinates(bottoms, where[:2], order=1, mode="nearest", output=np.float32)
    distance = np.hypot(beside, np.maximum(head - floor, 0.0))

    end = 40.0 * np.clip(1.0 - ((z - 2.0) / 30.0) ** 2, 0.0, 1.0)
    fissure = np.hypot(midline, np.maximum(end - np.where(y > 0, y, -y - 6.0), 0.0))
    width = np.full(x.shape, person.sulci, dtype=np.float32)
    width[fissure < distance] = 0.8 + 0.7 * person.sulci
    return np.minimum(distance, fissure), width


def _fold_field(generator: np.random.Generator) -> Field:
    """Signed distance to the sulci on a lattice round the head, upwards, inwards (mm, valid near zero).

    Sulci are the zero set of band-passed noise: the value over the length of its gradient is, to first order,
    the distance to that set.
    """
    bottom, top = SLAB
    lengths = (2 * np.pi * _RADIUS, top - bottom + 40.0, _FOLD_DEPTH)
    shape = [int(length / step) + 2 for length, step in zip(lengths, _FOLD_STEP, strict=True)]
    noise = generator.standard_normal(shape, dtype=np.float32)
    fine = ndimage.gaussian_filter(noise, (1.9, 1.6, 2.5))
    coarse = ndimage.gaussian_filter(noise, (3.4, 2.8, 2.5))
    band = fine / fine.std() - 0.9 * coarse / coarse.std()
    slopes = np.gradient(band, *_FOLD_STEP[:2], axis=(0, 1))
    steepness = slopes[0] ** 2 + slopes[1] ** 2
    return band / np.sqrt(steepness + 0.1 * steepness.mean())


def _ventricles(x: Field, y: Field, z: Field, person: Person) -> Field:
    """Signed distance to the wall of the lateral and third ventricles, mm; negative inside."""
    side = np.abs(x)
    added = person.ventricles + person.asymmetry * np.clip(x / 6.0, -1.0, 1.0)
    distance = np.full(x.shape, 99.0, dtype=np.float32)
    box = (side < 45.0) & (np.abs(y) < 75.0)
    points = np.stack([side[box], y[box], 0.8 * z[box]])
    inner = np.full(points.shape[1], 99.0, dtype=np.float32)
    nodes = _LATERAL * np.array([1.0, 1.0, 0.8, 1.0])
    for start, end in pairwise(nodes):
        inner = np.minimum(inner, _tube(points, start, end))
    inner -= added[box]
    # The septum keeps the two sides apart.
    inner = np.maximum(inner, 0.7 - points[0])
    third = np.hypot(np.maximum(np.abs(y[box] + 6.0) - 11.0, 0.0), np.maximum(z[box] - 3.0, 0.0))
    third = np.hypot(points[0], third) - (1.2 + 0.35 * person.ventricles)
    distance[box] = np.minimum(inner, third)
    return distance


def _tube(points: Field, start: NDArray[np.float64], end: NDArray[np.float64]) -> Field:
    """Signed distance of ``points`` (3, n) to a tube whose radius goes evenly from one end to the other."""
    axis = (end - start)[:3].astype(np.float32)
    offset = points - start[:3, None].astype(np.float32)
    share = np.clip(axis @ offset / (axis @ axis), 0.0, 1.0)
    offset -= axis[:, None] * share
    return np.sqrt((offset**2).sum(axis=0)) - (start[3] + (end[3] - start[3]) * share).astype(np.float32)


def _white_in_nuclei(x: Field, y: Field, z: Field, edge: float) -> Field:
    """Share of white matter in the signal as far as the deep nuclei go: 1 outside of them."""
    white = np.ones(x.shape, dtype=np.float32)
    box = (np.abs(x) < 45.0) & (np.abs(y) < 45.0)
    side, front, up = np.abs(x[box]), y[box], z[box]
    inner = white[box]
    for centre, radii, degrees, share in _NUCLEI:
        cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
        right, ahead = side - centre[0], front - centre[1]
        across, along = cosine * right - sine * ahead, sine * right + cosine * ahead
        relative = np.sqrt((across / radii[0]) ** 2 + (along / radii[1]) ** 2 + ((up - centre[2]) / radii[2]) ** 2)
        inner *= 1.0 - (1.0 - share) * _inside((1.0 - relative) * radii[0], 1.5 * edge)
    white[box] = inner
    return white


def _inside(depth: Field, edge: float) -> Field:
    """Share of a voxel of side ``edge`` that lies inside a surface, by the depth of its centre below it."""
    return np.clip(depth / np.float32(edge) + np.float32(0.5), 0.0, 1.0)


def _sheet(distance: Field, width: Field, edge: float) -> Field:
    """Share of a voxel of side ``edge`` that a sheet of some ``width`` fills, by the distance from its middle."""
    half = width / 2
    overlap = np.minimum(distance + edge / 2, half) - np.maximum(distance - edge / 2, -half)
    return np.clip(overlap / np.float32(edge), 0.0, 1.0)
