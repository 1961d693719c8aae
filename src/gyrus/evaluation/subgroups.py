"""Subgroup analysis: scores by sex, age, site or any other column of subjects or images.

Subgroups differ by chance, the more so the smaller and the more numerous they are. A permutation test for each column
checks whether its groups differ by more than that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Annotated

import numpy as np
import numpy.typing as npt
import pandas as pd

from gyrus.errors import ConfigError
from gyrus.evaluation.bootstrap import DEFAULT_BOOTSTRAP, BootstrapConfig
from gyrus.evaluation.comparison import holm
from gyrus.evaluation.evaluate import evaluate
from gyrus.evaluation.metrics import headline_metrics, metrics_of
from gyrus.evaluation.result import FEW_OF_A_CLASS, Estimate, Unit
from gyrus.inference.pooling import pool_by_subject
from gyrus.inference.predictions import Predictions, PredictionTable
from gyrus.registry import look_up
from gyrus.serialisation import Saved, renamed
from gyrus.text import counted, p_value_text

BANDS = 3
"""Numeric columns are divided into this many bands with equal numbers of subjects, unless edges are given."""

CATEGORIES_AT_MOST = 6
"""A numeric column with at most this many distinct values is not divided."""


@dataclass(frozen=True)
class Subgroup:
    """The scores of one group.

    Attributes:
        name: The value of the column, or the band.
        count: The number of subjects (of images, where subjects are unknown).
        images: The number of their images in the group.
        class_counts: How many of them are of each class.
        metrics: By name of :func:`gyrus.evaluation.metrics.metrics_of`.
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
        unit: "subject" where all images of a subject share a value; "image" where they do not, so that a subject is
            scored in each group by its images there.
        groups: In the order of the values.
        unknown: The number of images without a value, or missing from the table of groups.
        p_value: Of equal accuracy of the groups within each class, by permuting the groups among the subjects of each
            class, corrected by Holm's method for the number of columns; None by image, by visit, and for a single
            group.
    """

    column: str
    unit: Annotated[Unit, renamed("unit", "of")]
    groups: tuple[Subgroup, ...]
    unknown: int
    p_value: float | None

    @property
    def smallest(self) -> Subgroup:
        """The group with the fewest subjects."""
        return min(self.groups, key=lambda group: group.count)

    def text(self, level: float = 0.95) -> str:
        """The sizes of the groups and whether their accuracy differs, in a sentence or two.

        Args:
            level: Confidence level: a p-value below one minus this is a difference.
        """
        if not self.groups:
            return f"{self.column}: no image has a value."
        number, smallest = len(self.groups), self.smallest
        sizes = f"{self.column}: {counted(number, 'group')}, the smallest '{smallest.name}'"
        few = ", too few for reliable scores" if smallest.count < FEW_OF_A_CLASS else ""
        return f"{sizes} with {smallest.count}{few}. {self._verdict(level)}".rstrip()

    def _verdict(self, level: float) -> str:
        if self.p_value is None:
            shared = self.unit == "image" and len(self.groups) > 1
            return "The same subjects are in several groups, so differences are not tested." if shared else ""
        if self.p_value < 1 - level:
            return f"Accuracy differs between the groups by more than chance ({p_value_text(self.p_value)})."
        return f"No significant difference in accuracy between the groups ({p_value_text(self.p_value)})."


@dataclass(frozen=True)
class Subgroups(Saved):
    """The subgroup analysis of a run, one table per column."""

    SCHEMA = "gyrus.subgroups/1"

    tables: Annotated[tuple[SubgroupTable, ...], renamed("tables", "groupings")]


def evaluate_subgroups(
    predictions: Predictions,
    groups: pd.DataFrame,
    *,
    columns: Sequence[str] | None = None,
    edges: Mapping[str, Sequence[float]] | None = None,
    metrics: Sequence[str] | None = None,
    bootstrap: BootstrapConfig = DEFAULT_BOOTSTRAP,
) -> tuple[SubgroupTable, ...]:
    """The scores of every subgroup, by subject where subjects are known.

    Args:
        predictions: Rows without a true class are left out.
        groups: Indexed by sample; columns such as sex, age, site, scanner, slice position or quality.
        columns: Of ``groups``; by default all.
        edges: By column, ascending edges of bands; each band includes its lower edge, the last band both. By default
            bands with equal numbers of subjects.
        metrics: Names of :func:`gyrus.evaluation.metrics.metrics_of`; by default those of short tables.
        bootstrap: How intervals are computed; the test uses as many permutations.

    Raises:
        ConfigError: A sample is in the index of ``groups`` twice, or edges are not ascending.
        UnknownNameError: There is no such column or metric.
    """
    metrics = tuple(headline_metrics(ordered=predictions.target.is_ordered)) if metrics is None else metrics
    for name in metrics:
        look_up(name, metrics_of(ordered=predictions.target.is_ordered), "metric")
    if groups.index.has_duplicates:
        twice = groups.index[groups.index.duplicated()][0]
        raise ConfigError(f"The table of groups names sample '{twice}' more than once.")
    labelled = predictions.select(predictions.targets >= 0)
    found, p_values = [], []
    for column in groups.columns if columns is None else columns:
        look_up(column, dict.fromkeys(groups.columns), "column of the table of groups")
        values = groups[column].reindex(labelled.table["sample"]).reset_index(drop=True)
        names = banded(values, labelled, (edges or {}).get(column), column)
        unit: Unit = "subject" if _is_constant_in_subjects(names, labelled) else "image"
        found.append((str(column), unit, names))
        # Visits of one subject are not exchangeable with those of others.
        tested = (unit == "subject" or not labelled.subjects_known) and labelled.subject_kind != "visit"
        p_values.append(_p_value(labelled, names, bootstrap) if tested else None)
    return tuple(
        SubgroupTable(column, unit, _groups(labelled, names, metrics, bootstrap), int(names.isna().sum()), p_value)
        for (column, unit, names), p_value in zip(found, holm(p_values), strict=True)
    )


def _groups(
    labelled: Predictions, names: pd.Series, metrics: Sequence[str], bootstrap: BootstrapConfig
) -> tuple[Subgroup, ...]:
    unit: Unit = "subject" if labelled.subjects_known else "image"
    found = []
    for name in names.cat.categories:
        rows = labelled.select((names == name).to_numpy())
        if len(rows):
            scores = evaluate(rows, **asdict(bootstrap), unit=unit).headline
            estimates = {metric: scores.metrics[metric] for metric in metrics}
            found.append(Subgroup(str(name), scores.count, len(rows), scores.class_counts, estimates))
    return tuple(found)


def banded(values: pd.Series, labelled: PredictionTable, edges: Sequence[float] | None, column: str) -> pd.Series:
    """The group of each row as an ordered category; NA where it is unknown.

    Args:
        values: Of a column, one per row.
        labelled: The rows.
        edges: Ascending edges of bands; None for bands with equal numbers of subjects.
        column: The name of the column, for messages.

    Raises:
        ConfigError: Edges are not ascending.
    """
    numeric = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    if not numeric or (edges is None and values.nunique() <= CATEGORIES_AT_MOST):
        return _categories(values)
    ends = _quantile_edges(values, labelled) if edges is None else np.asarray(edges, dtype=np.float64)
    if len(ends) < 2 or (np.diff(ends) <= 0).any():
        raise ConfigError(f"The edges of '{column}' must be at least two, in ascending order; got {list(ends)}.")
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


def _quantile_edges(values: pd.Series, labelled: PredictionTable) -> npt.NDArray[np.float64]:
    """Edges of bands with equal numbers of subjects, each counted once by the mean of its images."""
    unit = labelled.table["subject"] if labelled.subjects_known else labelled.table["sample"]
    spread = values.groupby(unit.to_numpy()).mean() if _is_constant_in_subjects(values, labelled) else values
    inner = np.quantile(spread.dropna(), np.arange(1, BANDS) / BANDS)
    rounded = [float(f"{value:.3g}") for value in inner]
    return np.unique([float(values.min()), *rounded, float(values.max())])


def _is_constant_in_subjects(values: pd.Series, labelled: PredictionTable) -> bool:
    """Whether no subject has two values; False where subjects are unknown."""
    if not labelled.subjects_known:
        return False
    return bool((values.groupby(labelled.table["subject"].to_numpy()).nunique() <= 1).all())


def _p_value(labelled: Predictions, names: pd.Series, bootstrap: BootstrapConfig) -> float | None:
    """Permutation test of equal accuracy of the groups within each class."""
    rows, group = _rows(labelled.select(names.notna().to_numpy()), names.dropna())
    if not bootstrap.resamples or len(np.unique(group)) < 2:
        return None
    targets = rows.targets
    correct = (rows.predicted == targets).astype(np.float64)
    expected = (np.bincount(targets, correct) / np.maximum(np.bincount(targets), 1))[targets]
    random = np.random.default_rng((bootstrap.seed, 0x6E0))
    value = _spread(correct - expected, group)
    drawn = [_spread(_shuffled(correct, targets, random) - expected, group) for _ in range(bootstrap.resamples)]
    return (1 + int((np.array(drawn) >= value - 1e-12).sum())) / (1 + bootstrap.resamples)


def _rows(labelled: Predictions, names: pd.Series) -> tuple[Predictions, npt.NDArray[np.int64]]:
    """One row per subject (per image, where subjects are unknown), and its group."""
    codes = np.asarray(names.cat.codes, dtype=np.int64)
    if not labelled.subjects_known:
        return labelled, codes
    pooled = pool_by_subject(labelled)
    group = pd.Series(codes).groupby(labelled.table["subject"].to_numpy()).first()
    return pooled, group.reindex(pooled.table["subject"]).to_numpy(dtype=np.int64)


def _shuffled(
    values: npt.NDArray[np.float64], strata: npt.NDArray[np.int64], random: np.random.Generator
) -> npt.NDArray[np.float64]:
    """The values permuted within each stratum."""
    mixed = random.permutation(len(values))
    target = np.argsort(strata, kind="stable")
    source = mixed[np.argsort(strata[mixed], kind="stable")]
    result = np.empty_like(values)
    result[target] = values[source]
    return result


def _spread(surplus: npt.NDArray[np.float64], group: npt.NDArray[np.int64]) -> float:
    """Test statistic: the sum over groups of the squared sum of surpluses, divided by the size of the group."""
    sizes = np.bincount(group)
    sums = np.bincount(group, surplus)[sizes > 0]
    return float((sums**2 / sizes[sizes > 0]).sum())
