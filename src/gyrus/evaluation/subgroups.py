"""For whom it works: the scores of groups of people or images, with how few they are.

Groups differ by chance alone, the more so the smaller they are and the more of them one looks at; beside the scores of
each stands whether the groups of a column differ by more than that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from gyrus.errors import ConfigError
from gyrus.evaluation.comparison import holm
from gyrus.evaluation.evaluate import evaluate
from gyrus.evaluation.metrics import METRICS
from gyrus.evaluation.result import Estimate, Unit
from gyrus.evaluation.sampling import USUAL, BootstrapConfig
from gyrus.evaluation.saving import load_value, save_value
from gyrus.evaluation.text import FEW_OF_A_CLASS
from gyrus.inference.pooling import pool_by_subject
from gyrus.inference.predictions import Predictions
from gyrus.registry import look_up

SCHEMA = "gyrus.subgroups/1"

BANDS = 3
"""Numeric columns are cut into so many bands of as many people, unless edges are given."""

CATEGORIES_AT_MOST = 6
"""A numeric column with no more different values than this is not cut."""

SHOWN = ("accuracy", "balanced_accuracy", "macro_roc_auc")


@dataclass(frozen=True)
class Subgroup:
    """The scores of one group.

    Attributes:
        name: The value that they share, or the band.
        count: How many people (images, where subjects are not known) were judged.
        images: How many images they have in it.
        class_counts: How many of the judged are of each class.
        metrics: By name of :data:`gyrus.evaluation.metrics.METRICS`.
    """

    name: str
    count: int
    images: int
    class_counts: Mapping[str, int]
    metrics: Mapping[str, Estimate]


@dataclass(frozen=True)
class SubgroupTable:
    """The groups of one column.

    Attributes:
        column: Its name.
        of: "subject" where all images of a person share a value; "image" where they do not, so that a person is judged
            in each group by the images in it alone.
        groups: In the order of the values.
        unknown: Images without a value, or not in the table of groups.
        p_value: Of groups that are right equally often among people of one class: groups permuted among the people of
            each class, corrected by Holm's method for the number of columns; None by image, and for a single group.
    """

    column: str
    of: Unit
    groups: tuple[Subgroup, ...]
    unknown: int
    p_value: float | None

    @property
    def smallest(self) -> Subgroup:
        """The group of the fewest people."""
        return min(self.groups, key=lambda group: group.count)

    def text(self, level: float = 0.95) -> str:
        """What the groups say, in a sentence or two.

        Args:
            level: A p-value below one minus this counts as a difference.
        """
        if not self.groups:
            return f"{self.column}: no image has a value."
        sizes = f"{self.column}: {_number(len(self.groups), 'group')}, the smallest '{self.smallest.name}'"
        few = f" of {self.smallest.count}" + (": its scores say little" if self.smallest.count < FEW_OF_A_CLASS else "")
        return f"{sizes}{few}. {self._verdict(level)}".rstrip()

    def _verdict(self, level: float) -> str:
        if self.p_value is None:
            shared = self.of == "image" and len(self.groups) > 1
            return "The same people are in several of them, so that a difference is not tested." if shared else ""
        if self.p_value < 1 - level:
            return f"In some of them the classifier is right less often than chance explains (p = {self.p_value:.2g})."
        return "The classifier is not shown to be right less often in one of them than in another."


def subgroups(
    predictions: Predictions,
    groups: pd.DataFrame,
    *,
    columns: Sequence[str] | None = None,
    edges: Mapping[str, Sequence[float]] | None = None,
    metrics: Sequence[str] = SHOWN,
    sampling: BootstrapConfig = USUAL,
) -> tuple[SubgroupTable, ...]:
    """The scores of every group, by subject where subjects are known.

    Args:
        predictions: What a classifier said; rows without a true class are left out.
        groups: Indexed by sample: sex, age, site, scanner, slice position, quality or whatever else.
        columns: Of ``groups``; by default all.
        edges: By column, rising numbers that cut it into bands, each from one up to below the next, the last
            included; by default bands of as many people.
        metrics: Names of :data:`gyrus.evaluation.metrics.METRICS`.
        sampling: How intervals are made; the test permutes as often.

    Raises:
        ConfigError: The index of ``groups`` names a sample twice, or edges are not rising.
        UnknownNameError: There is no such column or metric.
    """
    for name in metrics:
        look_up(name, METRICS, "metric")
    if groups.index.has_duplicates:
        twice = groups.index[groups.index.duplicated()][0]
        raise ConfigError(f"The table of groups names sample '{twice}' more than once.")
    labelled = predictions.select(predictions.targets >= 0)
    found, p_values = [], []
    for column in groups.columns if columns is None else columns:
        look_up(column, dict.fromkeys(groups.columns), "column of the table of groups")
        values = groups[column].reindex(labelled.table["sample"]).reset_index(drop=True)
        names = _banded(values, labelled, (edges or {}).get(column), column)
        of: Unit = "subject" if _is_of_subject(names, labelled) else "image"
        found.append((str(column), of, names))
        p_values.append(_p_value(labelled, names, sampling) if of == "subject" or not labelled.subjects_known else None)
    corrected = _corrected(p_values)
    return tuple(
        SubgroupTable(column, of, _groups(labelled, names, metrics, sampling), int(names.isna().sum()), p_value)
        for (column, of, names), p_value in zip(found, corrected, strict=True)
    )


def _groups(
    labelled: Predictions, names: pd.Series, metrics: Sequence[str], sampling: BootstrapConfig
) -> tuple[Subgroup, ...]:
    found = []
    for name in names.cat.categories:
        rows = labelled.select((names == name).to_numpy())
        if len(rows):
            found.append(_group(str(name), rows, metrics, sampling))
    return tuple(found)


def _group(name: str, rows: Predictions, metrics: Sequence[str], sampling: BootstrapConfig) -> Subgroup:
    scores = evaluate(rows, resamples=sampling.resamples, seed=sampling.seed, level=sampling.level).headline
    return Subgroup(name, scores.count, len(rows), scores.class_counts, {one: scores.metrics[one] for one in metrics})


def _banded(values: pd.Series, labelled: Predictions, edges: Sequence[float] | None, column: str) -> pd.Series:
    """The name of each row's group as an ordered category; NA where not known."""
    numeric = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    if not numeric or (edges is None and values.nunique() <= CATEGORIES_AT_MOST):
        return _categories(values)
    ends = _quantile_edges(values, labelled) if edges is None else np.asarray(edges, dtype=np.float64)
    if len(ends) < 2 or (np.diff(ends) <= 0).any():
        raise ConfigError(f"The edges of '{column}' must rise, two at least; got {list(ends)}.")
    index = np.clip(np.searchsorted(ends, values, side="right") - 1, 0, len(ends) - 2)
    known = (values.notna() & (values >= ends[0]) & (values <= ends[-1])).to_numpy(dtype=bool)
    labels = [f"{low:g} to {high:g}" for low, high in pairwise(ends)]
    names = [labels[band] if there else None for band, there in zip(index, known, strict=True)]
    return pd.Series(pd.Categorical(names, categories=labels, ordered=True))


