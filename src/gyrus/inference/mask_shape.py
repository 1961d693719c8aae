"""Size and shape of masks, such as those of an organ: volume, surface, axes, thickness and profile."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

INSIDE = 127
"""Pixels above this gray value are inside of a mask."""

PARTS = 8
"""Parts of equal length along a principal axis."""

EROSIONS = 3
"""The mask is eroded up to so many times."""

QUANTILES = (0.25, 0.5, 0.75, 0.9)
"""Quantiles of the depth of the voxels below the surface."""


def describe_masks(pixels: npt.NDArray[np.uint8]) -> Floats:
    """The measures of images (n, C, *spatial) whose channels are masks, (n, F): those of each channel in turn."""
    rows = [[list(describe_mask(channel > INSIDE).values()) for channel in image] for image in pixels]
    return np.array(rows, dtype=np.float64).reshape(len(pixels), -1)


def describe_mask(mask: npt.NDArray[np.bool_]) -> dict[str, float]:
    """Measures of a mask (*spatial) by name, with lengths in voxels; all NaN if fewer voxels than axes are inside.

    Elongation and flatness are those of Zwanenburg et al. 2020 (IBSI, https://doi.org/10.1148/radiol.2020191145).
    """
    from scipy import ndimage  # takes time to import, which other predictions do not need

    dims = range(mask.ndim)
    padded = np.pad(mask, 1)
    places = np.argwhere(padded).astype(np.float64)
    empty = len(places) <= mask.ndim
    if empty:
        padded = np.ones((3,) * mask.ndim, dtype=bool)
        places = np.argwhere(padded).astype(np.float64)
    volume, centre = len(places), places.mean(axis=0)
    # What follows needs no more of the image than the mask and one voxel around it.
    corners = zip(places.min(axis=0), places.max(axis=0), strict=True)
    inside = np.pad(padded[tuple(slice(int(low), int(high) + 1) for low, high in corners)], 1)
    surface = sum(int(np.abs(np.diff(inside.astype(np.int8), axis=axis)).sum()) for axis in dims)
    values, vectors = np.linalg.eigh(np.cov((places - centre).T))
    lengths, vectors = np.sqrt(np.maximum(values[::-1], 1e-12)), vectors[:, ::-1]
    along = (places - centre) @ vectors
    moments = (along / lengths) ** 3
    along = along * np.where(moments.mean(axis=0) < 0, -1, 1)  # the longer tail points forwards
    extents, box = np.ptp(along, axis=0) + 1, np.ptp(places, axis=0) + 1
    depth = ndimage.distance_transform_edt(inside)[inside]
    labels, parts = ndimage.label(inside)
    areas = [padded.sum(axis=tuple(other for other in dims if other != axis)) for axis in dims]
    found = {
        "volume": float(volume),
        "radius": volume ** (1 / mask.ndim),
        "surface": float(surface),
        "compactness": volume ** ((mask.ndim - 1) / mask.ndim) / surface,
        "elongation": lengths[1] / lengths[0],
        "flatness": lengths[-1] / lengths[0],
        "fraction of the box": volume / box.prod(),
        "fraction of the box of its axes": volume / extents.prod(),
        "parts": float(parts),
        "fraction of the largest part": np.bincount(labels.ravel())[1:].max() / volume,
        "filled fraction": ndimage.binary_fill_holes(inside).sum() / volume,
        "mean depth": depth.mean(),
        "largest depth": depth.max(),
        "spread of depth": depth.std(),
        **{f"depth, quantile {level:g}": np.quantile(depth, level) for level in QUANTILES},
    }
    for axis in dims:
        found |= {
            f"length of principal axis {axis + 1}": lengths[axis],
            f"extent of principal axis {axis + 1}": extents[axis],
            f"skewness of principal axis {axis + 1}": abs(moments[:, axis].mean()),
            f"kurtosis of principal axis {axis + 1}": ((along[:, axis] / lengths[axis]) ** 4).mean(),
            f"extent of axis {axis + 1}": box[axis],
            f"centre on axis {axis + 1}": centre[axis],
            f"largest section of axis {axis + 1}": float(areas[axis].max()),
            f"spread of sections of axis {axis + 1}": areas[axis].std(),
            f"direction of the longest axis, {axis + 1}": abs(vectors[axis, 0]),
            f"direction of the shortest axis, {axis + 1}": abs(vectors[axis, -1]),
        }
    for axis in (0, 1):
        counts = np.histogram(along[:, axis], bins=PARTS)[0] / volume
        found |= {f"part {part + 1} of principal axis {axis + 1}": counts[part] for part in range(PARTS)}
    eroded = inside
    for number in range(1, EROSIONS + 1):
        eroded = ndimage.binary_erosion(eroded)
        found[f"fraction after erosion {number}"] = eroded.sum() / volume
    return {name: float("nan") if empty else float(value) for name, value in found.items()}
