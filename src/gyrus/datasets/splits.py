"""Split a data set into training, validation and test sets, with no subject in more than one of them.

Subjects are ordered by a hash of the seed and their name, and this order is cut. So a split depends only on the seed,
the names and the labels, and not on the order of directories, the platform or the random generator of a library.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from gyrus.configuration import Section
from gyrus.datasets.copies import CopiesBetween, copies_between, group_units, near_copy_notes, shared_contents
from gyrus.errors import ConfigError, LeakageError, SplitError
from gyrus.serialisation import Saved
from gyrus.text import counted, html_table, listed
from gyrus.types import SPLIT_WARNINGS, SUBSET_TITLES, SUBSETS, SplitUnit, Subset

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    from gyrus.datasets.manifest import Manifest

UNITS_OF_A_QUANTILE = 20
"""A number is stratified by quantiles of so many units, of which the usual fractions are whole numbers."""

MOST_QUANTILES = 10

COLUMN_BANDS = 3
"""Numbers of a column that the split is stratified by are divided into so many bands with equal numbers of units."""

NO_TEST = "no-test"
"""The method of a split into training and validation sets alone."""

SplitMethod = Literal["auto", "holdout", "kfold", "given", "leave-one-group-out"]
OnDuplicates = Literal["stop", "drop", "keep"]


class SplitConfig(Section):
    """How a data set is split into training, validation and test sets."""

    unit: Literal["subject", "image"] = Field(
        "subject",
        description="unit that is kept together; 'image' lets a subject be on both sides, and results carry a warning",
    )
    method: SplitMethod = Field(
        "auto",
        description="holdout, kfold, given (the subsets of the data), leave-one-group-out (the test set is a group, as "
        "a site), or auto: given if the data have a test set",
    )
    val: float = Field(
        0.15, gt=0, lt=1, description="fraction of the units in the validation set (of the training set if given)"
    )
    test: float = Field(0.2, gt=0, lt=1, description="fraction of the units in the test set (holdout)")
    folds: int = Field(5, ge=2, description="number of folds (kfold)")
    fold: int = Field(
        0, ge=0, description="fold used as the test set, counted from 0 (kfold); the number of the group in order"
    )
    group: str | None = Field(None, description="column of the groups of leave-one-group-out, for example site")
    stratify: tuple[str, ...] = Field(
        (), description="columns that are balanced between the subsets within each class, for example [sex, site, age]"
    )
    seed: int | None = Field(None, description="seed of the split; by default that of the experiment")
    on_duplicates: OnDuplicates = Field(
        "stop",
        description="at identical files in two given subsets: stop, drop (leave out the training copy), or keep; then "
        "every result carries a warning. New splits keep copies together",
    )
    near_copies: Literal["together", "apart"] = Field(
        "together",
        description="where subjects are unknown or each image is a subject: a new split keeps images that gyrus audit "
        "reports as duplicates in one subset, or takes each alone",
    )


@dataclass(frozen=True)
class Split(Saved):
    """Which sample belongs to which subset.

    Attributes:
        samples: The sample ids of each subset, sorted.
        subjects: The subjects of each subset, sorted; empty if subjects are unknown.
        unit: The unit that was kept together.
        method: "holdout", "kfold", "given", "leave-one-group-out" or, of :func:`split_off`, "given-test" or
            "no-test".
        seed: The seed of the order of units.
        manifest_digest: Digest of the manifest that was split.
        notes: Warnings, such as classes too small to be in every subset; not compared.
        fold: The number of the fold that is the test set, from 0; None unless the method is "kfold".
        copies: Number of images of the validation and test sets whose copies in an earlier subset were kept.
        dropped: The samples in no subset, because copies of them, or of their subject's images, are in a later one.
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
    copies: int = 0
    dropped: tuple[str, ...] = ()

    @property
    def kept_together(self) -> SplitUnit:
        """What results of this split record as their split unit: "copy" if copies are in several subsets."""
        return "copy" if self.copies else self.unit

    @property
    def warning(self) -> str:
        """The warning that every result of this split must carry; empty for a split by subject."""
        return SPLIT_WARNINGS[self.kept_together]

    def _repr_html_(self) -> str:
        rows = [
            (subset_title, counted(len(self.samples[subset]), "image"), counted(len(self.subjects[subset]), "subject"))
            for subset, subset_title in SUBSET_TITLES.items()
        ]
        return html_table(f"Split by {self.unit}, seed {self.seed}", rows, (self.warning, *self.notes))

    def to_document(self) -> dict[str, Any]:
        """The fields and the warning as plain values for JSON."""
        return {**super().to_document(), "warning": self.warning}


