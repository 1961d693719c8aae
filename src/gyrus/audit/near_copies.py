"""Near copies: images of which one is another one that was altered, as groups that a split keeps in one subset."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from gyrus.audit.duplicates import align_candidates, find_duplicates
from gyrus.audit.image_quality import Progress, read_thumbnails
from gyrus.audit.nearest_neighbours import find_neighbours
from gyrus.audit.single_linkage import connected_groups
from gyrus.datasets.manifest import Manifest
from gyrus.errors import GyrusError
from gyrus.files import cache_folder, digest
from gyrus.serialisation import Saved

VERSION = 1
"""Raised whenever the same images may get other groups, so that results of earlier versions are not used."""

LARGEST_GROUP = 20
"""Images of larger groups look alike, and are no copies of each other."""


@dataclass(frozen=True)
class NearCopies(Saved):
    """Groups of near copies, as positions in the sorted samples of a manifest."""

    SCHEMA: ClassVar[str] = "gyrus.near_copies/1"

    groups: tuple[tuple[int, ...], ...]


def with_near_copies(manifest: Manifest, *, progress: Progress | None = None) -> Manifest:
    """The manifest with groups of images that ``gyrus audit`` reports as duplicates; found once, and kept in the cache.

    The search does not depend on labels, and not on the seed of an experiment.

    Args:
        manifest: Images in files of their own.
        progress: Called with the number of images read and of all.

    Raises:
        DataError: An image can no longer be read.
        GyrusError: The cache cannot be written to.
    """
    rows = manifest.table[["digest", "subject"]].astype(str).to_numpy().tolist()
    content = digest([VERSION, manifest.subject_kind, rows])
    file = cache_folder() / "near-copies" / f"{content}.json"
    found = _cached(file)
    if found is None:
        thumbnails = read_thumbnails(manifest, progress=progress)
        found = NearCopies(tuple(_groups(manifest, thumbnails)))
        found.save(file)
    samples = manifest.table["sample"].to_numpy(str)
    return replace(manifest, near_copies=tuple(tuple(samples[list(group)].tolist()) for group in found.groups))


def _cached(file: Path) -> NearCopies | None:
    if file.is_file():
        with suppress(GyrusError):  # damaged: searched for again
            return NearCopies.load(file)
    return None


def _groups(manifest: Manifest, thumbnails: NDArray[np.uint8]) -> Iterator[tuple[int, ...]]:
    """Rows of the images of each group, sorted."""
    pairs = find_duplicates(manifest, find_neighbours(thumbnails), align_candidates(thumbnails))
    first, second = (np.array([getattr(pair, end) for pair in pairs], np.int64) for end in ("first", "second"))
    number = connected_groups(first, second, len(manifest))
    for group in np.flatnonzero(np.bincount(number) > 1):
        rows = np.flatnonzero(number == group)
        if len(rows) <= LARGEST_GROUP:
            yield tuple(rows.tolist())
