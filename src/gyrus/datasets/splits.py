"""Who is learnt from, who is chosen by, who is judged on; never the same person twice.

People are put in an order by a hash of the seed and their name, and the order is cut. So a split depends on
nothing but the seed, the names and the labels: not on the order of directories, the platform or a library's
random generator.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from gyrus.errors import DataError, LeakageError, SplitError
from gyrus.files import read_json, write_json
from gyrus.types import SPLIT_WARNINGS, SUBSETS, SplitUnit, Subset

if TYPE_CHECKING:
    import pandas as pd

    from gyrus.datasets.manifest import Manifest

SplitMethod = Literal["auto", "holdout", "kfold", "given"]


class SplitConfig(BaseModel):
    """How a data set is cut into train, val and test."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    unit: Literal["subject", "image"] = Field(
        "subject", description="what is kept whole; 'image' lets a person be on both sides, and every result says so"
    )
    method: SplitMethod = Field(
        "auto", description="holdout, kfold, given (the data's own parts), or auto: given where there is a test set"
    )
    val: float = Field(0.15, gt=0, lt=1, description="share of the units (of the training set if given) to choose by")
    test: float = Field(0.2, gt=0, lt=1, description="share of the units to be judged on (holdout)")
    folds: int = Field(5, ge=2, description="number of folds (kfold)")
    fold: int = Field(0, ge=0, description="which fold is the test set, counted from 0 (kfold)")
    seed: int | None = Field(None, description="seed of the split; by default that of the experiment")


@dataclass(frozen=True)
class Split:
    """Which sample belongs to which part.

    Attributes:
        samples: The sample ids of each part, sorted.
        subjects: The subjects of each part, sorted; empty where subjects are unknown.
        unit: What was kept whole.
        method: "holdout", "kfold" or "given".
        seed: The seed that the order of units came from.
        manifest_digest: Digest of the manifest that was split.
        notes: What a reader should know, such as classes too small to be in every part.
        fold: The number of the fold that is the test set, from 0; None unless the method is "kfold".
    """

    samples: Mapping[Subset, tuple[str, ...]]
    subjects: Mapping[Subset, tuple[str, ...]]
    unit: SplitUnit
    method: str
    seed: int
    manifest_digest: str
    notes: tuple[str, ...] = ()
    fold: int | None = None

    @property
    def warning(self) -> str:
        """The words that every result of this split must carry; empty for a split by subject."""
        return SPLIT_WARNINGS[self.unit]

    def save(self, path: Path) -> None:
        """Write as JSON."""
        write_json(
            path,
            {
                "unit": self.unit,
                "statement": self.warning,
                "method": self.method,
                "fold": self.fold,
                "seed": self.seed,
                "manifest_digest": self.manifest_digest,
                "notes": self.notes,
                "subjects": self.subjects,
                "samples": self.samples,
            },
        )

    @classmethod
    def load(cls, path: Path) -> Split:
        """Read what :meth:`save` wrote.

        Raises:
            DataError: The file was not written by :meth:`save`.
        """
        value = read_json(path)
        try:
            return cls(
                samples={subset: tuple(value["samples"][subset]) for subset in SUBSETS},
                subjects={subset: tuple(value["subjects"][subset]) for subset in SUBSETS},
                unit=value["unit"],
                method=value["method"],
                seed=value["seed"],
                manifest_digest=value["manifest_digest"],
                notes=tuple(value["notes"]),
                fold=value["fold"],
            )
        except (KeyError, TypeError) as error:
            raise DataError(f"{path} is not a split that Gyrus wrote: {error!r}.") from error


