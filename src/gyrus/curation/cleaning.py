"""Cleaning of a data set: which images are removed, by which rule, and why.

A plan holds a decision for every image; :mod:`gyrus.curation.cleaned_copy` writes the result. Balancing is not part of
it: copies made before a split end up on both sides of it. Rare classes are balanced during training.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator

from gyrus.audit.duplicates import DUPLICATE_CORRELATION, DuplicatePair, align_candidates, find_duplicates
from gyrus.audit.findings import counted
from gyrus.audit.image_measurements import Progress, measure_images
from gyrus.audit.image_quality import (
    EMPTY_FOREGROUND,
    ROBUST_Z_THRESHOLD,
    describe_fault,
    fault_scores,
    largest_plain_z,
)
from gyrus.audit.nearest_neighbours import find_neighbours
from gyrus.configuration import parse, read_assignments
from gyrus.datasets.manifest import MEMBERS, Manifest
from gyrus.errors import DataError

_OTHER_SUBJECT = ", under the name of subject"
_QUALITY_RULES = ("outliers", "plain_z", "empty", "cropped")

Threshold = Annotated[float, Field(gt=0, strict=True)]

FORMER_RULES = {"classic": "plain_z", "copies": "duplicates", "contrary": "conflicting_labels"}
"""Names of rules in version 0.1, which are still accepted, and their names today."""


class Rules(BaseModel):
    """Rules by which an image is removed; None, or False, disables a rule."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    outliers: Threshold | None = Field(
        ROBUST_Z_THRESHOLD, description="robust z-score of a quality measure, in the direction of a fault"
    )
    plain_z: Threshold | None = Field(
        None, description="plain z-score of mean, contrast, SNR or entropy; 2 is in common use"
    )
    empty: Threshold | None = Field(
        EMPTY_FOREGROUND, lt=1, description="fraction of the image that is head, below which it is empty"
    )
    cropped: Threshold | None = Field(
        None, lt=1, description="fraction of the border that is head, above which the head is cut off"
    )
    duplicates: Annotated[float, Field(ge=0.9, le=1, strict=True)] | None = Field(
        DUPLICATE_CORRELATION, description="correlation from which two images are duplicates; one of them is kept"
    )
    conflicting_labels: bool = Field(True, description="remove all duplicates of an image if their labels differ")

    @field_validator("outliers", "plain_z", "empty", "cropped", "duplicates", mode="before")
    @classmethod
    def _disabled(cls, value: object) -> object:
        return None if value is False else value


def parse_rules(texts: Sequence[str], say: Callable[[str], None] = lambda _: None) -> Rules:
    """Rules from assignments such as ``outliers=7`` and ``duplicates=off``.

    Args:
        texts: The assignments.
        say: Called with a note where a rule is given under its former name.

    Raises:
        ConfigError: There is no such rule, or its value is not allowed.
    """
    given = read_assignments(texts)
    for name in given.keys() & FORMER_RULES.keys():
        say(f"Note: the rule {name} is now called {FORMER_RULES[name]}.")
    return parse(Rules, {FORMER_RULES.get(name, name): value for name, value in given.items()}, where="--rule")


@dataclass(frozen=True)
class Decision:
    """Whether an image is kept, and why.

    Attributes:
        sample: Its name in the manifest.
        decision: Whether it is kept.
        rule: A field of :class:`Rules`, or "unusable"; "" where no rule applied.
        value: The measured value; None without one.
        threshold: The threshold of the rule.
        reason: The reason in words.
    """

    sample: str
    decision: Literal["keep", "remove"]
    rule: str = ""
    value: float | None = None
    threshold: float | None = None
    reason: str = ""


