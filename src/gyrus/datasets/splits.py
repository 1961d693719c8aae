"""Split a data set into training, validation and test sets, with no subject in more than one of them.

Subjects are ordered by a hash of the seed and their name, and this order is cut. So a split depends only on the seed,
the names and the labels, and not on the order of directories, the platform or the random generator of a library.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from gyrus.configuration import Section
from gyrus.errors import LeakageError, SplitError
from gyrus.serialisation import Saved
from gyrus.types import SPLIT_WARNINGS, SUBSET_TITLES, SUBSETS, SplitUnit, Subset

if TYPE_CHECKING:
    import pandas as pd

    from gyrus.datasets.manifest import Manifest

SplitMethod = Literal["auto", "holdout", "kfold", "given"]


class SplitConfig(Section):
    """How a data set is split into training, validation and test sets."""

    unit: Literal["subject", "image"] = Field(
        "subject",
        description="unit that is kept together; 'image' lets a subject be on both sides, and results carry a warning",
    )
    method: SplitMethod = Field(
        "auto",
        description="holdout, kfold, given (the subsets of the data), or auto: given if the data have a test set",
    )
    val: float = Field(
        0.15, gt=0, lt=1, description="fraction of the units in the validation set (of the training set if given)"
    )
    test: float = Field(0.2, gt=0, lt=1, description="fraction of the units in the test set (holdout)")
    folds: int = Field(5, ge=2, description="number of folds (kfold)")
    fold: int = Field(0, ge=0, description="fold used as the test set, counted from 0 (kfold)")
    seed: int | None = Field(None, description="seed of the split; by default that of the experiment")


@dataclass(frozen=True)
class Split(Saved):
    """Which sample belongs to which subset.

    Attributes:
        samples: The sample ids of each subset, sorted.
        subjects: The subjects of each subset, sorted; empty if subjects are unknown.
        unit: The unit that was kept together.
        method: "holdout", "kfold" or "given".
        seed: The seed of the order of units.
        manifest_digest: Digest of the manifest that was split.
        notes: Warnings, such as classes too small to be in every subset; not compared.
        fold: The number of the fold that is the test set, from 0; None unless the method is "kfold".
    """

    SCHEMA: ClassVar[str] = "gyrus.split/1"
    FORMER_SCHEMAS: ClassVar[tuple[str | None, ...]] = (None,)

    samples: Mapping[Subset, tuple[str, ...]]
    subjects: Mapping[Subset, tuple[str, ...]]
    unit: SplitUnit
    method: str
    seed: int
    manifest_digest: str
    notes: tuple[str, ...] = field(default=(), compare=False)
    fold: int | None = None

    @property
    def warning(self) -> str:
        """The warning that every result of this split must carry; empty for a split by subject."""
        return SPLIT_WARNINGS[self.unit]

    def to_document(self) -> dict[str, Any]:
        """The fields and the warning as plain values for JSON."""
        return {**super().to_document(), "warning": self.warning}


def split(manifest: Manifest, config: SplitConfig | None = None, *, seed: int = 0) -> Split:
    """Split a manifest into training, validation and test sets, stratified by label.

    Args:
        manifest: Every sample must have a label.
        config: By default 65 % of the subjects for training, 15 % for validation and 20 % for testing, or the test set
            given by the layout of the data.
        seed: Used if the config has none.

    Raises:
        SplitError: Subjects are unknown and the unit is "subject"; a subset would be empty; a label is missing.
        LeakageError: The subsets given by the data share subjects.
    """
    config = config or SplitConfig()
    seed = seed if config.seed is None else config.seed
    units = _units(manifest, config.unit)
    method = config.method
    if method == "auto":
        method = "given" if (manifest.table["subset"] == "test").any() else "holdout"

    if method == "given":
        subsets = _given(manifest, units, config, seed)
    elif method == "kfold":
        subsets = _kfold(units, config, seed)
    else:
        if config.val + config.test >= 1:
            raise SplitError(
                f"split.val + split.test must be below 1, got {config.val} + {config.test}. "
                "No subject would be left for training."
            )
        subsets = _cut(units, {"test": config.test, "val": config.val}, seed)

    by_sample = units["unit_of_sample"].map(subsets)
    split_unit: SplitUnit = config.unit
    if config.unit == "subject" and manifest.subject_kind in ("scan", "inferred"):
        split_unit = manifest.subject_kind
    result = Split(
        samples=_members(manifest.table["sample"], by_sample),
        subjects=_members(manifest.table["subject"], by_sample),
        unit=split_unit,
        method=method,
        seed=seed,
        manifest_digest=manifest.digest,
        notes=_notes(manifest, by_sample, config.unit),
        fold=config.fold if method == "kfold" else None,
    )
    check_split(result, manifest)
    return result


def kfold(manifest: Manifest, config: SplitConfig | None = None, *, seed: int = 0) -> tuple[Split, ...]:
    """All folds of a stratified k-fold; each sample is in exactly one test set.

    Raises:
        SplitError: See :func:`split`.
    """
    config = (config or SplitConfig()).model_copy(update={"method": "kfold"})
    return tuple(split(manifest, config.model_copy(update={"fold": fold}), seed=seed) for fold in range(config.folds))


def check_split(split: Split, manifest: Manifest) -> None:
    """Refuse a split with an empty subset, or with a subject in two subsets unless it is by image.

    Raises:
        SplitError: A subset is empty.
        LeakageError: A subject is in more than one subset; the error names all of them.
    """
    for subset in SUBSETS:
        if not split.samples[subset]:
            raise SplitError(
                f"The {SUBSET_TITLES[subset]} would be empty: {len(manifest)} samples are too few for these fractions. "
                "Use more data, or larger fractions (split.val, split.test)."
            )
    if split.unit == "image":
        return
    _refuse_overlap({subset: set(split.subjects[subset]) for subset in SUBSETS})


def _refuse_overlap(members: Mapping[Subset, set[str]]) -> None:
    shared = sorted(set().union(*(members[one] & members[other] for one, other in combinations(SUBSETS, 2))))
    if shared:
        named = ", ".join(shared[:10]) + (f" and {len(shared) - 10} more" if len(shared) > 10 else "")
        raise LeakageError(
            f"{len(shared)} subjects are in more than one subset: {named}. Scores on such subsets are inflated. "
            "Ignore the subsets of the data with split.method=holdout, or correct them.",
            shared,
        )


def _units(manifest: Manifest, unit: str) -> dict[str, pd.Series]:
    """Label and given subset of each unit, and the unit of each sample."""
    table = manifest.table
    unlabelled = table["label"].isna().sum()
    if unlabelled:
        raise SplitError(f"{unlabelled} samples have no label; a split for training needs all labels.")
    if unit == "image":
        name = table["sample"]
    else:
        _require_subjects(manifest)
        name = table["subject"]
    grouped = table.groupby(name.to_numpy(), sort=True)
    mixed = grouped["label"].nunique()
    mixed = mixed[mixed > 1]
    if len(mixed):
        raise SplitError(f"Subjects with more than one label: {', '.join(mixed.index[:10])}. Give each one label.")
    return {"label": grouped["label"].first(), "given": grouped["subset"].first(), "unit_of_sample": name}


def _require_subjects(manifest: Manifest) -> None:
    unknown = int(manifest.table["subject"].isna().sum())
    if manifest.subject_kind == "unknown" or unknown:
        raise SplitError(
            f"The subject of {unknown} of {len(manifest)} samples is unknown, so a subject may be in both the training "
            "and the test set. Name the subjects (--subject-pattern REGEX, --subject-rule NAME, or a table with a "
            "subject column), or accept inflated scores with --split-unit image; every result then carries a warning."
        )


def _by_label(labels: pd.Series, seed: int) -> list[list[str]]:
    """The units of each class, in the order of a hash of the seed and their name."""

    def key(unit: str) -> bytes:
        return hashlib.sha256(f"{seed}/{unit}".encode()).digest()

    return [sorted(group.index, key=key) for _, group in labels.groupby(labels, sort=True)]


def _cut(units: Mapping[str, pd.Series], fractions: Mapping[Subset, float], seed: int) -> dict[str, str]:
    """Cut each class by ``fractions``; the rest is the training set."""
    subsets: dict[str, str] = {}
    for names in _by_label(units["label"], seed):
        start = 0
        for subset, count in _counts(len(names), fractions).items():
            subsets.update(dict.fromkeys(names[start : start + count], subset))
            start += count
        subsets.update(dict.fromkeys(names[start:], "train"))
    return subsets


def _counts(total: int, fractions: Mapping[Subset, float]) -> dict[Subset, int]:
    """How many of ``total`` units each subset receives.

    A class with few units gives its first unit to the training set, its second to the first subset of ``fractions``,
    and so on: a class cannot be evaluated without training, nor reported without evaluation.
    """
    counts: dict[Subset, int] = {}
    left = total - 1
    for subset, fraction in fractions.items():
        wanted = max(1, math.floor(total * fraction + 0.5))
        counts[subset] = min(wanted, max(left, 0))
        left -= counts[subset]
    return counts


def _kfold(units: Mapping[str, pd.Series], config: SplitConfig, seed: int) -> dict[str, str]:
    if config.fold >= config.folds:
        raise SplitError(f"split.fold must be below split.folds = {config.folds}, got {config.fold}.")
    if len(units["label"]) < config.folds:
        raise SplitError(f"split.folds must be at most the {len(units['label'])} units, got {config.folds}.")
    ordered = [name for names in _by_label(units["label"], seed) for name in names]
    # Taking every k-th unit of the classes in turn balances both the classes and the sizes of the folds.
    test = {name for position, name in enumerate(ordered) if position % config.folds == config.fold}
    rest = units["label"][[name not in test for name in units["label"].index]]
    subsets = _cut({"label": rest}, {"val": config.val}, seed)
    return subsets | dict.fromkeys(test, "test")


def _given(manifest: Manifest, units: Mapping[str, pd.Series], config: SplitConfig, seed: int) -> dict[str, str]:
    """The subsets of the data's own layout; the validation set is taken from the training set if it is not given."""
    subset_of_sample = manifest.table["subset"]
    if subset_of_sample.isna().any() or not (subset_of_sample == "test").any():
        raise SplitError(
            "split.method=given needs a subset for every sample, and a test set: a folder layout with train/ and "
            "test/, or a table with a column of train, val and test."
        )
    if config.unit == "subject":
        names = manifest.table["subject"]
        _refuse_overlap({subset: set(names[subset_of_sample == subset]) for subset in SUBSETS})
    subsets = {str(name): str(subset) for name, subset in units["given"].items()}
    if "val" in subsets.values():
        return subsets
    rest = units["label"][[subsets[name] == "train" for name in units["label"].index]]
    return subsets | _cut({"label": rest}, {"val": config.val}, seed)


def _members(names: pd.Series, subset_of_sample: pd.Series) -> dict[Subset, tuple[str, ...]]:
    return {
        subset: tuple(sorted(names[(subset_of_sample == subset).to_numpy()].dropna().unique())) for subset in SUBSETS
    }


def _notes(manifest: Manifest, subset_of_sample: pd.Series, unit: str) -> tuple[str, ...]:
    notes = []
    noun = "subjects" if unit == "subject" else "images"
    names = manifest.table["subject"] if unit == "subject" else manifest.table["sample"]
    for label in manifest.classes:
        inside = (manifest.table["label"] == label).to_numpy()
        counts = {subset: names[inside & (subset_of_sample == subset).to_numpy()].nunique() for subset in SUBSETS}
        missing = [subset for subset in SUBSETS if counts[subset] == 0]
        if missing:
            titles = " and ".join(SUBSET_TITLES[subset] for subset in missing)
            verb = "contain" if len(missing) > 1 else "contains"
            notes.append(f"class {label} has only {sum(counts.values())} {noun}, so the {titles} {verb} none of them")
    return tuple(notes)
