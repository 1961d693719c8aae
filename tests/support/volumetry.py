"""Heads of known volumes: ellipsoids of fluid, gray and white matter, with a template of the same form."""

from __future__ import annotations

import numpy as np
import pytest

from gyrus.imaging.volume import Volume
from gyrus.volumetry import measure
from gyrus.volumetry.template import Template, assemble

GRAY_VALUES = np.array([40.0, 110.0, 160.0])
SPACING = 4.0
HIPPOCAMPUS = (26.0, -20.0, -18.0)


def grid(spacing: float = SPACING, turn: float = 0.0) -> tuple[tuple[int, int, int], np.ndarray]:
    """Shape and affine of a grid around the origin, turned by some degrees around the vertical axis."""
    shape = tuple(int(length / spacing) for length in (176, 208, 160))
    angle = np.deg2rad(turn)
    matrix = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]) * spacing
    affine = np.eye(4)
    affine[:3, :3] = matrix
    affine[:3, 3] = -matrix @ (np.array(shape) - 1) / 2
    return shape, affine  # type: ignore[return-value]


def tissues(
    shape: tuple[int, int, int], affine: np.ndarray, *, scale: float = 1.0, ventricles: float = 1.0
) -> np.ndarray:
    """Fractions of fluid, gray and white matter in each voxel, (3, X, Y, Z), from eight points a voxel."""
    total = np.zeros((3, *shape), np.float32)
    voxels = np.indices(shape).reshape(3, -1).astype(np.float64)
    for shift in np.array([[x, y, z] for x in (-0.25, 0.25) for y in (-0.25, 0.25) for z in (-0.25, 0.25)]):
        x, y, z = (affine[:3, :3] @ (voxels + shift[:, None]) + affine[:3, 3:]) / scale
        radius = np.sqrt((x / 68) ** 2 + (y / 84) ** 2 + (z / 62) ** 2)
        kind = np.select([radius < 0.8, radius < 0.94, radius < 1], [3, 2, 1], 0)
        side, along, up = HIPPOCAMPUS
        kind[((np.abs(x) - side) / 8) ** 2 + ((y - along) / 15) ** 2 + ((z - up) / 8) ** 2 < 1] = 2
        width = 7 * ventricles
        hollow = ((np.abs(x) - 12) / width) ** 2 + (y / 26) ** 2 + ((z - 8) / (1.6 * width)) ** 2 < 1
        hollow |= (np.abs(x) < 12) & (np.abs(y) < 5) & (np.abs(z - 8) < 5)
        kind[hollow] = 1
        for number in range(3):
            total[number] += (kind == number + 1).reshape(shape) / 8
    return total


def head(
    *, spacing: float = SPACING, turn: float = 0.0, scale: float = 1.0, ventricles: float = 1.0, noise: float = 3.0
) -> tuple[Volume, dict[str, float]]:
    """A head without skull, and its true volumes in mL."""
    shape, affine = grid(spacing, turn)
    parts = tissues(shape, affine, scale=scale, ventricles=ventricles)
    values = np.tensordot(GRAY_VALUES, parts, 1)
    generator = np.random.default_rng(1)
    values = np.where(values > 20, values + noise * generator.standard_normal(values.shape), 0)
    unit = spacing**3 / 1000
    sums = [float(each.sum()) * unit for each in parts]
    truth = dict(zip(("csf_ml", "gray_matter_ml", "white_matter_ml"), sums, strict=True))
    return Volume.from_array(values.astype(np.float32), affine), truth


def template() -> Template:
    """The template of these heads, with a few structures of the atlas."""
    shape, affine = grid()
    parts = tissues(shape, affine)
    x, y, z = np.indices(shape).reshape(3, -1) * SPACING + affine[:3, 3:]
    left, right = x.reshape(shape) < 0, x.reshape(shape) >= 0
    front = y.reshape(shape) > 0
    side, along, up = HIPPOCAMPUS
    near = ((np.abs(x) - side) / 8) ** 2 + ((y - along) / 15) ** 2 + ((z - up) / 8) ** 2 < 1
    parcels = np.zeros(shape, np.int64)
    cortex = (parts[1] > 0.5) & ~near.reshape(shape)
    parcels[cortex & front & left], parcels[cortex & front & right] = 1, 2
    parcels[cortex & ~front & left], parcels[cortex & ~front & right] = 3, 4
    parcels[near.reshape(shape) & left], parcels[near.reshape(shape) & right] = 5, 6
    names = ("superiorfrontal", "superiorparietal", "hippocampus")
    structures = {2 * number + place + 1: (name, "LR"[place]) for number, name in enumerate(names) for place in (0, 1)}
    values = np.tensordot(GRAY_VALUES / 160, parts, 1).astype(np.float32)
    return assemble(values * (parts.sum(axis=0) > 0.5), parts[1], parts[2], parcels, structures, affine)


def measure_coarsely(patch: pytest.MonkeyPatch) -> None:
    """Measure these heads on their own grid of 4 mm, with a mask that needs no search: in a fraction of a second."""
    patch.setattr(measure, "_COARSEST", 5.0)
    patch.setattr(measure, "_GRID", SPACING)
    patch.setattr(measure, "_COARSE", SPACING)
    patch.setattr(measure, "brain_mask", lambda volume: volume.array > 20)
