"""Predicted numbers: one row per sample with its true and its predicted number. Evaluation needs no torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from gyrus.datasets.targets import Target
from gyrus.errors import DataError
from gyrus.files import reading
from gyrus.inference.columns import exported_columns
from gyrus.inference.pooling import average_predictions
from gyrus.inference.predictions import (
    LOGIT,
    PROBABILITY,
    SUBJECT_OF_VISIT,
    Predictions,
    PredictionTable,
    SubjectKind,
    checked_samples,
    finite_numbers,
    kind_of_subjects,
    read_table,
    require_columns,
    require_one_spelling,
    write_table,
)
from gyrus.types import SplitUnit

PREDICTION = "prediction"
"""The column of the predicted number."""

QUANTILE = "quantile:"
"""Prefix of the columns of predicted quantiles; their level follows."""


@dataclass(frozen=True)
class NumberPredictions(PredictionTable):
    """Predicted numbers for the samples of one subset.

    Attributes:
        table: One row per sample: ``sample`` (text, unique), ``subject`` (text or NA), ``target`` (the true number, NaN
            where it is unknown), :data:`PREDICTION`, ``quantile:<level>`` for each level of quantiles that the network
            predicts, then any further columns.
        target: The number.
        split_unit: What was kept whole when the data were split; decides the warning that goes with every result.
        subset: "train", "val", "test", or another name.
        subject_kind: What the subject column holds.
        engines: What ran the networks ("PyTorch", "OpenVINO"), where known.
    """

    table: pd.DataFrame
    target: Target
    split_unit: SplitUnit
    subset: str = "test"
    subject_kind: SubjectKind = "subject"
    engines: tuple[str, ...] = ()

    @classmethod
    def from_table(
        cls,
        table: pd.DataFrame,
        *,
        target: Target,
        split_unit: SplitUnit,
        subset: str = "test",
        subject_kind: SubjectKind = "subject",
    ) -> NumberPredictions:
        """Predictions from a table: check it, add missing columns, order the columns.

        Args:
            table: Rows with ``sample`` and ``prediction``; ``subject`` and ``target`` are optional.
            target: The number.
            split_unit: What was kept whole when the data were split.
            subset: The subset that was predicted.
            subject_kind: What the subject column holds; as in :meth:`Predictions.from_table`.

        Raises:
            DataError: A column is missing, a prediction is not finite, a true number is infinite, or a sample occurs
                twice.
        """
        require_columns(table, ["sample", PREDICTION])
        missing = pd.Series(pd.NA, table.index)
        columns: dict[str, Any] = {name: table.get(name, missing).astype("string") for name in ("sample", "subject")}
        truth = pd.to_numeric(table.get("target", pd.Series(np.nan, table.index)), errors="coerce")
        columns["target"] = truth.astype("float64")
        quantiles = sorted((name for name in map(str, table) if name.startswith(QUANTILE)), key=level_of)
        columns |= {name: finite_numbers(table, name) for name in (PREDICTION, *quantiles)}
        columns |= {name: table[name] for name in table.columns if name not in columns}
        found = checked_samples(columns)
        if np.isinf(found["target"]).any():
            raise DataError(f"The true {target.name or 'number'} of a sample is infinite. Correct the table.")
        return cls(found, target, split_unit, subset, kind_of_subjects(found, split_unit, subject_kind))

    @classmethod
    def from_outputs(
        cls,
        samples: Sequence[str],
        outputs: npt.ArrayLike,
        *,
        target: Target,
        split_unit: SplitUnit,
        levels: Sequence[float] = (),
        subset: str = "test",
        subjects: Sequence[str | None] | None = None,
        targets: npt.ArrayLike | None = None,
        subject_kind: SubjectKind = "subject",
        subjects_of_visits: Sequence[str] | None = None,
    ) -> NumberPredictions:
        """Predictions from the outputs of a network.

        Args:
            samples: N sample ids, all different.
            outputs: Numbers in their unit, shape (N, 1); or one column per level. Quantiles that cross are sorted
                (Chernozhukov, Fernández-Val and Galichon 2010).
            target: The number.
            split_unit: What was kept whole when the data were split.
            levels: Levels of the quantiles, ascending, with 0.5; none for one number.
            subset: The subset that was predicted.
            subjects: The subject of each sample, where known.
            targets: The true numbers, NaN where unknown.
            subject_kind: What ``subjects`` holds.
            subjects_of_visits: The subject of each visit, where ``subjects`` holds visits.

        Raises:
            DataError: The shapes do not match, or as in :meth:`from_table`.
        """
        values = np.asarray(outputs, dtype=np.float64)
        if values.shape != (len(samples), max(1, len(levels))):
            raise DataError(f"Outputs of shape {values.shape} do not match {len(samples)} samples.")
        values = np.sort(values, axis=1)
        columns: dict[str, Any] = {"sample": list(samples)}
        columns |= {} if subjects is None else {"subject": list(subjects)}
        columns |= {} if targets is None else {"target": np.asarray(targets, dtype=np.float64)}
        columns |= {} if subjects_of_visits is None else {SUBJECT_OF_VISIT: list(subjects_of_visits)}
        columns[PREDICTION] = values[:, list(levels).index(0.5) if levels else 0]
        columns |= {f"{QUANTILE}{level:g}": values[:, place] for place, level in enumerate(levels)}
        return cls.from_table(
            pd.DataFrame(columns), target=target, split_unit=split_unit, subset=subset, subject_kind=subject_kind
        )

    @classmethod
    def from_file(
        cls, path: Path, *, split_unit: SplitUnit, name: str = "number", subset: str = "test"
    ) -> NumberPredictions:
        """Read a table of numbers that :meth:`export` or another tool wrote.

        Args:
            path: A .csv, .parquet or .json file with the columns ``sample``, ``prediction``, ``target`` and
                ``subject`` (the last two are optional).
            split_unit: What was kept whole when the data were split; the table does not hold it.
            name: The name of the number.
            subset: The subset that was predicted.

        Raises:
            DataError: The file cannot be read, or as in :meth:`from_table`.
        """
        table = read_table(Path(path))
        require_one_spelling(table, Path(path))
        if "target" in table:
            texts = table["target"].astype("string")
            table["target"] = pd.to_numeric(texts, errors="coerce")
            wrong = texts[table["target"].isna() & texts.notna()]
            if len(wrong):
                raise DataError(f"{path}: the column 'target' has '{wrong.iloc[0]}', which is no number.")
        return cls.from_table(table, target=Target("number", name), split_unit=split_unit, subset=subset)

    @property
    def targets(self) -> npt.NDArray[np.float64]:
        """The true numbers, shape (N,); NaN where unknown."""
        return self.table["target"].to_numpy(dtype=np.float64)

    @property
    def predicted(self) -> npt.NDArray[np.float64]:
        """The predicted numbers, shape (N,)."""
        return self.table[PREDICTION].to_numpy(dtype=np.float64)

    @property
    def levels(self) -> tuple[float, ...]:
        """The levels of the predicted quantiles, ascending; often none."""
        return tuple(level_of(name) for name in map(str, self.table) if name.startswith(QUANTILE))

    @property
    def quantiles(self) -> npt.NDArray[np.float64]:
        """The predicted quantiles, shape (N, Q)."""
        return self.table[[f"{QUANTILE}{level:g}" for level in self.levels]].to_numpy(dtype=np.float64)

    @classmethod
    def load(cls, path: Path) -> NumberPredictions:
        """Read what :meth:`save` wrote.

        Raises:
            DataError: The file is missing or was not written by :meth:`save`.
        """
        import pyarrow.parquet as pq

        with reading(path, "a table written by NumberPredictions.save; NumberPredictions.from_file reads others"):
            content = pq.read_table(path)
            about = json.loads((content.schema.metadata or {})[b"gyrus"])
            keywords = {name: about[name] for name in ("split_unit", "subset", "subject_kind")}
            return cls.from_table(content.to_pandas(), target=Target.from_facts(about), **keywords)

    def export(self, path: Path) -> None:
        """Write a table for other tools: sample, subject, target, prediction, the quantiles, and further columns.

        Args:
            path: The suffix determines the format: .csv, .parquet or .json (a list of objects).

        Raises:
            UnknownNameError: The suffix is unknown.
        """
        visits = [SUBJECT_OF_VISIT] if SUBJECT_OF_VISIT in self.table else []
        quantiles = [f"{QUANTILE}{level:g}" for level in self.levels]
        further = exported_columns(self.table.columns)
        write_table(self.table[["sample", "subject", "target", *visits, PREDICTION, *quantiles, *further]], Path(path))


Table = TypeVar("Table", Predictions, NumberPredictions)


def average(members: Sequence[Table], weights: Sequence[float] | None = None) -> Table:
    """The mean of several models for the same samples: of their probabilities or of their numbers.

    Raises:
        DataError: The samples or the targets differ; see :func:`gyrus.inference.pooling.average_predictions`.
    """
    if isinstance(members[0], NumberPredictions):
        return average_numbers(members, weights)
    return average_predictions(members, weights)


def holds_numbers(path: Path) -> bool:
    """Whether a table of another tool holds predicted numbers: a column ``prediction``, and no scores of classes."""
    names = [str(name) for name in read_table(path).columns]
    return PREDICTION in names and not any(name.startswith((LOGIT, PROBABILITY)) for name in names)


AnyPredictions = Predictions | NumberPredictions
"""Predictions of classes or of a number."""


def level_of(column: str) -> float:
    """The level in the name of a column of quantiles."""
    return float(column.removeprefix(QUANTILE))


def load_predictions(path: Path) -> AnyPredictions:
    """Read the predictions of a run, of classes or of a number.

    Raises:
        DataError: The file is missing or was not written by Gyrus.
    """
    import pyarrow.parquet as pq

    with reading(path, "a table of predictions written by Gyrus"):
        about = json.loads((pq.read_schema(path).metadata or {})[b"gyrus"])
        number = Target.from_facts(about).is_number
    return NumberPredictions.load(path) if number else Predictions.load(path)


def pool_numbers_by_subject(predictions: NumberPredictions) -> NumberPredictions:
    """Mean prediction over the images of each subject, or of each visit.

    Args:
        predictions: One row per image, each with a known subject.

    Returns:
        One row per subject, sorted; ``sample`` and ``subject`` are both its id.

    Raises:
        DataError: A subject is unknown, or has images with different true numbers.
    """
    table = predictions.table
    if table["subject"].isna().any():
        raise DataError("Numbers can be pooled by subject only if every subject is known.")
    groups = table.groupby("subject", sort=True)
    different = groups["target"].nunique()
    if (different > 1).any():
        name = different.index[different > 1][0]
        raise DataError(
            f"The subject '{name}' has images with different true numbers. Name its visits (a column session)."
        )
    numbers = [column for column in map(str, table) if column == PREDICTION or column.startswith(QUANTILE)]
    pooled = groups[["target", *numbers]].mean()
    columns: dict[str, Any] = {"sample": pooled.index.astype(str), "subject": pooled.index.astype(str)}
    columns |= {name: pooled[name].to_numpy() for name in ("target", *numbers)}
    if SUBJECT_OF_VISIT in table:
        columns[SUBJECT_OF_VISIT] = groups[SUBJECT_OF_VISIT].first().to_numpy()
    return NumberPredictions.from_table(
        pd.DataFrame(columns),
        target=predictions.target,
        split_unit=predictions.split_unit,
        subset=predictions.subset,
        subject_kind=predictions.subject_kind,
    )


def average_numbers(members: Sequence[NumberPredictions], weights: Sequence[float] | None = None) -> NumberPredictions:
    """The mean number of several models for the same samples; quantiles are averaged level by level.

    Args:
        members: One table per model, of the same samples in any order.
        weights: The weight of each, summing to one; by default equal.

    Raises:
        DataError: The samples, their subjects, true numbers or levels differ.
    """
    fractions = np.full(len(members), 1 / len(members)) if weights is None else np.asarray(weights, dtype=np.float64)
    first = members[0]
    keys = ["sample", "subject", "target"]
    facts = first.table[keys].sort_values("sample").reset_index(drop=True)
    for number, member in enumerate(members[1:], 2):
        if member.levels != first.levels or not member.table[keys].sort_values("sample").reset_index(drop=True).equals(
            facts
        ):
            raise DataError(
                f"Model {number} predicts other samples, subjects, true numbers or quantiles than the first. Average "
                "predictions of the same samples only."
            )
    columns = [PREDICTION, *(f"{QUANTILE}{level:g}" for level in first.levels)]
    aligned = [member.table.set_index("sample").loc[first.table["sample"], columns].to_numpy() for member in members]
    mean = np.einsum("m,mnk->nk", fractions, np.stack(aligned))
    table = first.table.assign(**{name: mean[:, place] for place, name in enumerate(columns)})
    return replace(first, table=table)