def _categories(values: pd.Series) -> pd.Series:
    known = values.dropna()
    order = sorted(known.unique(), key=lambda value: (isinstance(value, str), value))
    names = {value: f"{value:g}" if isinstance(value, float) else str(value) for value in order}
    labels = list(dict.fromkeys(names.values()))
    return pd.Series(pd.Categorical(values.map(names), categories=labels, ordered=True))


def _quantile_edges(values: pd.Series, labelled: Predictions) -> npt.NDArray[np.float64]:
    """Ends of bands of as many people, each counted once by the mean of its images."""
    whose = labelled.table["subject"] if labelled.subjects_known else labelled.table["sample"]
    spread = values.groupby(whose.to_numpy()).mean() if _is_of_subject(values, labelled) else values
    inner = np.quantile(spread.dropna(), np.arange(1, BANDS) / BANDS)
    rounded = [float(f"{value:.3g}") for value in inner]
    return np.unique([float(values.min()), *rounded, float(values.max())])


def _is_of_subject(values: pd.Series, labelled: Predictions) -> bool:
    """Whether no subject has two values; where subjects are not known each image stands for itself."""
    if not labelled.subjects_known:
        return False
    return bool((values.groupby(labelled.table["subject"].to_numpy()).nunique() <= 1).all())


def _p_value(labelled: Predictions, names: pd.Series, sampling: BootstrapConfig) -> float | None:
    """Permutation test of groups that are right equally often among the people of each class."""
    rows, group = _judged(labelled.select(names.notna().to_numpy()), names.dropna())
    if not sampling.resamples or len(np.unique(group)) < 2:
        return None
    targets = rows.targets
    right = (rows.predicted == targets).astype(np.float64)
    expected = (np.bincount(targets, right) / np.maximum(np.bincount(targets), 1))[targets]
    random = np.random.default_rng((sampling.seed, 0x6E0))
    value = _spread(right - expected, group)
    drawn = [_spread(_shuffled(right, targets, random) - expected, group) for _ in range(sampling.resamples)]
    return (1 + int((np.array(drawn) >= value - 1e-12).sum())) / (1 + sampling.resamples)


def _judged(labelled: Predictions, names: pd.Series) -> tuple[Predictions, npt.NDArray[np.int64]]:
    """One row for each judged, and its group."""
    codes = np.asarray(names.cat.codes, dtype=np.int64)
    if not labelled.subjects_known:
        return labelled, codes
    pooled = pool_by_subject(labelled)
    group = pd.Series(codes).groupby(labelled.table["subject"].to_numpy()).first()
    return pooled, group.reindex(pooled.table["subject"]).to_numpy(dtype=np.int64)


def _shuffled(
    values: npt.NDArray[np.float64], strata: npt.NDArray[np.int64], random: np.random.Generator
) -> npt.NDArray[np.float64]:
    """The values in another order within each stratum."""
    mixed = random.permutation(len(values))
    target = np.argsort(strata, kind="stable")
    source = mixed[np.argsort(strata[mixed], kind="stable")]
    result = np.empty_like(values)
    result[target] = values[source]
    return result


def _spread(surplus: npt.NDArray[np.float64], group: npt.NDArray[np.int64]) -> float:
    """How far the groups lie from what their classes let expect: sum of squared surpluses, each over its size."""
    sizes = np.bincount(group)
    sums = np.bincount(group, surplus)[sizes > 0]
    return float((sums**2 / sizes[sizes > 0]).sum())


def _corrected(p_values: Sequence[float | None]) -> list[float | None]:
    corrected = iter(holm([value for value in p_values if value is not None]))
    return [None if value is None else next(corrected) for value in p_values]


def _number(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


@dataclass(frozen=True)
class Subgroups:
    """The groups of all columns, as they are kept in a run."""

    groupings: tuple[SubgroupTable, ...]

    def save(self, path: Path) -> None:
        """Write as JSON."""
        save_value(self, path, SCHEMA)

    @classmethod
    def load(cls, path: Path) -> Subgroups:
        """Read what :meth:`save` wrote.

        Raises:
            DataError: The file holds something else, or is damaged.
        """
        return load_value(cls, path, SCHEMA)
