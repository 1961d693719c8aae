"""What to leave out of a data set: which images are left out, by which rule, and why.

A plan names every image with its decision; :mod:`gyrus.curation.cleaned_copy` writes it. Balancing is no part of it:
copies made before a split end up on both sides of it. Rare classes are balanced during training.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator

from gyrus.audit.duplicates import NEAR_COPY, Pair, find_pairs
from gyrus.audit.image_measurements import Progress, look_at_images
from gyrus.audit.image_quality import EMPTY, OUTLIER_Z, classic_outliers, fault_in_words, faults
from gyrus.audit.near_duplicates import find_overlays
from gyrus.audit.nearest_neighbours import find_neighbours
from gyrus.datasets.manifest import MEMBERS, Manifest
from gyrus.errors import DataError

_STRANGER = ", said to be of"
_QUALITY = ("outliers", "classic", "empty", "cropped")

Threshold = Annotated[float, Field(gt=0, strict=True)]


class Rules(BaseModel):
    """By which an image is left out; None, or False, switches a rule off."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    outliers: Threshold | None = Field(OUTLIER_Z, description="robust z-score of a quality measure, on its bad side")
    classic: Threshold | None = Field(None, description="plain z-score of mean, contrast, SNR or entropy; 2 is usual")
    empty: Threshold | None = Field(EMPTY, lt=1, description="share of the image that is head, below which it is empty")
    cropped: Threshold | None = Field(None, lt=1, description="share of the border that is head, above which it is cut")
    copies: Annotated[float, Field(ge=0.9, le=1, strict=True)] | None = Field(
        NEAR_COPY, description="correlation from which two images are copies; one of them is kept"
    )
    contrary: bool = Field(True, description="leave out all copies of an image where they differ in their label")

    @field_validator("outliers", "classic", "empty", "cropped", "copies", mode="before")
    @classmethod
    def _off(cls, value: object) -> object:
        return None if value is False else value


@dataclass(frozen=True)
class Decision:
    """What becomes of an image, and why.

    Attributes:
        sample: Its name in the manifest.
        decision: Whether it is kept.
        rule: A field of :class:`Rules`, or "unusable"; "" for an image about which no rule had to decide.
        value: What was measured; None where nothing was.
        threshold: What it was held against.
        reason: In words.
    """

    sample: str
    decision: Literal["keep", "remove"]
    rule: str = ""
    value: float | None = None
    threshold: float | None = None
    reason: str = ""


@dataclass(frozen=True, eq=False)
class CleaningPlan:
    """What is to become of each image.

    Attributes:
        manifest: The data set as it is.
        rules: What was decided by.
        decisions: One an image, by name, and one a file that could not be used.
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
        """How many images each rule has left out."""
        return dict(Counter(each.rule for each in self.decisions if each.decision == "remove"))

    @property
    def notes(self) -> tuple[str, ...]:
        """What to know before the result is used."""
        notes = []
        removed = [each for each in self.decisions if each.decision == "remove"]
        if contrary := sum(each.rule == "contrary" for each in removed):
            notes.append(f"{contrary:,} images were left out because their copies bear other labels.")
        if strangers := sum(each.rule == "copies" and _STRANGER in each.reason for each in removed):
            notes.append(
                f"{strangers:,} copies were found under the name of another subject: the two may be one person, whose "
                "other images would then be on both sides of a split."
            )
        subsets = self.manifest.table.set_index("sample")["subset"].fillna("")
        judged = sum(subsets.get(each.sample) == "test" and each.rule in _QUALITY for each in removed)
        if judged:
            notes.append(
                f"{judged:,} images of the given test set were left out for their quality: scores on it hold for good "
                "images only."
            )
        return tuple(notes)

    @property
    def table(self) -> pd.DataFrame:
        """The decisions, one a row."""
        return pd.DataFrame([vars(each) for each in self.decisions], columns=list(Decision.__annotations__))


def prepare(
    manifest: Manifest, rules: Rules | None = None, *, seed: int = 0, progress: Progress | None = None
) -> CleaningPlan:
    """Look at all images and decide what becomes of each.

    Args:
        manifest: The data set.
        rules: What to decide by.
        seed: Of the search for copies, which matters in very large sets only.
        progress: Called with the number of images done and of all.

    Raises:
        DataError: An image cannot be read, or nothing would be left of a class.
    """
    rules = rules or Rules()
    if MEMBERS in manifest.table or any(len(shape) != 2 for shape in manifest.table["shape"]):
        raise DataError("Only slices can be prepared; these data have volumes.")
    images = look_at_images(manifest, progress=progress)
    pairs: tuple[Pair, ...] = ()
    if rules.copies is not None and len(manifest) > 1:
        neighbours = find_neighbours(images.thumbnails, seed=seed)
        overlays = find_overlays(images.thumbnails, seed=seed)
        pairs = find_pairs(manifest, neighbours, overlays, least=rules.copies, strangers=rules.copies)
    return decide(manifest, images.quality, pairs, rules)


def decide(manifest: Manifest, quality: pd.DataFrame, pairs: Sequence[Pair], rules: Rules) -> CleaningPlan:
    """Decide what becomes of each image. Copies that contradict each other go first, then bad images, then copies.

    Args:
        manifest: The data set.
        quality: The measures of each image, in the order of the manifest.
        pairs: The copies.
        rules: What to decide by.

    Raises:
        DataError: Nothing would be left of a class.
    """
    groups = _groups_of_copies(len(manifest), pairs)
    found: dict[int, Decision] = {}
    if rules.contrary:
        found |= _contrary(manifest, groups, rules)
    for row, decision in _of_quality(manifest, quality, rules):
        found.setdefault(row, decision)
    found |= _repeated(manifest, [[row for row in group if row not in found] for group in groups], pairs, rules)
    _require_every_class(manifest, found)
    samples = manifest.table["sample"].to_list()
    unusable = [Decision(each.sample, "remove", "unusable", reason=str(each)) for each in manifest.problems]
    usable = [found.get(row, Decision(sample, "keep")) for row, sample in enumerate(samples)]
    return CleaningPlan(manifest, rules, tuple(sorted([*usable, *unusable], key=lambda each: each.sample)))


def _groups_of_copies(count: int, pairs: Sequence[Pair]) -> list[list[int]]:
    """Rows of the images that are copies of each other, two at least a group."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    ends = np.array([(pair.first, pair.second) for pair in pairs], np.int64).reshape(-1, 2)
    graph = coo_matrix((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(count, count))
    numbers: NDArray[np.int64] = connected_components(graph, directed=False)[1]
    order = np.argsort(numbers, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(numbers))[:-1])
    return [part.tolist() for part in parts if len(part) > 1]


