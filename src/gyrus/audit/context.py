"""Everything that the checks of an audit use, measured once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from gyrus.audit.duplicates import DuplicatePair, align_candidates, find_duplicates
from gyrus.audit.image_quality import ImageMeasurements, Progress, is_volumetric, measure_images
from gyrus.audit.nearest_neighbours import Neighbours, find_neighbours
from gyrus.audit.single_linkage import connected_groups
from gyrus.audit.subjects_from_pixels import SubjectGroups, find_groups
from gyrus.datasets.manifest import Manifest
from gyrus.datasets.splits import Split
from gyrus.errors import DataError
from gyrus.text import counted
from gyrus.types import Subset


@dataclass(frozen=True, eq=False)
class AuditContext:
    """The data of an audit.

    Attributes:
        manifest: The data set.
        subsets: Subset of each image, "" for none (N,).
        images: Thumbnails and measurements of all images.
        neighbours: The nearest neighbours of each image.
        grouping: Groups of similar images, which may be subjects.
        duplicates: Pairs of duplicates.
        seed: Seed of everything random.
    """

    manifest: Manifest
    subsets: NDArray[np.str_]
    images: ImageMeasurements
    neighbours: Neighbours
    grouping: SubjectGroups
    duplicates: tuple[DuplicatePair, ...]
    seed: int

    @cached_property
    def targets(self) -> NDArray[np.int64]:
        """Class index of each image, -1 without a label."""
        return self.manifest.targets.to_numpy()

    @property
    def has_classes(self) -> bool:
        """Whether every image has a label and there are at least two classes."""
        return bool((self.targets >= 0).all()) and len(self.manifest.classes) >= 2

    @cached_property
    def subjects(self) -> NDArray[np.int64] | None:
        """Number of the subject of each image, from the manifest or else from the pixels; None where unknown.

        Subjects of the manifest whose images form one clear group are joined: one person may have two names.
        """
        names = self.manifest.table["subject"]
        known = self.manifest.subject_kind != "unknown" and not names.isna().any()
        if not known:
            return self.grouping.groups if self.grouping.found else None
        numbers = np.unique(names.to_numpy(str), return_inverse=True)[1]
        return _join(numbers, self.grouping.groups) if self.grouping.strength == "clear" else numbers

    def subset_rows(self, subset: Subset) -> NDArray[np.int64]:
        """The rows of a subset."""
        return np.nonzero(self.subsets == subset)[0]


def gather(
    manifest: Manifest,
    *,
    split: Split | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> AuditContext:
    """Measure all images, and find neighbours, groups and duplicates.

    Args:
        manifest: The data set.
        split: Its split; by default the subsets that the data themselves define.
        seed: Seed of everything random.
        progress: Called with the number of images done and the total.

    Raises:
        DataError: There are fewer than two images, one cannot be read, or the split belongs to other data.
    """
    if len(manifest) < 2:
        raise DataError(f"An audit compares images with each other, but the data have only {len(manifest)}.")
    subsets = _subsets(manifest, split)
    images = measure_images(manifest, progress=progress)
    neighbours = find_neighbours(images.thumbnails, seed=seed)
    duplicates = find_duplicates(manifest, neighbours, align_candidates(images.thumbnails, seed=seed))
    grouping = find_groups(neighbours, images.thumbnails, duplicates, seed=seed)
    if is_volumetric(manifest):
        grouping = grouping.without_groups()
    return AuditContext(manifest, subsets, images, neighbours, grouping, duplicates, seed)


def _subsets(manifest: Manifest, split: Split | None) -> NDArray[np.str_]:
    if split is None:
        return manifest.table["subset"].fillna("").to_numpy(str)
    subset_of = {sample: subset for subset, samples in split.samples.items() for sample in samples}
    missing = set(subset_of) - set(manifest.table["sample"])
    if missing:
        raise DataError(
            f"The split contains {counted(len(missing), 'image that is', 'images that are')} not in the data, such as "
            f"'{min(missing)}'. "
            "Audit the data that the split was made from."
        )
    return np.array([subset_of.get(sample, "") for sample in manifest.table["sample"]])


def _join(numbers: NDArray[np.int64], groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of each image's subject after subjects with a common group are joined."""
    offset = int(numbers.max()) + 1
    return connected_groups(numbers, groups + offset, offset + int(groups.max()) + 1)[numbers]