def split(manifest: Manifest, config: SplitConfig | None = None, *, seed: int = 0) -> Split:
    """Split a manifest into training, validation and test sets, stratified by label, or by quantiles of a number.

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
    table = manifest.table
    groups = group_units(manifest, _units(manifest, config.unit))
    method = config.method
    if method == "auto":
        method = "given" if (table["subset"] == "test").any() else "holdout"

    copies: tuple[CopiesBetween, ...] = ()
    if method == "given":
        by_sample, copies = _given(manifest, groups, config, seed)
    elif method == "leave-one-group-out":
        by_sample = groups.map(_leave_one_group_out(manifest, groups, config, seed))
    elif method == "kfold":
        by_sample = groups.map(_kfold(_strata(manifest, groups), config, seed, _balanced(manifest, groups, config)))
    else:
        if config.val + config.test >= 1:
            raise SplitError(
                f"split.val + split.test must be below 1, got {config.val} + {config.test}. "
                "No subject would be left for training."
            )
        fractions: dict[Subset, float] = {"test": config.test, "val": config.val}
        by_sample = groups.map(_cut(_strata(manifest, groups), fractions, seed, _balanced(manifest, groups, config)))

    return _checked_split(manifest, config, by_sample, method=method, seed=seed, copies=copies)


def _checked_split(
    manifest: Manifest,
    config: SplitConfig,
    by_sample: pd.Series,
    *,
    method: str,
    seed: int,
    copies: tuple[CopiesBetween, ...] = (),
) -> Split:
    """The split with the subset of each sample, after all checks."""
    table = manifest.table
    split_unit: SplitUnit = config.unit
    if config.unit == "subject" and manifest.subject_kind in ("scan", "inferred"):
        split_unit = manifest.subject_kind
    dropped = table["sample"][by_sample.isna()]
    result = Split(
        samples=_members(table["sample"], by_sample),
        subjects=_members(table["subject"], by_sample),
        unit=split_unit,
        method=method,
        seed=seed,
        manifest_digest=manifest.digest,
        notes=(
            *_class_notes(manifest, by_sample, config.unit),
            *map(str, copies),
            *_dropped_notes(manifest, by_sample, config.unit),
            *_copy_notes(manifest, by_sample),
            *near_copy_notes(manifest),
            *_group_notes(manifest, config, method),
        ),
        fold=config.fold if method in ("kfold", "leave-one-group-out") else None,
        copies=_count(copies),
        dropped=tuple(sorted(dropped)),
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


def split_off(manifest: Manifest, config: SplitConfig, test: Collection[str], *, seed: int = 0) -> Split:
    """A split with a given test set, such as two folds of a nested cross-validation together.

    The validation set is drawn from all other units, as in the other splits. Without a test set, where others hold it
    back, the method is "no-test".

    Args:
        manifest: Every sample must have a label.
        config: The unit, the fraction of the validation set and the columns to balance.
        test: The subjects of the test set; of a split by image its samples.
        seed: Used if the config has none.

    Raises:
        SplitError: See :func:`split`.
        LeakageError: Subjects that share copies are on both sides.
    """
    seed = seed if config.seed is None else config.seed
    units = _units(manifest, config.unit)
    groups = group_units(manifest, units)
    inside = {name for name, unit in zip(groups, units, strict=True) if unit in test}
    labels, fine = _strata(manifest, groups), _balanced(manifest, groups, config)
    rest = labels[[name not in inside for name in labels.index]]
    by_sample = groups.map(_cut(rest, {"val": config.val}, seed, fine) | dict.fromkeys(inside, "test"))
    return _checked_split(manifest, config, by_sample, method="given-test" if test else NO_TEST, seed=seed)


def leave_one_group_out(manifest: Manifest, config: SplitConfig, *, seed: int = 0) -> tuple[Split, ...]:
    """One split per group, such as a site: it is the test set, and all others are for training and validation.

    Raises:
        SplitError: See :func:`split`; or the groups are unknown, or there are fewer than two.
    """
    config = config.model_copy(update={"method": "leave-one-group-out"})
    count = len(group_names(manifest, config))
    return tuple(split(manifest, config.model_copy(update={"fold": fold}), seed=seed) for fold in range(count))


def group_names(manifest: Manifest, config: SplitConfig) -> tuple[str, ...]:
    """The groups of a split by leave-one-group-out, in order.

    Raises:
        SplitError: No column is named, the data lack it, a cell is empty, or there are fewer than two groups.
    """
    if config.group is None:
        raise SplitError(
            "split.method=leave-one-group-out needs the column of the groups: --set split.group=site, for example."
        )
    cells = _column(manifest, config.group, "split.group")
    missing = int(cells.isna().sum())
    if missing:
        raise SplitError(
            f"The column '{config.group}' (split.group) is empty for {missing} of {len(manifest)} samples. Fill it in, "
            "or leave these samples out."
        )
    names = tuple(sorted(cells.unique()))
    if len(names) < 2:
        raise SplitError(f"The column '{config.group}' (split.group) has only the value '{names[0]}'; two are needed.")
    return names


def is_by_subject(manifest: Manifest, split: Split) -> bool:
    """Whether people (scans, visits) are the units that what is fitted beside a network sees; else images."""
    return split.unit != "image" and manifest.subject_kind != "unknown"


def class_sizes(manifest: Manifest, unit: Literal["image", "subject"], most: int = 10) -> str:
    """The number of images or subjects of each class, such as "2 subjects (1 AD, 1 CN)", or the range of the number."""
    table = manifest.table
    names = table["sample"] if unit == "image" else table["subject"]
    if manifest.target.is_number:
        numbers = manifest.targets
        return f"{counted(names.nunique(), unit)} ({manifest.target.name} {numbers.min():g} to {numbers.max():g})"
    counts = names.groupby(table["label"]).nunique()
    sizes = [f"{counts.get(label, 0)} {label}" for label in manifest.classes[:most]]
    more = (
        f" and {counted(len(manifest.classes) - most, 'more class', 'more classes')}"
        if len(manifest.classes) > most
        else ""
    )
    total = names.nunique()
    return f"{total} {unit}{'s' if total != 1 else ''} ({', '.join(sizes)}{more})"


def check_split(split: Split, manifest: Manifest) -> None:
    """Refuse a split with an empty subset, with a subject in two subsets unless it is by image, or with unknown copies.

    Raises:
        SplitError: A subset is empty.
        LeakageError: A subject is in more than one subset; the error names all of them. Or images have copies in
            another subset, which the split does not record.
    """
    unit: Literal["image", "subject"] = "image" if split.unit == "image" else "subject"
    for subset in SUBSETS:
        if not split.samples[subset] and (subset != "test" or split.method != NO_TEST):
            after = (
                f" after {counted(len(split.dropped), 'image')} with copies in a later subset had to be dropped"
                * bool(split.dropped)
            )
            if manifest.target.is_number:
                raise SplitError(
                    f"The {SUBSET_TITLES[subset]} would be empty{after}. The data have {class_sizes(manifest, unit)}. "
                    f"Add {unit}s, or enlarge the fractions (split.val, split.test)."
                )
            raise SplitError(
                f"The {SUBSET_TITLES[subset]} would be empty{after}. The data have "
                f"{class_sizes(manifest, unit)}. Each class needs at least 3 {unit}s: one in each of the training, "
                f"validation and test sets. Add {unit}s, or enlarge the fractions (split.val, split.test)."
            )
    if split.unit != "image":
        _refuse_overlap({subset: set(split.subjects[subset]) for subset in SUBSETS})
    subset_of_sample = {sample: subset for subset in SUBSETS for sample in split.samples[subset]}
    copies = copies_between(manifest, manifest.table["sample"].map(subset_of_sample))
    if _count(copies) > split.copies:
        raise _copies_error(manifest, copies, split.unit)


def _refuse_overlap(members: Mapping[Subset, set[str]], whose: str = "subjects") -> None:
    shared = sorted(set().union(*(members[one] & members[other] for one, other in combinations(SUBSETS, 2))))
    if shared:
        raise LeakageError(
            f"{len(shared)} {whose} are in more than one subset: {listed(shared)}. Scores on such subsets are "
            "inflated. Ignore the subsets of the data with --set split.method=holdout, or correct them.",
            shared,
        )


def _count(copies: Sequence[CopiesBetween]) -> int:
    """The number of images that have a copy in an earlier subset."""
    return len({sample for each in copies for sample, _ in each.pairs})


def _copies_error(manifest: Manifest, copies: Sequence[CopiesBetween], unit: str) -> LeakageError:
    subjects: set[str] = set()
    people = whole = ""
    if unit != "image":
        subject_of = dict(zip(manifest.table["sample"], manifest.table["subject"], strict=True))
        pairs = [(subject_of[sample], subject_of[copy]) for each in copies for sample, copy in each.pairs]
        subjects = {name for pair in pairs for name in pair}
        people = f" Subjects with the same images, such as {pairs[0][0]} and {pairs[0][1]}, may be one person."
        whole = ", and all images of their subjects"
    return LeakageError(
        f"{'; '.join(map(str, copies))}. Scores on such images are inflated.{people} Choose one:\n"
        f"  --on-duplicates drop: leave out the training copies{whole}\n"
        "  --on-duplicates keep: keep them; every result carries a warning\n"
        "  --set split.method=holdout: ignore the subsets of the data and make new ones, with copies on one side",
        sorted(subjects),
    )


def _units(manifest: Manifest, unit: str) -> pd.Series:
    """The unit of each sample."""
    table = manifest.table
    unlabelled = table["label"].isna().sum()
    if unlabelled:
        raise SplitError(
            f"{counted(unlabelled, 'sample has', 'samples have')} no label; a split for training needs all labels."
        )
    if unit == "image":
        return table["sample"]
    _require_subjects(manifest)
    # The label of a subject may change between visits (data.label_changes=each), but not within one.
    labels = table.groupby(["subject", "session"], dropna=False, sort=True)["label"].nunique()
    mixed = labels[labels > 1].index.get_level_values("subject")
    if len(mixed):
        raise SplitError(f"Subjects with more than one label: {', '.join(mixed[:10])}. Give each one label.")
    return table["subject"]


def _strata(manifest: Manifest, groups: pd.Series) -> pd.Series:
    """What groups are stratified by: their label, or the quantile of their mean number, as text that sorts."""
    if not manifest.target.is_number:
        return _labels(manifest.table, groups)
    means = manifest.targets.groupby(groups.loc[manifest.table.index]).mean()
    ordered = sorted(means.index, key=lambda group: (means[group], group))
    bins = min(MOST_QUANTILES, max(1, len(ordered) // UNITS_OF_A_QUANTILE))
    return means.index.to_series().map(
        {group: f"{place * bins // len(ordered):02d}" for place, group in enumerate(ordered)}
    )


def _column(manifest: Manifest, name: str, field: str) -> pd.Series:
    """The cells of a column as text, NA where they are missing.

    Raises:
        SplitError: The data lack the column.
    """
    import pandas as pd

    from gyrus.datasets.table_features import find_column, text_of_cells

    try:
        found = find_column(manifest.table, name)
    except ConfigError as error:
        raise SplitError(f"{field}: {error}") from error
    return pd.Series(text_of_cells(manifest.table[found]), index=manifest.table.index, dtype="string")


def _balanced(manifest: Manifest, groups: pd.Series, config: SplitConfig) -> pd.Series | None:
    """The values of each group in the columns that are balanced, as text; None if there are no such columns."""
    import pandas as pd

    if not config.stratify:
        return None
    parts = []
    for name in config.stratify:
        cells = _column(manifest, name, "split.stratify").groupby(groups).first()
        numbers = pd.to_numeric(cells, errors="coerce")
        if numbers.notna().sum() == cells.notna().sum() and numbers.nunique() > COLUMN_BANDS:
            places = numbers.rank(method="first")
            cells = (places * COLUMN_BANDS / (places.max() + 1)).floordiv(1).astype("string")
        parts.append(cells.fillna(""))
    return pd.Series(list(zip(*parts, strict=True)), index=parts[0].index).map("|".join)


def _leave_one_group_out(manifest: Manifest, groups: pd.Series, config: SplitConfig, seed: int) -> dict[str, str]:
    names = group_names(manifest, config)
    if config.fold >= len(names):
        raise SplitError(
            f"split.fold must be below {len(names)}, the number of groups of '{config.group}', got {config.fold}."
        )
    assert config.group is not None
    cells = _column(manifest, config.group, "split.group").groupby(groups)
    several = [str(unit) for unit, count in cells.nunique().items() if count > 1]
    if several:
        raise SplitError(
            f"{counted(len(several), 'subject is', 'subjects are')} in more than one group of '{config.group}', as "
            f"{listed(several, 3)}. Leave them out, or give each one group."
        )
    test = {str(unit) for unit, found in cells.first().items() if found == names[config.fold]}
    labels, fine = _strata(manifest, groups), _balanced(manifest, groups, config)
    rest = labels[[name not in test for name in labels.index]]
    return _cut(rest, {"val": config.val}, seed, fine) | dict.fromkeys(test, "test")


def _group_notes(manifest: Manifest, config: SplitConfig, method: str) -> tuple[str, ...]:
    if method != "leave-one-group-out":
        return ()
    return (f"the test set is {config.group} = {group_names(manifest, config)[config.fold]}",)


def _labels(table: pd.DataFrame, groups: pd.Series) -> pd.Series:
    """The label of each group: that of most of its samples, since copies may have other labels."""
    named = table[["label"]].assign(group=groups)
    counts = named.value_counts(["group", "label"], sort=False).sort_values(ascending=False, kind="stable")
    return counts.reset_index().drop_duplicates("group").set_index("group")["label"].sort_index()


def _require_subjects(manifest: Manifest) -> None:
    unknown = int(manifest.table["subject"].isna().sum())
    if manifest.subject_kind == "unknown" or unknown:
        raise SplitError(
            f"The subject of {unknown} of {len(manifest)} samples is unknown, so a subject may be in both the training "
            "and the test set. Choose one:\n"
            "  --subject-pattern REGEX: read subjects from file or folder names, for example "
            "'^[^/]+/(?P<subject>[^/]+)/' for folders class/subject\n"
            "  --subject-rule NAME: read them from names in a common form\n"
            "  a table with the columns path, label and subject as data set\n"
            "  --subjects inferred: group images by their pixels; every result carries a warning\n"
            "  --split-unit image: accept inflated scores; every result carries a warning"
        )


def _by_label(labels: pd.Series, seed: int, fine: pd.Series | None = None) -> list[list[str]]:
    """The units of each class, in the order of a hash of the seed and their name; before that of ``fine``, if given."""

    def key(unit: str) -> tuple[str, bytes]:
        return "" if fine is None else str(fine[unit]), hashlib.sha256(f"{seed}/{unit}".encode()).digest()

    return [sorted(group.index, key=key) for _, group in labels.groupby(labels, sort=True)]


def _cut(
    labels: pd.Series, fractions: Mapping[Subset, float], seed: int, fine: pd.Series | None = None
) -> dict[str, str]:
    """Cut each class by ``fractions``; the rest is the training set.

    Args:
        labels: The class of each unit.
        fractions: The fraction of each subset.
        seed: Seed of the order.
        fine: What is balanced within each class: the units are then ordered by it, and each subset gets units at equal
            distances in this order.
    """
    subsets: dict[str, str] = {}
    for names in _by_label(labels, seed, fine):
        left = names
        for subset, count in _counts(len(names), fractions).items():
            places = (
                range(count) if fine is None else [(2 * one + 1) * len(left) // (2 * count) for one in range(count)]
            )
            chosen = {left[place] for place in places}
            subsets.update(dict.fromkeys(chosen, subset))
            left = [name for name in left if name not in chosen]
        subsets.update(dict.fromkeys(left, "train"))
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


def _kfold(labels: pd.Series, config: SplitConfig, seed: int, fine: pd.Series | None) -> dict[str, str]:
    if config.fold >= config.folds:
        raise SplitError(f"split.fold must be below split.folds = {config.folds}, got {config.fold}.")
    if len(labels) < config.folds:
        raise SplitError(f"split.folds must be at most the {len(labels)} units, got {config.folds}.")
    ordered = [name for names in _by_label(labels, seed, fine) for name in names]
    # Taking every k-th unit of the classes in turn balances both the classes and the sizes of the folds.
    test = {name for position, name in enumerate(ordered) if position % config.folds == config.fold}
    rest = labels[[name not in test for name in labels.index]]
    return _cut(rest, {"val": config.val}, seed, fine) | dict.fromkeys(test, "test")


def _given(
    manifest: Manifest, groups: pd.Series, config: SplitConfig, seed: int
) -> tuple[pd.Series, tuple[CopiesBetween, ...]]:
    """The subsets of the data's own layout, NA where a sample is dropped; and the copies in several of them.

    The validation set is taken from the training set if it is not given.
    """
    table, subsets = manifest.table, manifest.table["subset"]
    if subsets.isna().any() or not (subsets == "test").any():
        raise SplitError(
            "split.method=given needs a subset for every sample, and a test set: a folder layout with train/ and "
            "test/, or a table with a column of train, val and test."
        )
    if config.unit == "subject":
        names = table["subject"]
        whose = "inferred subjects" if manifest.subject_kind == "inferred" else "subjects"
        _refuse_overlap({subset: set(names[subsets == subset]) for subset in SUBSETS}, whose)
    copies = copies_between(manifest, subsets)
    if copies and config.on_duplicates == "stop":
        raise _copies_error(manifest, copies, config.unit)
    if copies and config.on_duplicates == "drop":
        place = subsets.map({subset: number for number, subset in enumerate(SUBSETS)})
        subsets = subsets.where(place == place.groupby(groups.to_numpy()).transform("max"))
        copies = ()
    if not _inside(subsets, "val").any():
        train = _inside(subsets, "train")
        fine = _balanced(manifest, groups, config)
        cut = _cut(_strata(replace(manifest, table=table[train]), groups), {"val": config.val}, seed, fine)
        subsets = subsets.mask(train, groups.map(cut))
    return subsets, copies


def _members(names: pd.Series, subset_of_sample: pd.Series) -> dict[Subset, tuple[str, ...]]:
    return {subset: tuple(sorted(names[_inside(subset_of_sample, subset)].dropna().unique())) for subset in SUBSETS}


def _inside(subset_of_sample: pd.Series, subset: Subset) -> npt.NDArray[np.bool_]:
    """Which samples are in a subset."""
    return subset_of_sample.eq(subset).fillna(False).to_numpy(dtype=bool)


def _class_notes(manifest: Manifest, subset_of_sample: pd.Series, unit: str) -> tuple[str, ...]:
    notes = []
    noun = "subject" if unit == "subject" else "image"
    names = manifest.table["subject"] if unit == "subject" else manifest.table["sample"]
    for label in manifest.classes:
        inside = (manifest.table["label"] == label).to_numpy()
        counts = {subset: names[inside & _inside(subset_of_sample, subset)].nunique() for subset in SUBSETS}
        missing = [subset for subset in SUBSETS if counts[subset] == 0 and _inside(subset_of_sample, subset).any()]
        if missing:
            titles = " and ".join(SUBSET_TITLES[subset] for subset in missing)
            verb = "contain" if len(missing) > 1 else "contains"
            notes.append(
                f"class {label} has only {counted(sum(counts.values()), noun)}, so the {titles} {verb} none of them"
            )
    return tuple(notes)


def _dropped_notes(manifest: Manifest, subset_of_sample: pd.Series, unit: str) -> tuple[str, ...]:
    """How many images of each given subset were dropped because of copies."""
    notes = []
    for subset in SUBSETS:
        dropped = manifest.table[subset_of_sample.isna() & (manifest.table["subset"] == subset)]
        if len(dropped):
            whose = f" of {counted(dropped['subject'].nunique(), 'subject')}" if unit == "subject" else ""
            verb = "was" if len(dropped) == 1 else "were"
            notes.append(
                f"{counted(len(dropped), 'image')}{whose} {verb} dropped from the {SUBSET_TITLES[subset]}, because a "
                f"later subset has copies of {'images of these subjects' if whose else 'them'}"
            )
    return tuple(notes)


def _copy_notes(manifest: Manifest, subset_of_sample: pd.Series) -> tuple[str, ...]:
    """Copies with other labels, and copies under the names of other subjects."""
    shared = shared_contents(replace(manifest, table=manifest.table[subset_of_sample.notna()]))
    copies = manifest.table.loc[shared.index].assign(content=shared.to_numpy()).reset_index(drop=True)
    notes = []
    for column, consequence in (
        ("label", "at most one label of each is correct; gyrus audit lists them"),
        ("subject", "these may be one person, who counts as several in every score"),
    ):
        mixed = copies[copies.groupby("content")[column].transform("nunique") > 1]
        if len(mixed):
            first = mixed[mixed["content"] == mixed["content"].iloc[0]].drop_duplicates(column).head(2)
            named = " and ".join(
                f"{sample} ({name})" for sample, name in zip(first["sample"], first[column], strict=True)
            )
            notes.append(
                f"{mixed['sample'].nunique()} images have copies with another {column}, first: {named}; {consequence}"
            )
    return tuple(notes)
