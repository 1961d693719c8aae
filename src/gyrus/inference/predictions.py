"""The predictions table: what a classifier said about each sample. All of evaluation works on it, without torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from gyrus.errors import DataError
from gyrus.files import atomic_path
from gyrus.inference.prediction_files import LOGIT, PROBABILITY, numbers, read_scores, require_columns, write_table
from gyrus.registry import look_up
from gyrus.types import SPLIT_WARNINGS, SplitUnit

COLUMNS = (
    "sample",  # str, unique
    "subject",  # str or NA: whose image it is
    "target",  # str, one of the classes; NA where the truth is not known
)

SubjectKind = Literal["subject", "scan"]
"""What the subject column holds: people, or scans, of which a person may have several."""


@dataclass(frozen=True)
class Predictions:
    """What a classifier said about each sample of one part of a data set.

    Attributes:
        table: One row a sample: :data:`COLUMNS`, then ``logit:<class>`` for each class, then any further columns
            (age, sex, site ...), which are kept but not looked at here.
        classes: The class names in the order of the model's outputs.
        split_unit: What was kept whole when the data were split; decides the words every result carries.
        subset: "train", "val", "test", or the name of whatever else was predicted.
        subject_kind: What the subject column holds.
    """

    table: pd.DataFrame
    classes: tuple[str, ...]
    split_unit: SplitUnit
    subset: str = "test"
    subject_kind: SubjectKind = "subject"

    @classmethod
    def from_table(
        cls,
        table: pd.DataFrame,
        *,
        classes: Sequence[str],
        split_unit: SplitUnit,
        subset: str = "test",
        subject_kind: SubjectKind = "subject",
    ) -> Predictions:
        """Put a table into the form of the predictions: check it, fill missing columns, order the columns.

        Args:
            table: Rows with ``sample`` and one column ``logit:<class>`` a class; ``subject`` and ``target`` may lack.
            classes: The class names in the order of the model's outputs.
            split_unit: What was kept whole when the data were split.
            subset: The part of the data set that was predicted.
            subject_kind: What the subject column holds; a split by scan always holds scans.

        Raises:
            DataError: A column is missing, a logit is not finite, a sample comes twice, or a target is no class.
        """
        classes = _checked_classes(classes)
        look_up(split_unit, {str(unit): words for unit, words in SPLIT_WARNINGS.items()}, "split unit")
        logits = [LOGIT + name for name in classes]
        require_columns(table, ["sample", *logits])
        table = table.copy()
        for column in COLUMNS:
            table[column] = (table[column] if column in table else pd.Series(pd.NA, table.index)).astype("string")
        for column in logits:
            table[column] = numbers(table, column)
        further = [column for column in table.columns if column not in {*COLUMNS, *logits}]
        table = table[[*COLUMNS, *logits, *further]].reset_index(drop=True)
        _check_samples(table["sample"])
        _check_targets(table, classes)
        return cls(table, classes, split_unit, subset, "scan" if split_unit == "scan" else subject_kind)

    @classmethod
    def from_logits(
        cls,
        samples: Sequence[str],
        logits: npt.ArrayLike,
        *,
        classes: Sequence[str],
        split_unit: SplitUnit,
        subset: str = "test",
        subjects: Sequence[str | None] | None = None,
        targets: Sequence[str | None] | None = None,
        subject_kind: SubjectKind = "subject",
    ) -> Predictions:
        """The predictions of a model.

        Args:
            samples: N sample ids, each once.
            logits: Scores before the softmax, shape (N, K).
            classes: K class names in the order of the columns of ``logits``.
            split_unit: What was kept whole when the data were split.
            subset: The part of the data set that was predicted.
            subjects: Whose image each sample is, where known.
            targets: The true class names, where known.
            subject_kind: What ``subjects`` are.

        Raises:
            DataError: The shapes do not fit, or as in :meth:`from_table`.
        """
        values = np.asarray(logits, dtype=np.float64)
        if values.shape != (len(samples), len(classes)):
            raise DataError(
                f"Logits of shape {values.shape} do not fit {len(samples)} samples and {len(classes)} classes."
            )
        columns: dict[str, Any] = {"sample": list(samples)}
        columns |= {} if subjects is None else {"subject": list(subjects)}
        columns |= {} if targets is None else {"target": list(targets)}
        columns |= {LOGIT + name: values[:, index] for index, name in enumerate(classes)}
        return cls.from_table(
            pd.DataFrame(columns), classes=classes, split_unit=split_unit, subset=subset, subject_kind=subject_kind
        )

    @classmethod
    def from_file(
        cls, path: Path, *, split_unit: SplitUnit, classes: Sequence[str] | None = None, subset: str = "test"
    ) -> Predictions:
        """Read a table of probabilities or logits that :meth:`export` or another tool wrote.

        Args:
            path: A .csv, .parquet or .json file with the columns ``sample``, ``target`` and ``subject`` (the last two
                may lack) and, a class each, ``probability:<class>``, ``logit:<class>`` or, where ``classes`` is given,
                a probability under the bare class name.
            split_unit: How the data were split; a table cannot tell, so that you must.
            classes: The class names in their order; by default the order of the columns.
            subset: The part of the data set that was predicted.

        Raises:
            DataError: The file cannot be read, a probability is missing, outside [0, 1] or does not sum to one over
                the classes, or a target is no class; the message names the first row.
        """
        table, names = read_scores(Path(path), classes)
        return cls.from_table(table, classes=names, split_unit=split_unit, subset=subset)

    def __len__(self) -> int:
        return len(self.table)

    @property
    def logits(self) -> npt.NDArray[np.float64]:
        """Scores before the softmax, shape (N, K)."""
        return self.table[[LOGIT + name for name in self.classes]].to_numpy(dtype=np.float64)

    @property
    def probabilities(self) -> npt.NDArray[np.float64]:
        """Softmax of the logits, shape (N, K)."""
        logits = self.logits
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))

    @property
    def targets(self) -> npt.NDArray[np.int64]:
        """The index of the true class, shape (N,); -1 where it is not known."""
        index = {name: number for number, name in enumerate(self.classes)}
        return np.asarray(self.table["target"].map(index).fillna(-1), dtype=np.int64)

    @property
    def predicted(self) -> npt.NDArray[np.int64]:
        """The index of the predicted class, shape (N,): the highest logit, the first among equals."""
        return self.logits.argmax(axis=1).astype(np.int64)

    @property
    def predicted_classes(self) -> npt.NDArray[np.object_]:
        """The name of the predicted class, shape (N,)."""
        return np.array(self.classes, dtype=object)[self.predicted]

    @property
    def subjects_known(self) -> bool:
        """Whether every sample says whose it is."""
        return len(self) > 0 and bool(self.table["subject"].notna().all())

    @property
    def statement(self) -> str:
        """The warning that every result of these predictions must carry; empty after a split by subject."""
        return SPLIT_WARNINGS[self.split_unit]

    def select(self, rows: npt.ArrayLike) -> Predictions:
        """The predictions of some rows only, given by a boolean mask or by positions."""
        return replace(self, table=self.table.iloc[np.asarray(rows)].reset_index(drop=True))

    def save(self, path: Path) -> None:
        """Write as one parquet file, readable with any parquet tool; the rest lies in its metadata."""
        about = {
            "classes": list(self.classes),
            "split_unit": self.split_unit,
            "subset": self.subset,
            "subject_kind": self.subject_kind,
        }
        content = pa.Table.from_pandas(self.table, preserve_index=False)
        content = content.replace_schema_metadata({**(content.schema.metadata or {}), b"gyrus": json.dumps(about)})
        with atomic_path(Path(path)) as temporary:
            pq.write_table(content, temporary)

    @classmethod
    def load(cls, path: Path) -> Predictions:
        """Read what :meth:`save` wrote.

        Raises:
            DataError: The file is missing or was not written by :meth:`save`.
        """
        try:
            content = pq.read_table(path)
            about = json.loads((content.schema.metadata or {})[b"gyrus"])
            about.setdefault("subset", about.get("part"))  # the name before version 0.2
            keywords = {name: about[name] for name in ("classes", "split_unit", "subset", "subject_kind")}
        except (OSError, KeyError, ValueError, pa.ArrowException) as error:
            raise DataError(
                f"{path} is not a predictions table that Gyrus saved: {error}. "
                "Tables of other tools are read by Predictions.from_file."
            ) from error
        return cls.from_table(content.to_pandas(), **keywords)

    def export(self, path: Path) -> None:
        """Write for people and other tools: sample, subject, target, predicted, ``probability:<class>``.

        Args:
            path: The suffix decides the format: .csv, .parquet or .json (a list of objects).

        Raises:
            UnknownNameError: The suffix is none of these.
        """
        table = self.table[list(COLUMNS)].assign(predicted=pd.array(self.predicted_classes, dtype="string"))
        probabilities = self.probabilities
        columns = {PROBABILITY + name: probabilities[:, index] for index, name in enumerate(self.classes)}
        write_table(table.assign(**columns), Path(path))


def _checked_classes(classes: Sequence[str]) -> tuple[str, ...]:
    names = tuple(classes)
    if len(names) < 2 or len(set(names)) != len(names):
        raise DataError(f"A classifier needs two or more different class names, got {list(names)}.")
    return names


def _check_samples(samples: pd.Series) -> None:
    if samples.isna().any():
        raise DataError(f"{int(samples.isna().sum())} rows of the predictions table have no sample id.")
    twice = samples[samples.duplicated()]
    if len(twice):
        raise DataError(
            f"{len(twice)} samples come more than once in the predictions table; the first is '{twice.iloc[0]}'. "
            "Each sample may count once."
        )


def _check_targets(table: pd.DataFrame, classes: tuple[str, ...]) -> None:
    strangers = table["target"].notna() & ~table["target"].isin(classes)
    if strangers.any():
        first = table[strangers].iloc[0]
        raise DataError(
            f"{int(strangers.sum())} targets are not among the classes {list(classes)}; the first is "
            f"'{first['target']}' of sample '{first['sample']}'."
        )


def knows_its_split(path: Path) -> bool:
    """Whether a parquet file is a predictions table that :meth:`Predictions.save` wrote."""
    try:
        return b"gyrus" in (pq.read_schema(path).metadata or {})
    except (OSError, pa.ArrowException):
        return False