@dataclass(frozen=True, eq=False)
class CleaningPlan:
    """The decisions for all images of a data set.

    Attributes:
        manifest: The original data set.
        rules: The rules applied.
        decisions: One per image and one per unusable file, by name.
    """

    manifest: Manifest
    rules: Rules
    decisions: tuple[Decision, ...]

    @property
    def cleaned(self) -> Manifest:
        """The images that are kept."""
        return self.manifest.select([each.sample for each in self.decisions if each.decision == "keep"])

    @property
    def removed(self) -> dict[str, int]:
        """Number of images removed by each rule."""
        return dict(Counter(each.rule for each in self.decisions if each.decision == "remove"))

    @property
    def notes(self) -> tuple[str, ...]:
        """Consequences that the user of the result should know."""
        notes = []
        removed = [each for each in self.decisions if each.decision == "remove"]
        if conflicting := self.removed.get("conflicting_labels", 0):
            notes.append(
                f"{counted(conflicting, 'image was', 'images were')} removed because duplicates have other labels."
            )
        if others := sum(each.rule == "duplicates" and _OTHER_SUBJECT in each.reason for each in removed):
            notes.append(
                f"{counted(others, 'duplicate has', 'duplicates have')} the name of another subject. The two may be "
                "one person, whose other images a split could put into both the training and the test set."
            )
        subsets = self.manifest.table.set_index("sample")["subset"].fillna("")
        tested = sum(subsets.get(each.sample) == "test" and each.rule in _QUALITY_RULES for each in removed)
        if tested:
            notes.append(
                f"{counted(tested, 'test image was', 'test images were')} removed for low quality: scores on the given "
                "test set are valid for good images only."
            )
        return tuple(notes)

    @property
    def table(self) -> pd.DataFrame:
        """The decisions, one per row."""
        return pd.DataFrame([vars(each) for each in self.decisions], columns=list(Decision.__annotations__))


def plan_cleaning(
    manifest: Manifest, rules: Rules | None = None, *, seed: int = 0, progress: Progress | None = None
) -> CleaningPlan:
    """Measure all images and decide which are kept.

    Args:
        manifest: The data set.
        rules: The rules; by default those of :class:`Rules`.
        seed: Seed of the search for duplicates, which is random in very large sets only.
        progress: Called with the number of images done and the total.

    Raises:
        DataError: An image cannot be read, or no image of a class would remain.
    """
    rules = rules or Rules()
    if MEMBERS in manifest.table or any(len(shape) != 2 for shape in manifest.table["shape"]):
        raise DataError("Only slices can be prepared; these data contain volumes.")
    images = measure_images(manifest, progress=progress)
    pairs: tuple[DuplicatePair, ...] = ()
    if rules.duplicates is not None and len(manifest) > 1:
        pairs = find_duplicates(
            manifest,
            find_neighbours(images.thumbnails, seed=seed),
            align_candidates(images.thumbnails, seed=seed),
            correlation=rules.duplicates,
            other_subject_correlation=rules.duplicates,
        )
    return decide(manifest, images.quality, pairs, rules)


def decide(manifest: Manifest, quality: pd.DataFrame, pairs: Sequence[DuplicatePair], rules: Rules) -> CleaningPlan:
    """Decide which images are kept: first conflicting labels, then quality, then duplicates.

    Args:
        manifest: The data set.
        quality: The quality measures of each image, in the order of the manifest.
        pairs: The duplicates.
        rules: The rules.

    Raises:
        DataError: No image of a class would remain.
    """
    groups = _duplicate_groups(len(manifest), pairs)
    found = _with_conflicting_labels(manifest, groups, rules) if rules.conflicting_labels else {}
    for row, decision in _of_low_quality(manifest, quality, rules):
        found.setdefault(row, decision)
    found |= _superfluous(manifest, [[row for row in group if row not in found] for group in groups], pairs, rules)
    _require_every_class(manifest, found)
    samples = manifest.table["sample"].to_list()
    unusable = [Decision(each.sample, "remove", "unusable", reason=str(each)) for each in manifest.problems]
    usable = [found.get(row, Decision(sample, "keep")) for row, sample in enumerate(samples)]
    return CleaningPlan(manifest, rules, tuple(sorted([*usable, *unusable], key=lambda each: each.sample)))