def _contrary(manifest: Manifest, groups: Sequence[Sequence[int]], rules: Rules) -> dict[int, Decision]:
    samples, labels = manifest.table["sample"].to_list(), manifest.table["label"].fillna("").to_list()
    found: dict[int, Decision] = {}
    for group in groups:
        names = sorted({labels[row] for row in group})
        if len(names) > 1:
            words = (
                f"{len(group)} copies of one image bear the labels {' and '.join(names)}: nobody knows which is true"
            )
            found |= {row: Decision(samples[row], "remove", "contrary", None, rules.copies, words) for row in group}
    return found


def _of_quality(manifest: Manifest, quality: pd.DataFrame, rules: Rules) -> list[tuple[int, Decision]]:
    samples, found = manifest.table["sample"].to_list(), []

    def remove(rule: str, values: pd.Series, bad: pd.Series, threshold: float | None, words: Sequence[str]) -> None:
        for row in np.nonzero(bad.to_numpy())[0].tolist():
            value = float(values.iloc[row])
            found.append((row, Decision(samples[row], "remove", rule, value, threshold, words[row])))

    if rules.empty is not None:
        share = quality["foreground"]
        remove("empty", share, share < rules.empty, rules.empty, ["hardly any head"] * len(samples))
    if rules.cropped is not None:
        share = quality["cropped"]
        remove("cropped", share, share > rules.cropped, rules.cropped, ["head cut off at the border"] * len(samples))
    if rules.outliers is not None:
        scores = faults(quality)
        height, name = scores.max(axis=1), scores.idxmax(axis=1).astype(str)
        words = [fault_in_words(quality, row, name.iloc[row], height.iloc[row]) for row in range(len(samples))]
        remove("outliers", height, height >= rules.outliers, rules.outliers, words)
    if rules.classic is not None:
        height = classic_outliers(quality)
        words = ["mean, contrast, SNR or entropy far from the mean of all"] * len(samples)
        remove("classic", height, height > rules.classic, rules.classic, words)
    return found


def _repeated(
    manifest: Manifest, groups: Sequence[Sequence[int]], pairs: Sequence[Pair], rules: Rules
) -> dict[int, Decision]:
    """All but one of each group of copies: what is judged on stays, else the largest picture, else the first name."""
    table = manifest.table
    samples, subjects = table["sample"].to_list(), table["subject"].fillna("").to_list()
    turn = {"test": 0, "val": 1}
    rank = [
        (turn.get(subset, 2), -int(np.prod(shape)))
        for subset, shape in zip(table["subset"], table["shape"], strict=True)
    ]
    likeness: dict[int, float] = {}
    for pair in pairs:
        for row in (pair.first, pair.second):
            likeness[row] = max(likeness.get(row, 0.0), pair.correlation)
    found = {}
    for group in groups:
        ordered = sorted(group, key=lambda row: (rank[row], samples[row]))
        for row in ordered[1:]:
            best = ordered[0]
            words = f"a copy of {samples[best]}"
            if subjects[row] != subjects[best]:
                words += f"{_STRANGER} {subjects[best]}, not {subjects[row]}"
            found[row] = Decision(samples[row], "remove", "copies", likeness[row], rules.copies, words)
    return found


def _require_every_class(manifest: Manifest, found: dict[int, Decision]) -> None:
    kept = manifest.table["label"].drop(index=list(found))
    gone = sorted(set(manifest.table["label"].dropna()) - set(kept.dropna()))
    if gone or kept.empty:
        raise DataError(
            f"No image would be left{' of ' + ', '.join(gone) if gone else ''}. Look at the rules, or at the data: "
            "gyrus audit shows both."
        )
