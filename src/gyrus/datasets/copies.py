"""Copies: samples of the same bytes. They link the units that must stay in one subset, and must not be in two subsets.

Copies that were changed (compressed again, shifted, mirrored) are found by the audit, from the pixels. Where they were
searched for, the manifest has them, and they link units too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gyrus.datasets.manifest import MEMBERS, VIEW, VOLUME_FILES, Manifest
from gyrus.text import counted
from gyrus.types import SUBSET_TITLES, SUBSETS, Subset

if TYPE_CHECKING:
    import pandas as pd

_PAIRS_SHOWN = 3

MOST_IMAGES = 50_000
"""Near copies are searched for among at most so many images."""

_IN_TWO: tuple[tuple[Subset, Subset], ...] = (("train", "test"), ("val", "test"), ("train", "val"))
"""Pairs of subsets: the one that is used first, and the one whose scores suffer."""


@dataclass(frozen=True)
class CopiesBetween:
    """The samples of a subset that have copies in an earlier one.

    Attributes:
        earlier: The subset that is used first.
        later: The subset whose scores are inflated by the copies.
        pairs: For each sample of the later subset that has a copy: this sample, and the first of its copies.
        total: The number of samples of the later subset.
    """

    earlier: Subset
    later: Subset
    pairs: tuple[tuple[str, str], ...]
    total: int

    def __str__(self) -> str:
        shown = "; ".join(f"{sample} = {copy}" for sample, copy in self.pairs[:_PAIRS_SHOWN])
        verb = "is a copy" if len(self.pairs) == 1 else "are copies"
        return (
            f"{len(self.pairs)} of {self.total} images of the {SUBSET_TITLES[self.later]} {verb} (same bytes) of "
            f"images of the {SUBSET_TITLES[self.earlier]}, first: {shown}"
        )


def group_units(manifest: Manifest, units: pd.Series) -> pd.Series:
    """The group of each sample: units that share a copy or a near copy, directly or through others, have one group.

    Args:
        manifest: The samples.
        units: The unit of each sample, for example its subject.

    Returns:
        Names of groups, one per sample: the first unit of each by name. Without copies these are the units themselves.
    """
    leaders: dict[str, str] = {}

    def leader(unit: str) -> str:
        while unit in leaders:
            unit = leaders[unit]
        return unit

    shared = shared_contents(manifest)
    sharing = [set(found) for _, found in units.loc[shared.index].groupby(shared.to_numpy(), sort=True)]
    if manifest.near_copies:
        unit_of = dict(zip(manifest.table["sample"], units, strict=True))
        sharing += [{unit_of[sample] for sample in group if sample in unit_of} for group in manifest.near_copies]
    for linked in filter(None, sharing):
        first, *others = sorted({leader(unit) for unit in linked})
        leaders |= dict.fromkeys(others, first)
    return units.map(leader)


def may_hide_copies(manifest: Manifest) -> bool:
    """Whether a split by subject may separate near copies: subjects are unknown, or each image is one of its own.

    Near copies are searched for among images in files of their own, at most :data:`MOST_IMAGES`.
    """
    table = manifest.table
    alone = manifest.subject_kind == "unknown" or bool(table["subject"].isna().any()) or table["subject"].is_unique
    in_files = manifest.has_images and MEMBERS not in table and VOLUME_FILES not in table
    return alone and in_files and 2 <= len(table) <= MOST_IMAGES


def near_copy_notes(manifest: Manifest) -> tuple[str, ...]:
    """How many samples are in groups of near copies that a new split keeps in one subset; nothing without any."""
    known = set(manifest.table["sample"])
    groups = [group for group in manifest.near_copies if len(known.intersection(group)) > 1]
    if not groups:
        return ()
    return (
        f"{sum(map(len, groups))} images are in {counted(len(groups), 'group')} of copies (found by their pixels), "
        "each of which is in one subset; split.near_copies=apart takes each image alone",
    )


def copies_between(manifest: Manifest, subsets: pd.Series) -> tuple[CopiesBetween, ...]:
    """The copies that are in more than one subset.

    Args:
        manifest: The samples.
        subsets: The subset of each sample; any other value for samples in none.
    """
    shared = shared_contents(manifest)
    samples = manifest.table["sample"].loc[shared.index].to_numpy()
    inside = subsets.loc[shared.index].to_numpy(dtype=object)
    members: dict[str, dict[str, list[str]]] = {subset: {} for subset in SUBSETS}
    for sample, content, subset in zip(samples, shared, inside, strict=True):
        if subset in members:
            members[subset].setdefault(content, []).append(sample)
    found = []
    for earlier, later in _IN_TWO:
        pairs = {
            sample: members[earlier][content][0]
            for content, sharing in members[later].items()
            if content in members[earlier]
            for sample in sharing
        }
        if pairs:
            total = int((subsets == later).sum())
            found.append(CopiesBetween(earlier, later, tuple(sorted(pairs.items())), total))
    return tuple(found)


def shared_contents(manifest: Manifest) -> pd.Series:
    """The digests that several samples share: one entry per sample and digest, under the row label of the sample.

    Constant slices do not count: the black ends of the scans of any two subjects are the same.

    The content of a stack is each of its slices; that of a slice with neighbours is the slice itself, since its
    neighbours are in other samples of the scan anyway.
    """
    table = manifest.table
    digests = table["digest"]
    if MEMBERS in table:
        views = table[VIEW] if VIEW in table else [None] * len(table)
        digests = digests.astype(object)
        digests.loc[:] = [  # one list per cell
            [own] if members is None else _digests_of(members, view)
            for own, members, view in zip(digests, table[MEMBERS], views, strict=True)
        ]
        digests = digests.explode()
    digests = digests[digests.notna() & ~digests.isin(manifest.constant)]
    named = digests.to_frame().assign(row=digests.index).drop_duplicates()
    return named.loc[named["digest"].duplicated(keep=False), "digest"]


def _digests_of(members: Sequence[Mapping[str, Any]], view: object) -> list[str | None]:
    neighbours = isinstance(view, str) and "channels" not in json.loads(view)
    shown = [members[len(members) // 2]] if neighbours else members
    return [member["digest"] for member in shown]
