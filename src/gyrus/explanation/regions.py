"""Where the attribution lies: inside the brain, inside a known structure, in the regions of an atlas."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from gyrus.datasets.text_tables import read_text_table
from gyrus.errors import DataError
from gyrus.explanation.heat_map_coordinates import Matrix, Placement, slices_affine
from gyrus.imaging.brain_masks import brain_mask
from gyrus.imaging.otsu import otsu
from gyrus.imaging.volume import Volume
from gyrus.imaging.volume_formats import is_volume, read_volume

Mask = NDArray[np.bool_]

HEAD = 190.0
"""Assumed length in mm of the longer side of a slice whose pixel size is not known."""

_SKULL_DEPTH = (3.0, 16.0)
"""Depth range in mm below the outline of the head in which the skull, a dark ring, is searched."""

_SKULL_DARKNESS = 0.6
"""The skull is darker than this fraction of the scalp outside it and of the brain inside it; no rim of a brain is."""


def estimate_brain(image: np.ndarray, affine: np.ndarray | None = None) -> Mask:
    """An approximate brain mask, accurate enough to detect attribution outside the brain.

    Args:
        image: Gray values (rows, columns), or (slices, rows, columns) from bottom to top.
        affine: (4, 4), from (slice, row, column) to mm, of a volume; without it each slice is processed by itself.

    Returns:
        bool, of the shape of the image; all True for an image without contrast.
    """
    if image.ndim == 3 and affine is not None:
        return _brain_of_volume(image, affine)
    if image.ndim == 3:
        return np.stack([_brain_of_slice(one) for one in image])
    return _brain_of_slice(image)


def fraction_inside(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """The fraction of each map's absolute values that lies inside its mask.

    Args:
        maps: (N, *spatial).
        masks: bool, of the same shape.

    Returns:
        float64 (N,); NaN for an empty map.
    """
    size = np.abs(maps.reshape(len(maps), -1).astype(np.float64))
    inside = np.where(masks.reshape(len(masks), -1), size, 0).sum(1)
    total = size.sum(1)
    return np.divide(inside, total, out=np.full(len(maps), np.nan), where=total > 0)


def region_table(maps: np.ndarray, labels: np.ndarray, names: Mapping[int, str] | None = None) -> pd.DataFrame:
    """The attribution in each region.

    Args:
        maps: (N, *spatial).
        labels: int (*spatial), the region of each voxel for all maps, or (N, *spatial); 0 is outside all regions.
        names: Region number to name.

    Returns:
        One row per region, sorted by ``map_fraction``: ``region``, ``name``, ``image_fraction`` (of the voxels),
        ``map_fraction`` (of the absolute attribution), ``concentration`` (the second divided by the first; 1 is
        expected by chance), ``positive`` and ``negative`` (fractions of the attribution with that sign).

    Raises:
        DataError: Labels and maps differ in shape.
    """
    if labels.shape not in (maps.shape, maps.shape[1:]):
        raise DataError(
            f"The regions have the shape {labels.shape}, but the maps have {maps.shape[1:]}. Give the regions on the "
            "grid of the images, or as NIfTI in the space of the scans."
        )
    labels = np.broadcast_to(labels, maps.shape)
    total = float(np.abs(maps).sum(dtype=np.float64)) or np.nan
    rows = []
    for region in np.unique(labels):
        values = maps[labels == region].astype(np.float64)
        image_fraction, map_fraction = values.size / maps.size, float(np.abs(values).sum()) / total
        rows.append(
            {
                "region": int(region),
                "name": (names or {}).get(int(region), "outside" if region == 0 else f"region {region}"),
                "image_fraction": image_fraction,
                "map_fraction": map_fraction,
                "concentration": map_fraction / image_fraction,
                "positive": float(values.clip(min=0).sum()) / total,
                "negative": float(-values.clip(max=0).sum()) / total,
            }
        )
    return pd.DataFrame(rows).sort_values("map_fraction", ascending=False, kind="stable").reset_index(drop=True)


def _brain_of_volume(image: np.ndarray, affine: np.ndarray) -> Mask:
    """By :func:`gyrus.imaging.brain_masks.brain_mask`, which needs (X, Y, Z) in RAS+."""
    order = affine[:, [2, 1, 0, 3]]
    volume = Volume.from_array(np.transpose(image, (2, 1, 0)), order)
    flips = tuple(axis for axis in range(3) if order[axis, axis] < 0)
    return np.transpose(np.flip(brain_mask(volume), flips), (2, 1, 0))


def _brain_of_slice(image: np.ndarray) -> Mask:
    """The head without the skull and what lies outside it, if there is a skull."""
    values = image.astype(np.float32)
    if values.max() <= values.min():
        return np.ones(image.shape, bool)
    head, pixel = _head(values), HEAD / max(image.shape)
    depth = ndimage.distance_transform_edt(np.pad(head, 1))[1:-1, 1:-1] * pixel
    brain = depth > _skull_depth(values, depth, max(2.0, pixel))
    return np.asarray(brain) if brain.any() else head


def _head(values: np.ndarray) -> Mask:
    body = values > otsu(np.minimum(values, np.percentile(values, 99)).ravel()) / 2
    width = max(1, round(max(values.shape) / 32))
    closed = ndimage.binary_closing(np.pad(body, width), iterations=width)[width:-width, width:-width]
    labels, count = ndimage.label(closed | body)
    if count == 0:
        return np.ones(values.shape, bool)
    largest = labels == np.bincount(labels.ravel())[1:].argmax() + 1
    return np.asarray(ndimage.binary_fill_holes(largest))


def _skull_depth(values: np.ndarray, depth: np.ndarray, width: float) -> float:
    """Depth in mm below the outline at which the dark ring of the skull ends; 0 without a skull.

    Args:
        values: Gray values of a slice.
        depth: Depth of each pixel below the outline of the head, mm.
        width: Width of the examined rings, mm.
    """
    edges = np.arange(0.0, 2 * _SKULL_DEPTH[1], width)
    rings = [(depth > low) & (depth <= low + width) for low in edges]
    profile = np.array([np.median(values[ring]) for ring in rings if ring.any()])
    edges = edges[: len(profile)]
    within = np.flatnonzero((edges >= _SKULL_DEPTH[0]) & (edges <= _SKULL_DEPTH[1]))
    if not len(within):
        return 0.0
    darkest = int(within[profile[within].argmin()])
    scalp, brain = profile[:darkest].max(), profile[darkest:].max()
    if profile[darkest] >= _SKULL_DARKNESS * min(scalp, brain):
        return 0.0
    is_brain = profile[darkest:] > (profile[darkest] + brain) / 2
    return float(edges[darkest + int(is_brain.argmax())])


@dataclass(frozen=True)
class Atlas:
    """The files of an atlas.

    Attributes:
        path: A label file for all images, or a pattern with {subject} or {sample} for one file per image: a volume
            (NIfTI or another format) in the space of the scans, or a PNG or .npy file on the images' original grid.
        names: A table (.csv, .tsv) with region numbers in the first column and names in the second, if there is one.
    """

    path: str
    names: Path | None = None

    def file(self, sample: str, subject: str | None) -> Path:
        """The file of an image, which may be missing."""
        return Path(self.path.replace("{sample}", Path(sample).stem).replace("{subject}", subject or ""))

    def labels(
        self, sample: str, subject: str | None, placement: Placement, network: tuple[int, ...], affine: Matrix | None
    ) -> np.ndarray:
        """The region of each of the network's pixels, int64; 0 outside all regions.

        Args:
            sample: Name of the image.
            subject: Its subject, where known.
            placement: Where the network's pixels lie on the original grid.
            network: Pixels of the network's input along each axis.
            affine: From (slice, row, column) of the original image to mm, where known.

        Raises:
            DataError: The file is missing, or its grid does not fit the image.
        """
        path = self.file(sample, subject)
        if not path.is_file():
            raise DataError(f"No regions for {sample}: {path} does not exist.")
        if is_volume(path.name) and path.suffix != ".npy":  # an array has no position in the scanner
            return _from_volume(path, placement, network, affine)
        labels = np.load(path, allow_pickle=False) if path.suffix == ".npy" else np.asarray(Image.open(path))
        if labels.shape != placement.shape:
            raise DataError(
                f"{path} has the shape {labels.shape}, but {sample} has {placement.shape}. Both must share a grid."
            )
        return placement.to_network(labels.astype(np.int64), network)

    def read_names(self) -> dict[int, str]:
        """Region number to name.

        Raises:
            DataError: The table is missing, or does not hold numbers and names.
        """
        if self.names is None:
            return {}
        try:
            table, _ = read_text_table(self.names)
            if len(table.columns) == 1:  # numbers and names with spaces between them
                table = table.iloc[:, 0].str.strip().str.split(n=1, expand=True)
            numbers = table.iloc[:, 0].astype(int)
            return dict(zip(numbers.tolist(), table.iloc[:, 1].astype(str).tolist(), strict=True))
        except (OSError, ValueError, IndexError, csv.Error) as error:
            raise DataError(
                f"{self.names} is not a table of regions: its columns must be numbers, then names ({error})."
            ) from error


def _from_volume(path: Path, placement: Placement, network: tuple[int, ...], affine: Matrix | None) -> np.ndarray:
    if affine is None:
        raise DataError(
            f"{path} is in scanner coordinates, but those of the images are not known. Give the regions as PNG or .npy "
            "on the images' original grid."
        )
    volume = read_volume(path)
    to_regions = np.linalg.inv(slices_affine(volume)) @ affine @ placement.matrix
    labels = np.rint(volume.slices()).astype(np.int64)
    return Placement(to_regions, labels.shape).to_network(labels, network)
