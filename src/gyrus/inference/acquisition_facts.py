"""Facts of a scan as it was stored: grid, contrast, noise, coverage, orientation and size of the head.

They are measured on the file, before any step of the preprocessing hides them, and without a header beyond the voxel
size. The head is what is brighter than Otsu's threshold, so the facts describe any picture, also one without a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from gyrus.imaging.otsu import otsu
from gyrus.transforms.contrast_enhancement import estimate_noise

if TYPE_CHECKING:
    from gyrus.datasets.manifest import Manifest

Floats = npt.NDArray[np.float64]

LARGEST_SIDE = 64
"""Voxels along an axis on which the head is measured; larger images are thinned to fewer."""

NOISE_PLANES = 16
"""Planes of a volume on which noise is measured."""

TOLERANCE = 0.02
"""Difference of a fact that never counts: 2 % of a logarithm, 0.02 of a fraction or a correlation."""


def measure_facts(values: npt.NDArray[np.floating], spacing: Sequence[float] | None = None) -> dict[str, float]:
    """The facts of one image or volume; lengths, sizes and noise as logarithms, so that differences are ratios.

    Args:
        values: Gray values as stored: (rows, columns), (slices, rows, columns), or (X, Y, Z) in RAS+.
        spacing: mm from voxel to voxel along each axis; None where the file has none, and lengths are in voxels.

    Returns:
        By name; the names depend on the number of axes and on whether there is a spacing.
    """
    axes = [f"axis {number}" for number in range(1, values.ndim + 1)]
    steps = np.ones(values.ndim) if spacing is None else np.asarray(spacing, np.float64)
    facts = {f"voxels, {axis}": _log(length) for axis, length in zip(axes, values.shape, strict=True)}
    if spacing is not None:
        facts |= {f"spacing, {axis}": _log(step) for axis, step in zip(axes, steps, strict=True)}
        extents = steps * values.shape
        facts |= {f"extent, {axis}": _log(length) for axis, length in zip(axes, extents, strict=True)}
    noise = estimate_noise(_some_planes(values, of_volume=spacing is not None))
    thin = [max(1, -(-length // LARGEST_SIDE)) for length in values.shape]
    small, steps = np.asarray(values[tuple(slice(None, None, step) for step in thin)], np.float64), steps * thin
    head = small > otsu(small.astype(np.float32).ravel()) if np.ptp(small) > 0 else np.zeros(small.shape, bool)
    return {**facts, **_contrast_facts(small, head, noise), **_head_facts(small, head, steps, axes)}


def facts_of(manifest: Manifest, rows: Sequence[int]) -> tuple[tuple[str, ...], Floats]:
    """The facts of the files behind some rows of a manifest.

    Args:
        manifest: The samples; slices of one volume share its facts.
        rows: Positions in its table.

    Returns:
        The names of the facts, and their values (N, F).

    Raises:
        UnusableImageError: A file is missing, damaged or changed since the scan.
    """
    from gyrus.datasets.manifest import VOLUME_FILES
    from gyrus.datasets.reader import Reader

    reader = Reader(manifest)
    files = manifest.table[VOLUME_FILES].to_list() if VOLUME_FILES in manifest.table else None
    found: list[dict[str, float]] = []
    last: tuple[tuple[str, ...] | None, dict[str, float]] = (None, {})
    for row in rows:
        key = tuple(files[row]) if files is not None else None
        if key is None or key != last[0]:
            last = key, measure_facts(*reader.read_stored(row))
        found.append(last[1])
    names = tuple(dict.fromkeys(name for facts in found for name in facts))
    values = [[facts.get(name, np.nan) for name in names] for facts in found]
    return names, np.array(values).reshape(len(found), len(names))


def _some_planes(values: npt.NDArray[np.floating], *, of_volume: bool) -> npt.NDArray[np.floating]:
    """Planes along the first axis, evenly spread; an image as it is."""
    if values.ndim == 2:
        return values
    planes = np.moveaxis(values, -1, 0) if of_volume else values
    return planes[np.unique(np.linspace(0, len(planes) - 1, NOISE_PLANES).astype(int))]


def _contrast_facts(values: Floats, head: npt.NDArray[np.bool_], noise: float) -> dict[str, float]:
    """Gray values of the head and the background, relative to the median of the head."""
    inside = values[head] if head.any() else values.ravel()
    outside = values[~head] if not head.all() else values.ravel()
    low, middle, high, top = np.percentile(inside, (10, 50, 90, 99.5))
    unit = max(abs(float(middle)), 1e-6)
    return {
        "noise": _log(noise / unit),
        "dark tissue": float(low / unit),
        "bright tissue": _log(high / unit),
        "brightest voxels": _log(top / unit),
        "background": float(np.clip(outside.mean() / unit, -5, 5)),
        "negative values": float((values < 0).mean()),
        "gray levels": min(_log(len(np.unique(values))), _log(200)),
    }


def _head_facts(values: Floats, head: npt.NDArray[np.bool_], steps: Floats, axes: Sequence[str]) -> dict[str, float]:
    """Size, coverage and orientation of the head."""
    facts = {"head": float(head.mean()), "head size": _log(float(head.sum()) * float(steps.prod()))}
    gray = np.clip(values, *np.percentile(values, (0, 99)))
    for number, axis in enumerate(axes):
        others = tuple(other for other in range(values.ndim) if other != number)
        profile = head.mean(axis=others)
        cumulated = np.cumsum(profile) / max(float(profile.sum()), 1e-9)
        start, middle, end = np.searchsorted(cumulated, (0.02, 0.5, 0.98))
        length = max(int(end - start), 1)
        facts[f"length of the head, {axis}"] = _log(length * steps[number])
        facts[f"centre of mass, {axis}"] = float((middle - start) / length)
        facts[f"head at the first end, {axis}"] = float(profile[0])
        facts[f"head at the last end, {axis}"] = float(profile[-1])
        facts[f"symmetry, {axis}"] = _correlation(gray, np.flip(gray, number))
    return facts


def _correlation(one: Floats, other: Floats) -> float:
    one, other = one - one.mean(), other - other.mean()
    scale = float(np.sqrt((one**2).sum() * (other**2).sum()))
    return float((one * other).sum() / scale) if scale > 0 else 0.0


def _log(value: float) -> float:
    return float(np.log(max(float(value), 1e-4)))
