"""The anatomy of a synthetic head as implicit functions, in mm.

x points to the right, y to the front, z up; the origin lies between the thalami. Slices cut these functions, so
neighbouring slices show one coherent head. It is the same for any number of slices, because the number of random values
that a function draws never depends on the grid.
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
"""Lowest and highest position of the slices, mm: from the thalami to above the lateral ventricles."""

Field = NDArray[np.float32]
"""Values at the voxels of a grid, float32 (slices, rows, columns)."""

_RADIUS = 68.0  # mm, radius at which the folds surround the head
_FOLD_STEP = (2.0, 2.5, 4.0)  # mm, lattice of the folds: along the cortex, upwards, inwards
_FOLD_DEPTH = 32.0  # mm
_MARGIN = 20.0  # mm, of the lattice below and above the slab

# The lateral ventricle of one side, front to back: x, y, z, radius in mm.
_LATERAL = np.array(
    [
        (17.0, 33.0, -1.0, 1.8),
        (9.5, 23.0, 7.0, 3.6),
        (5.5, 8.0, 14.0, 3.6),
        (6.5, -8.0, 17.0, 3.6),
        (11.0, -22.0, 14.0, 4.2),
        (18.0, -33.0, 5.0, 4.6),
        (19.0, -51.0, -3.0, 1.8),
    ]
)
_TALL = 0.6  # factor of heights: ventricles are taller than wide

# Deep gray nuclei of one side: centre, radii (mm), rotation in the axial plane (degrees), fraction of white matter.
_NUCLEI = (
    ((12.0, -11.0, 3.0), (9.0, 14.0, 10.0), -20.0, 0.55),  # thalamus
    ((26.0, 8.0, 0.0), (5.5, 17.0, 11.0), 14.0, 0.15),  # putamen
    ((19.5, 5.0, -2.0), (4.0, 10.0, 7.0), 22.0, 0.6),  # pallidum
    ((15.5, 23.0, 5.0), (5.0, 9.0, 9.0), 12.0, 0.1),  # head of the caudate
)


@dataclass(frozen=True)
class Points:
    """Positions of the voxels in the frame of a head, mm."""

    x: Field
    y: Field
    z: Field


@dataclass(frozen=True)
class Grid:
    """The centres of the voxels in the scanner, mm: z of the slices, y of the rows, x of the columns.

    Row 0 is the front, column 0 the right side, slice 0 the lowest.
    """

    z: NDArray[np.float32]
    y: NDArray[np.float32]
    x: NDArray[np.float32]

    @classmethod
    def over_slab(cls, slices: int, size: int) -> Grid:
        """The grid of ``slices`` over the slab, with ``size`` rows and columns."""
        bottom, top = SLAB
        z = bottom + (np.arange(slices) + 0.5) * (top - bottom) / slices
        across = ((size - 1) / 2 - np.arange(size)) * (FIELD_OF_VIEW / size)
        return cls(z.astype(np.float32), across.astype(np.float32), across.astype(np.float32))

    @property
    def voxel(self) -> float:
        """Side of a voxel within the slice, mm."""
        return FIELD_OF_VIEW / len(self.x)

    def smooth(self, generator: np.random.Generator, length: float, deviation: float) -> Field:
        """A smooth random field of some standard deviation: a sum of Gaussian bumps, ``length`` mm apart."""
        bases = [_bumps(axis, length) for axis in (self.z, self.y, self.x)]
        weights = generator.standard_normal([basis.shape[1] for basis in bases], dtype=np.float32) * deviation
        planes = np.einsum("zi,ijk->zjk", bases[0], weights)
        return np.matmul(np.matmul(bases[1], planes), bases[2].T)


def place(
    grid: Grid, shift: tuple[float, float, float], turn: tuple[float, float, float], generator: np.random.Generator
) -> Points:
    """Place a head in the scanner, and deform it smoothly.

    Args:
        grid: The voxels.
        shift: Position of the head, mm along x, y and z.
        turn: Small angles in radians: in the axial plane, pitch, roll.
        generator: Source of the displacement.
    """
    yaw, pitch, roll = turn
    z, y, x = np.meshgrid(grid.z, grid.y, grid.x, indexing="ij")
    x, y, z = x - shift[0], y - shift[1], z - shift[2]
    x, y, z = x + yaw * y - roll * z, y - yaw * x - pitch * z, z + pitch * y + roll * x
    for axis in (x, y, z):
        axis += grid.smooth(generator, 35.0, 1.4)
        axis += grid.smooth(generator, 12.0, 0.7)
    return Points(x, y, z)


def depth_in_brain(points: Points, axes: tuple[float, float], generator: np.random.Generator) -> Field:
    """Depth below the outer surface along the ray from the axis of the head, mm; negative outside.

    Args:
        points: Positions in the head.
        axes: Half width and half length of the brain, mm.
        generator: Source of the shape of the head.
    """
    angle = np.arctan2(points.x, points.y)
    # Narrow in front, flat at the sides, with a notch where the fissure opens.
    shape = 1.0 - 0.035 * np.cos(angle) - 0.02 * np.cos(4 * angle) - 0.012 * np.exp(-((angle / 0.12) ** 2))
    for order in (2, 3, 4, 5):
        cosine, sine = (generator.standard_normal(2) * 0.02 / order).astype(np.float32)
        shape += cosine * np.cos(order * angle) + sine * np.sin(order * angle)
    height = np.sqrt(np.clip(1.0 - ((points.z + 2.0) / 74.0) ** 2, 0.05, 1.0))
    radius = np.hypot(points.x, points.y)
    relative = np.hypot(points.x / axes[0], points.y / axes[1])
    return shape * height * radius / np.maximum(relative, 1e-3) - radius


def sulci(
    points: Points, depth: Field, midline: Field, width: float, generator: np.random.Generator
) -> tuple[Field, Field]:
    """The sulci, the fissure between the hemispheres and the lateral sulci, as thin sheets.

    Args:
        points: Positions in the head.
        depth: Below the outer surface, mm.
        midline: Distance to the plane between the hemispheres, mm, positive to the right.
        width: Width of the fluid in a sulcus, mm.
        generator: Source of the folds.

    Returns:
        Distance to the middle of the nearest sheet, and the width of the fluid in it, both in mm.
    """
    around, medial = _Folds.draw(generator, 2 * np.pi * _RADIUS, 18.0), _Folds.draw(generator, 400.0, 9.0)
    angle = np.arctan2(midline, points.y)
    distance = around.distance(np.asarray((angle + np.pi) * _RADIUS, np.float32), points.z, depth, depth > -3.0)

    # Above the corpus callosum the fissure divides the whole brain; at its height only the front and the back.
    reach = 40.0 * np.sqrt(np.clip(1.0 - ((points.z - 2.0) / 25.0) ** 2, 0.0, 1.0))
    beyond = np.maximum(reach - np.maximum(points.y, -points.y - 6.0).clip(0.0), 0.0)
    fissure = np.hypot(midline, beyond)
    wall = np.abs(midline)
    along = points.y + np.where(midline > 0, np.float32(100.0), np.float32(300.0))
    on_wall = medial.distance(along, points.z, wall, (wall < 18.0) & (beyond < 6.0))
    distance = np.minimum(distance, np.hypot(on_wall, beyond))

    lateral = _lateral_sulcus(np.abs(angle), points.z, depth)
    widths = np.where(fissure < distance, np.float32(0.6 + 0.6 * width), np.float32(width))
    distance = np.minimum(distance, fissure)
    widths[lateral < distance] = 0.8 + 1.1 * width
    return np.minimum(distance, lateral), widths


def ventricles(points: Points, added: float, asymmetry: float) -> Field:
    """Distance to the wall of the lateral and third ventricles, mm; negative inside.

    ``added`` mm widen the lateral ventricles; ``asymmetry`` mm are added on the right and subtracted on the left.
    """
    side = np.abs(points.x)
    box = (side < 45.0) & (np.abs(points.y) < 75.0)
    inner = np.stack([side[box], points.y[box], _TALL * points.z[box]])
    nodes = _LATERAL * np.array([1.0, 1.0, _TALL, 1.0])
    lateral = np.minimum.reduce([_tube(inner, start, end) for start, end in pairwise(nodes)])
    lateral -= added + asymmetry * np.clip(points.x[box] / 6.0, -1.0, 1.0)
    lateral = np.maximum(lateral, 0.7 - inner[0])  # the septum separates the two sides

    beyond = np.hypot(np.maximum(np.abs(inner[1] + 3.0) - 9.0, 0.0), np.maximum(points.z[box] - 2.0, 0.0))
    third = np.hypot(inner[0], beyond) - (1.5 + 0.4 * added)
    distance = np.full(side.shape, 99.0, dtype=np.float32)
    distance[box] = np.minimum(lateral, third)
    return distance


def white_in_nuclei(points: Points, edge: float) -> Field:
    """Fraction of white matter in the deep gray nuclei; 1 outside of them, with a transition of ``edge`` mm."""
    box = (np.abs(points.x) < 45.0) & (np.abs(points.y) < 45.0)
    side, front, up = np.abs(points.x[box]), points.y[box], points.z[box]
    inner = np.ones(side.shape, dtype=np.float32)
    for centre, radii, degrees, fraction in _NUCLEI:
        cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
        right, ahead = side - centre[0], front - centre[1]
        across, along = (cosine * right - sine * ahead) / radii[0], (sine * right + cosine * ahead) / radii[1]
        relative = np.sqrt(across**2 + along**2 + ((up - centre[2]) / radii[2]) ** 2)
        inner *= 1.0 - (1.0 - fraction) * inside((1.0 - relative) * radii[0], edge)
    white = np.ones(points.x.shape, dtype=np.float32)
    white[box] = inner
    return white


def inside(depth: Field, edge: float) -> Field:
    """Fraction of a voxel of side ``edge`` inside a surface, from the depth of its centre below it."""
    return np.clip(depth / np.float32(edge) + np.float32(0.5), 0.0, 1.0)


def in_sheet(distance: Field, width: Field, edge: float) -> Field:
    """Fraction of a voxel of side ``edge`` filled by a sheet of some ``width``, from the distance to its middle."""
    half = width / 2
    overlap = np.minimum(distance + edge / 2, half) - np.maximum(distance - edge / 2, -half)
    return np.clip(overlap / np.float32(edge), 0.0, 1.0)


@dataclass(frozen=True)
class _Folds:
    """The folds of a stretch of cortex, on a lattice along it, upwards and inwards.

    Attributes:
        signed: Distance to the middle of the nearest sulcus, with a sign, mm; valid near zero.
        floor: Depth of the sulci, mm, along and upwards.
    """

    signed: Field
    floor: NDArray[np.float32]

    @classmethod
    def draw(cls, generator: np.random.Generator, length: float, depth: float) -> _Folds:
        """Draw folds for a stretch of some ``length`` whose sulci are about ``depth`` deep, mm.

        Sulci are the zero set of band-passed noise: the value over the length of its gradient is, to first order,
        the distance to that set.
        """
        lengths = (length, SLAB[1] - SLAB[0] + 2 * _MARGIN, _FOLD_DEPTH)
        shape = [int(side / step) + 2 for side, step in zip(lengths, _FOLD_STEP, strict=True)]
        noise = generator.standard_normal(shape, dtype=np.float32)
        fine, coarse = (ndimage.gaussian_filter(noise, width) for width in ((2.0, 1.7, 1.7), (3.6, 3.0, 1.7)))
        band = fine / fine.std() - 0.85 * coarse / coarse.std()
        steepness = np.sum(np.square(np.gradient(band, *_FOLD_STEP)), axis=0)
        floor = ndimage.gaussian_filter(generator.standard_normal(shape[:2], dtype=np.float32), (4.0, 3.0))
        return cls(band / np.sqrt(steepness + 0.1 * steepness.mean()), depth * (1.0 + 0.35 * floor / floor.std()))

    def distance(self, along: Field, z: Field, inwards: Field, where: NDArray[np.bool_]) -> Field:
        """Distance to the nearest sulcus in mm where ``where`` is True; elsewhere a large value."""
        where = where & (inwards < _FOLD_DEPTH + 8.0)
        depth = inwards[where]
        lattice = np.stack([along[where], z[where] - SLAB[0] + _MARGIN, np.clip(depth, 0.0, _FOLD_DEPTH)])
        lattice /= np.array(_FOLD_STEP, dtype=np.float32)[:, None]
        signed = ndimage.map_coordinates(self.signed, lattice, np.float32, order=1, mode="nearest")
        floor = ndimage.map_coordinates(self.floor, lattice[:2], np.float32, order=1, mode="nearest")
        distance = np.full(along.shape, 50.0, dtype=np.float32)
        distance[where] = np.hypot(signed, np.maximum(depth - floor, 0.0))
        return distance


def _lateral_sulcus(angle: Field, z: Field, depth: Field) -> Field:
    """Distance to the lateral sulcus: a stem from the surface inwards, and the sheet over the insula, mm."""
    deep = depth - 26.0
    stem = np.hypot(50.0 * (angle - 1.55 - 0.006 * z), np.maximum(deep, 0.0))
    beyond = np.maximum(np.abs(40.0 * (angle - 1.35)) - 13.0, 0.0)
    insula = np.hypot(deep + 2.0 * np.cos(6.0 * angle), beyond)
    return np.hypot(np.minimum(stem, insula), np.maximum(z - 14.0, 0.0))


def _tube(points: NDArray[np.float32], start: NDArray[np.float64], end: NDArray[np.float64]) -> NDArray[np.float32]:
    """Distance of ``points`` (3, n) to the wall of a tube whose radius changes linearly from one end to the other."""
    axis = (end - start)[:3].astype(np.float32)
    offset = points - start[:3, None].astype(np.float32)
    along = np.clip(axis @ offset / (axis @ axis), 0.0, 1.0)
    offset -= axis[:, None] * along
    return np.sqrt((offset**2).sum(axis=0)) - (start[3] + (end[3] - start[3]) * along).astype(np.float32)


def _bumps(positions: NDArray[np.float32], length: float) -> NDArray[np.float32]:
    """Gaussian bumps a ``length`` apart over the field of view, whose squares sum to one at each position."""
    reach = FIELD_OF_VIEW / 2 + length
    centres = np.arange(-reach, reach + length, length, dtype=np.float32)
    basis = np.exp(-0.5 * ((positions[:, None] - centres) / (0.7 * length)) ** 2)
    return basis / np.sqrt((basis**2).sum(axis=1, keepdims=True))
