"""The audit: all checks on one data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from gyrus.audit import duplicates, labels, leakage, shortcuts
from gyrus.audit import image_quality as quality
from gyrus.audit import subjects_from_pixels as subjects
from gyrus.audit.duplicates import Pair, find_pairs
from gyrus.audit.findings import Finding, Findings
from gyrus.audit.image_measurements import ImageMeasurements, Progress, look_at_images
from gyrus.audit.near_duplicates import find_overlays
from gyrus.audit.nearest_neighbours import Neighbours, find_neighbours
from gyrus.audit.subjects_from_pixels import SubjectGroups, find_groups
from gyrus.datasets.manifest import MEMBERS, Manifest
from gyrus.datasets.splits import Split
from gyrus.errors import DataError
from gyrus.registry import look_up
from gyrus.types import Subset

CHECKS: dict[str, Callable[[AuditContext], tuple[Finding, ...]]] = {
    "subjects": subjects.check,
    "leakage": leakage.check,
    "duplicates": duplicates.check,
    "labels": labels.check,
    "shortcuts": shortcuts.check,
    "quality": quality.check,
}
"""Check name to the function that looks at the material and tells what it finds."""


@dataclass(frozen=True, eq=False)
class AuditContext:
    """What the checks look at.

    Attributes:
        manifest: The data set.
        subsets: The part of each image, "" where it has none (N,).
        images: What one pass over the pixels gave.
        neighbours: Which images look alike.
        grouping: The groups found.
        pairs: The copies found.
        seed: Of everything random.
    """

    manifest: Manifest
    subsets: NDArray[np.str_]
    images: ImageMeasurements
    neighbours: Neighbours
    grouping: SubjectGroups
    pairs: tuple[Pair, ...]
    seed: int

    @cached_property
    def targets(self) -> NDArray[np.int64]:
        """Class index of each image, -1 without label."""
        return self.manifest.targets.to_numpy()

    @cached_property
    def people(self) -> NDArray[np.int64] | None:
        """Number of the person of each image: as the manifest has it, else as found; None where nobody knows.

        Where groups are clear and join subjects of the manifest, the groups count: names may lie, pixels do not.
        """
        names = self.manifest.table["subject"]
        known = self.manifest.subject_kind != "unknown" and not names.isna().any()
        if not known:
            return self.grouping.groups if self.grouping.found else None
        numbers = np.unique(names.to_numpy(str), return_inverse=True)[1]
        return _joined(numbers, self.grouping.groups) if self.grouping.strength == "clear" else numbers

    def rows_of(self, subset: Subset) -> NDArray[np.int64]:
        """The rows of a part."""
        return np.nonzero(self.subsets == subset)[0]


def gather(
    manifest: Manifest,
    *,
    split: Split | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> AuditContext:
    """Everything that the checks look at.

    Args:
        manifest: The data set.
        split: Its parts; by default those that the layout of the data gives.
        seed: Of everything random.
        progress: Called with the number of images done and of all.

    Raises:
        DataError: There are fewer than two images, they are volumes, an image cannot be read, or the split is of
            other data.
    """
    if len(manifest) < 2:
        raise DataError(f"An audit compares images with each other, but there are only {len(manifest)}.")
    if MEMBERS in manifest.table or any(len(shape) != 2 for shape in manifest.table["shape"]):
        raise DataError("An audit looks at slices, and these data are volumes or stacks. Audit the slices themselves.")
    subsets = _subsets(manifest, split)
    images = look_at_images(manifest, progress=progress)
    neighbours = find_neighbours(images.thumbnails, seed=seed)
    grouping = find_groups(neighbours, images.thumbnails)
    pairs = find_pairs(manifest, neighbours, find_overlays(images.thumbnails, seed=seed))
    return AuditContext(manifest, subsets, images, neighbours, grouping, pairs, seed)


def audit(material: AuditContext, *, title: str, checks: Sequence[str] | None = None) -> Findings:
    """Run the checks.

    Args:
        material: What :func:`gather` gathered.
        title: Name of the data set.
        checks: Names of :data:`CHECKS`; all by default.

    Raises:
        UnknownNameError: There is no such check.
    """
    chosen = list(CHECKS) if checks is None else list(checks)
    entries = [finding for name in chosen for finding in look_up(name, CHECKS, "check")(material)]
    return Findings.collect(title, material.manifest.digest, len(material.manifest), entries)


def _subsets(manifest: Manifest, split: Split | None) -> NDArray[np.str_]:
    if split is None:
        return manifest.table["subset"].fillna("").to_numpy(str)
    subset_of: Mapping[str, str] = {sample: subset for subset, samples in split.samples.items() for sample in samples}
    strangers = set(subset_of) - set(manifest.table["sample"])
    if strangers:
        raise DataError(
            f"The split names {len(strangers)} images that the data do not have, such as '{min(strangers)}'. "
            "Audit the data that the split was made from."
        )
    return np.array([subset_of.get(sample, "") for sample in manifest.table["sample"]])


def _joined(numbers: NDArray[np.int64], groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """People that share a group become one."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    size = int(numbers.max()) + int(groups.max()) + 2
    links = coo_matrix((np.ones(len(numbers)), (numbers, groups + int(numbers.max()) + 1)), shape=(size, size))
    return connected_components(links, directed=False)[1][numbers].astype(np.int64)