def split(manifest: Manifest, config: SplitConfig | None = None, *, seed: int = 0) -> Split:
    """Cut a manifest into train, val and test, stratified by label.

    Args:
        manifest: Every sample must have a label.
        config: How; by default 65 % of the subjects to train, 15 % to val, 20 % to test, or the test set
            that the layout of the data gives.
        seed: Used where the config names none.

    Raises:
        SplitError: Subjects are unknown and the unit is "subject"; a part would be empty; a label is missing.
        LeakageError: The parts that the data give share subjects.
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
                "Nothing would be left to train on."
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
    check(result, manifest)
    return result


def kfold(manifest: Manifest, config: SplitConfig | None = None, *, seed: int = 0) -> tuple[Split, ...]:
    """All folds of a stratified k-fold; each sample is in exactly one test set.

    Raises:
        SplitError: See :func:`split`.
    """
    config = (config or SplitConfig()).model_copy(update={"method": "kfold"})
    return tuple(split(manifest, config.model_copy(update={"fold": fold}), seed=seed) for fold in range(config.folds))


def check(split: Split, manifest: Manifest) -> None:
    """Refuse a split with an empty part, or with a subject in two parts unless it is by image.

    Raises:
        SplitError: A part is empty.
        LeakageError: A subject is in two parts; the error names all of them.
    """
    for subset in SUBSETS:
        if not split.samples[subset]:
            raise SplitError(
                f"The {subset} part would be empty: {len(manifest)} samples are too few for these shares. "
                "Give more data, or larger shares."
            )
    if split.unit == "image":
        return
    _refuse_overlap({subset: set(split.subjects[subset]) for subset in SUBSETS})


def _refuse_overlap(members: Mapping[Subset, set[str]]) -> None:
    shared = sorted(
        (members["train"] & members["val"]) | (members["train"] & members["test"]) | (members["val"] & members["test"])
    )
    if shared:
        named = ", ".join(shared[:10]) + (f" and {len(shared) - 10} more" if len(shared) > 10 else "")
        raise LeakageError(
            f"{len(shared)} subjects are in more than one part: {named}. Scores on such parts are inflated. "
            "Ignore the data's own parts with split.method=holdout, or mend them.",
            shared,
        )


def _units(manifest: Manifest, unit: str) -> dict[str, pd.Series]:
    """Label, given part and name of each unit, and the unit of each sample."""
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
            f"The subject of {unknown} of {len(manifest)} samples is unknown, so nobody can say whether a person is "
            "both learnt from and tested. Name the subjects (--subject-pattern REGEX, --subject-rule NAME, or a table "
            "with a subject column), or accept inflated scores with --split-unit image: "
            "every result then says so."
        )


def _order(units: Sequence[str], seed: int) -> list[str]:
    return sorted(units, key=lambda unit: hashlib.sha256(f"{seed}/{unit}".encode()).digest())


def _by_label(labels: pd.Series, seed: int) -> list[list[str]]:
    """The units of each class, in the order that the seed gives."""
    return [_order(list(group.index), seed) for _, group in labels.groupby(labels, sort=True)]


def _cut(units: Mapping[str, pd.Series], shares: Mapping[Subset, float], seed: int) -> dict[str, str]:
    """Cut each class by ``shares``; what is left over is train."""
    subsets: dict[str, str] = {}
    for names in _by_label(units["label"], seed):
        start = 0
        for subset, count in _counts(len(names), shares).items():
            subsets.update(dict.fromkeys(names[start : start + count], subset))
            start += count
        subsets.update(dict.fromkeys(names[start:], "train"))
    return subsets


def _counts(total: int, shares: Mapping[Subset, float]) -> dict[Subset, int]:
    """How many of ``total`` units each part gets.

    A class with few units gives its first to train, its second to the first part of ``shares``, and so on: a class
    that is not learnt cannot be judged, and one that is not judged cannot be reported.
    """
    counts: dict[Subset, int] = {}
    left = total - 1
    for subset, share in shares.items():
        wanted = max(1, math.floor(total * share + 0.5))
        counts[subset] = min(wanted, max(left, 0))
        left -= counts[subset]
    return counts


def _kfold(units: Mapping[str, pd.Series], config: SplitConfig, seed: int) -> dict[str, str]:
    if config.fold >= config.folds:
        raise SplitError(f"split.fold must be below split.folds = {config.folds}, got {config.fold}.")
    if len(units["label"]) < config.folds:
        raise SplitError(f"split.folds must be at most the {len(units['label'])} units, got {config.folds}.")
    dealt = [name for names in _by_label(units["label"], seed) for name in names]
    # Dealing in turn through the classes keeps both the classes and the sizes of the folds even.
    test = {name for position, name in enumerate(dealt) if position % config.folds == config.fold}
    rest = units["label"][[name not in test for name in units["label"].index]]
    subsets = _cut({"label": rest}, {"val": config.val}, seed)
    return subsets | dict.fromkeys(test, "test")


def _given(manifest: Manifest, units: Mapping[str, pd.Series], config: SplitConfig, seed: int) -> dict[str, str]:
    """The parts of the data's own layout; val is cut from train where it is not given."""
    subset_of_sample = manifest.table["subset"]
    if subset_of_sample.isna().any() or not (subset_of_sample == "test").any():
        raise SplitError(
            "split.method=given needs a part for every sample, and a test set: a folder layout with train/ and test/, "
            "or a table with a column of train, val and test."
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
            notes.append(
                f"class {label} has only {sum(counts.values())} {noun}: none of them in {' and '.join(missing)}"
            )
    return tuple(notes)