def _duplicate_groups(count: int, pairs: Sequence[DuplicatePair]) -> list[list[int]]:
    """Rows of the images that are duplicates of each other, in groups of at least two."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    ends = np.array([(pair.first, pair.second) for pair in pairs], np.int64).reshape(-1, 2)
    graph = coo_matrix((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(count, count))
    numbers: NDArray[np.int64] = connected_components(graph, directed=False)[1]
    order = np.argsort(numbers, kind="stable")
    groups = np.split(order, np.cumsum(np.bincount(numbers))[:-1])
    return [group.tolist() for group in groups if len(group) > 1]


def _with_conflicting_labels(manifest: Manifest, groups: Sequence[Sequence[int]], rules: Rules) -> dict[int, Decision]:
    samples, labels = manifest.table["sample"].to_list(), manifest.table["label"].fillna("").to_list()
    found: dict[int, Decision] = {}
    for group in groups:
        names = sorted({labels[row] for row in group})
        if len(names) > 1:
            reason = f"{len(group)} duplicates of one image have the labels {' and '.join(names)}"
            found |= {
                row: Decision(samples[row], "remove", "conflicting_labels", None, rules.duplicates, reason)
                for row in group
            }
    return found


def _of_low_quality(manifest: Manifest, quality: pd.DataFrame, rules: Rules) -> list[tuple[int, Decision]]:
    samples, found = manifest.table["sample"].to_list(), []

    def remove(rule: str, values: pd.Series, bad: pd.Series, threshold: float, reasons: Sequence[str]) -> None:
        for row in np.nonzero(bad.to_numpy())[0].tolist():
            value = float(values.iloc[row])
            found.append((row, Decision(samples[row], "remove", rule, value, threshold, reasons[row])))

    if rules.empty is not None:
        fraction = quality["foreground"]
        remove("empty", fraction, fraction < rules.empty, rules.empty, ["almost no head"] * len(samples))
    if rules.cropped is not None:
        fraction = quality["cropped"]
        reasons = ["head cut off at the border"] * len(samples)
        remove("cropped", fraction, fraction > rules.cropped, rules.cropped, reasons)
    if rules.outliers is not None:
        scores = fault_scores(quality)
        height, name = scores.max(axis=1), scores.idxmax(axis=1).astype(str)
        reasons = [describe_fault(quality, row, name.iloc[row], height.iloc[row]) for row in range(len(samples))]
        remove("outliers", height, height >= rules.outliers, rules.outliers, reasons)
    if rules.plain_z is not None:
        height = largest_plain_z(quality)
        reasons = ["mean, contrast, SNR or entropy far from the mean of all images"] * len(samples)
        remove("plain_z", height, height > rules.plain_z, rules.plain_z, reasons)
    return found


def _superfluous(
    manifest: Manifest, groups: Sequence[Sequence[int]], pairs: Sequence[DuplicatePair], rules: Rules
) -> dict[int, Decision]:
    """All but one of each group of duplicates: the test image is kept, else the largest, else the first by name."""
    table = manifest.table
    samples, subjects = table["sample"].to_list(), table["subject"].fillna("").to_list()
    priority = {"test": 0, "val": 1}
    rank = [
        (priority.get(subset, 2), -int(np.prod(shape)))
        for subset, shape in zip(table["subset"], table["shape"], strict=True)
    ]
    correlation: dict[int, float] = {}
    for pair in pairs:
        for row in (pair.first, pair.second):
            correlation[row] = max(correlation.get(row, 0.0), pair.correlation)
    found = {}
    for group in groups:
        ordered = sorted(group, key=lambda row: (rank[row], samples[row]))
        for row in ordered[1:]:
            kept = ordered[0]
            reason = f"duplicate of {samples[kept]}"
            if subjects[row] != subjects[kept]:
                reason += f"{_OTHER_SUBJECT} {subjects[kept]}, not {subjects[row]}"
            found[row] = Decision(samples[row], "remove", "duplicates", correlation[row], rules.duplicates, reason)
    return found


def _require_every_class(manifest: Manifest, found: dict[int, Decision]) -> None:
    kept = manifest.table["label"].drop(index=list(found))
    gone = sorted(set(manifest.table["label"].dropna()) - set(kept.dropna()))
    if gone or kept.empty:
        raise DataError(
            f"No image would remain{' of ' + ', '.join(gone) if gone else ''}. Relax the rules (--rule NAME=NUMBER or "
            "NAME=off), or check the data with gyrus audit."
        )
