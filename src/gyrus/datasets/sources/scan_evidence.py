"""Whether the pixels agree with file names that seem to name scans and slice numbers.

``Tr-gl_0014.jpg`` has the form of ``<scan>_<slice>``, but ``Tr-gl`` is a subset and a class: images of many people.
In a true scan, neighbouring slices are more alike than slices of different scans; or, if its slices are far apart, the
number determines the height in the head, so that slices of equal height are alike in all scans. A bounded number of
images is read, chosen by a hash of the names.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gyrus.datasets.sources.subject_rules import SubjectNames
from gyrus.errors import UnusableImageError
from gyrus.imaging.decoding import decode
from gyrus.text import counted

MOST_SLICES = 600
"""Most slices of a scan that are possible; thin slices of a whole head are about 350."""

MOST_REPEATED = 0.1
"""Largest fraction of scans in which a slice number may occur twice."""

SCANS, PAIRS = 32, 128
"""Most scans and most pairs of neighbouring slices that are read."""

SIDE = 32
"""Rows and columns of the images that are compared."""

ALIKE, ALIKE_PAIRS = 0.9, 0.95
"""Two neighbours are alike if they correlate more than this fraction of pairs from different scans; and the fraction of
neighbours that must be alike. Slices of 160 real heads: 1.00. Images of different people in one "scan": up to 0.82."""

EQUAL_HEIGHT, FEW_SLICES, FEWEST_SCANS = 0.75, 24, 6
"""How often a slice of equal height in another scan is more alike than one far from it, in scans of at most so many
slices, where there are at least so many scans. Real heads of 2 to 16 slices: 0.99; phantoms of 2 slices: 0.79; other
images: up to 0.6."""

_FAR = 0.3
"""Smallest difference of heights, as a fraction of the scan, between a near and a far slice."""


def reason_to_doubt(names: SubjectNames, files: Sequence[str], read: Callable[[int], bytes]) -> str:
    """Why the scans that file names seem to name are no scans; empty if counts and pixels agree with them.

    Args:
        names: Scan and slice number of each image.
        files: The names of the images.
        read: The encoded bytes of an image, by its position.
    """
    scans: dict[str, list[int]] = {}
    for position, scan in enumerate(names.subjects):
        if scan is not None:
            scans.setdefault(scan, []).append(position)
    return _impossible_counts(scans, names.slices) or _unlike_pixels(scans, names.slices, files, read)


def _impossible_counts(scans: Mapping[str, Sequence[int]], slices: Sequence[int | None]) -> str:
    largest = max(scans, key=lambda scan: len(scans[scan]))
    if len(scans[largest]) > MOST_SLICES:
        return f"'{largest}' would be a scan of {counted(len(scans[largest]), 'slice')}"
    repeated = [
        scan for scan, positions in scans.items() if max(Counter(slices[place] for place in positions).values()) > 1
    ]
    if len(repeated) > MOST_REPEATED * len(scans):
        return f"{len(repeated)} of {len(scans)} scans, such as '{repeated[0]}', would have a slice number twice"
    return ""


@dataclass(frozen=True, eq=False)
class _Sampled:
    """Images of some scans.

    Attributes:
        scan: The number of the scan of each image, (N,).
        height: Its place in the scan, from 0 to 1, (N,).
        alike: Correlation of each with each, (N, N).
        pairs: Rows of neighbours, (P, 2).
    """

    scan: NDArray[np.int64]
    height: NDArray[np.float64]
    alike: NDArray[np.float64]
    pairs: NDArray[np.int64]


def _unlike_pixels(
    scans: Mapping[str, Sequence[int]],
    slices: Sequence[int | None],
    files: Sequence[str],
    read: Callable[[int], bytes],
) -> str:
    several = [scan for scan, positions in scans.items() if len(positions) > 1]
    if len(several) < 2:
        return "fewer than two of them have several images, so that their pixels cannot be compared"
    chosen = sorted(several, key=lambda scan: hashlib.sha256(scan.encode()).digest())[:SCANS]
    ordered = [sorted(scans[scan], key=lambda place: (slices[place] or 0, files[place])) for scan in chosen]
    sampled = _sample(ordered, read)
    if len(set(sampled.scan.tolist())) < 2:
        return "too few of the images can be read to compare their pixels"
    others = sampled.scan[sampled.pairs[:, 0], None] != sampled.scan[None]
    together = sampled.alike[sampled.pairs[:, 0], sampled.pairs[:, 1]]
    lower = (sampled.alike[sampled.pairs[:, 0]] < together[:, None]) & others
    neighbours = float((lower.sum(1) >= ALIKE * others.sum(1)).mean())
    if neighbours >= ALIKE_PAIRS:
        return ""
    typical = np.median([len(positions) for positions in scans.values()])
    if typical <= FEW_SLICES and len(ordered) >= FEWEST_SCANS and _equal_heights(sampled) >= EQUAL_HEIGHT:
        return ""
    return (
        f"the pixels disagree: only {100 * neighbours:.0f} % of {len(sampled.pairs)} pairs of neighbouring numbers "
        f"look like neighbouring slices of one scan; at least {100 * ALIKE_PAIRS:.0f} % must"
    )


def _sample(ordered: Sequence[Sequence[int]], read: Callable[[int], bytes]) -> _Sampled:
    """Read neighbouring slices of each scan, evenly spaced from its first to its last."""
    each = max(PAIRS // max(len(ordered), 1), 1)
    images: list[NDArray[np.float64]] = []
    scan, height, pairs = [], [], []
    for number, positions in enumerate(ordered):
        last = len(positions) - 1
        for start in sorted({int(place) for place in np.linspace(0, last - 1, min(each, last)).round()}):
            try:
                found = [_small(read(positions[place])) for place in (start, start + 1)]
            except UnusableImageError:
                continue  # reported when all images are checked
            pairs.append((len(images), len(images) + 1))
            images += found
            scan += [number, number]
            height += [start / last, (start + 1) / last]
    pixels = np.stack(images) if images else np.empty((0, SIDE * SIDE))
    return _Sampled(
        np.array(scan, np.int64), np.array(height), pixels @ pixels.T, np.array(pairs, np.int64).reshape(-1, 2)
    )


def _small(data: bytes) -> NDArray[np.float64]:
    """An image as a vector of zero mean and unit length, (SIDE * SIDE,); zeros for a constant image."""
    gray = decode(data).mean(axis=0)
    resized = Image.fromarray(gray.astype(np.float32)).resize((SIDE, SIDE), Image.Resampling.BOX)
    values = np.asarray(resized, dtype=np.float64).ravel()
    values = values - values.mean()
    length = float(np.linalg.norm(values))
    return np.asarray(values / length) if length else np.zeros(SIDE * SIDE)


def _equal_heights(sampled: _Sampled) -> float:
    """How often the image of equal height in another scan is more alike than the one farthest from this height."""
    found = []
    for row in sampled.pairs[:, 0]:
        away = np.abs(sampled.height - sampled.height[row])
        for other in np.unique(sampled.scan[sampled.scan != sampled.scan[row]]):
            rows = np.flatnonzero(sampled.scan == other)
            near, far = rows[away[rows].argmin()], rows[away[rows].argmax()]
            if away[far] - away[near] > _FAR:
                found.append(sampled.alike[row, near] > sampled.alike[row, far])
    return float(np.mean(found)) if found else 0.0
