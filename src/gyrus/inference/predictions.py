"""The predictions table: one row per sample with its logits. Evaluation works on it alone, without torch."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from gyrus.datasets.class_order import recognise_order
from gyrus.datasets.identifiers import DIFFERENCES, unify_spellings
from gyrus.datasets.targets import CLASSES, Target
from gyrus.datasets.text_tables import open_table, restored, write_csv
from gyrus.errors import DataError
from gyrus.files import atomic_path, reading
from gyrus.inference.columns import exported_columns
from gyrus.registry import look_up
from gyrus.text import counted
from gyrus.types import SPLIT_WARNINGS, SplitUnit

COLUMNS = (
    "sample",  # str, unique
    "subject",  # str or NA: the subject of the image
    "target",  # str, one of the classes; NA where the true class is unknown
)

SUBJECT_OF_VISIT = "subject_of_visit"
"""Optional column where ``subject`` holds visits: the subject of each visit, which is what intervals resample."""

LOGIT = "logit:"
PROBABILITY = "probability:"
"""Prefixes of the columns of scores; the class name follows."""

SUM_TOLERANCE = 0.01
"""How far the sum of a row of probabilities may be from 1: room for tables rounded to two or three digits."""

SubjectKind = Literal["subject", "scan", "visit"]
"""What the subject column holds: subjects; scans, of which a subject may have several; or visits, with their subjects
in :data:`SUBJECT_OF_VISIT`."""


class PredictionTable:
    """What tables of predictions of classes and of numbers share; both are frozen dataclasses with these fields.

    Attributes:
        table: One row per sample, with the columns ``sample`` and ``subject``.
        split_unit: What was kept whole when the data were split.
        subset: The subset that was predicted.
        subject_kind: What the subject column holds.
        target: What was predicted.
    """

    table: pd.DataFrame
    split_unit: SplitUnit
    subset: str
    subject_kind: SubjectKind
    target: Target

    def __len__(self) -> int:
        return len(self.table)

    @property
    def subjects_known(self) -> bool:
        """Whether the subject of every sample is known."""
        return len(self) > 0 and bool(self.table["subject"].notna().all())

    @property
    def independent_units(self) -> pd.Series:
        """The independent unit of each row, which is resampled as a whole: its subject, also where visits are scored.

        Scans where subjects are unknown but scans known; the sample itself where neither is known.
        """
        if SUBJECT_OF_VISIT in self.table:
            return self.table[SUBJECT_OF_VISIT]
        return self.table["subject" if self.subjects_known else "sample"]

    @property
    def warning(self) -> str:
        """The warning about the split that goes with every result; empty after a split by subject."""
        return SPLIT_WARNINGS[self.split_unit]

    def select(self, rows: npt.ArrayLike) -> Self:
        """The predictions of some rows, given by a boolean mask or by positions."""
        table = self.table.iloc[np.asarray(rows)].reset_index(drop=True)
        return replace(self, table=table)  # type: ignore[type-var]  # both tables are dataclasses

    def save(self, path: Path) -> None:
        """Write as one parquet file, readable with any parquet tool; its metadata hold everything but the table."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        content = pa.Table.from_pandas(self.table, preserve_index=False)
        about = json.dumps(self._about())
        content = content.replace_schema_metadata({**(content.schema.metadata or {}), b"gyrus": about})
        with atomic_path(Path(path)) as temporary:
            pq.write_table(content, temporary)

    def _about(self) -> dict[str, Any]:
        """Everything but the table, as plain values."""
        return {
            "split_unit": self.split_unit,
            "subset": self.subset,
            "subject_kind": self.subject_kind,
            **self.target.facts(),
        }


@dataclass(frozen=True)
class Predictions(PredictionTable):
    """The predictions of a classifier for the samples of one subset.

    Attributes:
        table: One row per sample: :data:`COLUMNS`, then ``logit:<class>`` for each class, then any further columns
            (age, sex, site ...), which are kept but not used here.
        classes: The class names in the order of the model's outputs.
        split_unit: What was kept whole when the data were split; decides the warning that goes with every result.
        subset: "train", "val", "test", or another name.
        subject_kind: What the subject column holds.
        engines: What ran the networks ("PyTorch", "OpenVINO"), where known.
        target: Whether the classes are ordered. Numbers have predictions of another form
            (:class:`gyrus.inference.number_predictions.NumberPredictions`).
    """

    table: pd.DataFrame
    classes: tuple[str, ...]
    split_unit: SplitUnit
    subset: str = "test"
    subject_kind: SubjectKind = "subject"
    engines: tuple[str, ...] = ()
    target: Target = CLASSES

    @classmethod
    def from_table(
        cls,
        table: pd.DataFrame,
        *,
        classes: Sequence[str],
        split_unit: SplitUnit,
        subset: str = "test",
        subject_kind: SubjectKind = "subject",
        target: Target = CLASSES,
    ) -> Predictions:
        """Predictions from a table: check it, add missing columns, order the columns.

        Args:
            table: Rows with ``sample`` and one column ``logit:<class>`` per class; ``subject`` and ``target`` are
                optional.
            classes: The class names in the order of the model's outputs.
            split_unit: What was kept whole when the data were split.
            subset: The subset that was predicted.
            subject_kind: What the subject column holds; a split by scan always holds scans, and a table with
                :data:`SUBJECT_OF_VISIT` always visits.
            target: Whether the classes are ordered.

        Raises:
            DataError: A column is missing, a logit is not finite, a sample occurs twice, or a target is no class.
        """
        classes = tuple(classes)
        if len(classes) < 2 or len(set(classes)) != len(classes):
            raise DataError(f"A classifier needs at least two different class names, got {list(classes)}.")
        look_up(split_unit, {str(unit): None for unit in SPLIT_WARNINGS}, "split unit")
        logits = [LOGIT + name for name in classes]
        require_columns(table, ["sample", *logits])
        missing = pd.Series(pd.NA, table.index)
        columns: dict[str, Any] = {column: table.get(column, missing).astype("string") for column in COLUMNS}
        columns |= {column: finite_numbers(table, column) for column in logits}
        columns |= {column: table[column] for column in table.columns if column not in columns}
        table = checked_samples(columns)
        _check_targets(table, classes)
        kind = kind_of_subjects(table, split_unit, subject_kind)
        return cls(table, classes, split_unit, subset, kind, target=target)

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
        subjects_of_visits: Sequence[str] | None = None,
        target: Target = CLASSES,
    ) -> Predictions:
        """Predictions from the logits of a model.

        Args:
            samples: N sample ids, all different.
            logits: Scores before the softmax, shape (N, K).
            classes: K class names in the order of the columns of ``logits``.
            split_unit: What was kept whole when the data were split.
            subset: The subset that was predicted.
            subjects: The subject of each sample, where known.
            targets: The true class names, where known.
            subject_kind: What ``subjects`` holds.
            subjects_of_visits: The subject of each visit, where ``subjects`` holds visits.
            target: Whether the classes are ordered.

        Raises:
            DataError: The shapes do not match, or as in :meth:`from_table`.
        """
        values = np.asarray(logits, dtype=np.float64)
        if values.shape != (len(samples), len(classes)):
            raise DataError(
                f"Logits of shape {values.shape} do not match {len(samples)} samples and {len(classes)} classes."
            )
        columns: dict[str, Any] = {"sample": list(samples)}
        columns |= {} if subjects is None else {"subject": list(subjects)}
        columns |= {} if targets is None else {"target": list(targets)}
        columns |= {} if subjects_of_visits is None else {SUBJECT_OF_VISIT: list(subjects_of_visits)}
        columns |= {LOGIT + name: values[:, index] for index, name in enumerate(classes)}
        return cls.from_table(
            pd.DataFrame(columns),
            classes=classes,
            split_unit=split_unit,
            subset=subset,
            subject_kind=subject_kind,
            target=target,
        )

    @classmethod
    def from_file(
        cls, path: Path, *, split_unit: SplitUnit, classes: Sequence[str] | None = None, subset: str = "test"
    ) -> Predictions:
        """Read a table of probabilities or logits that :meth:`export` or another tool wrote.

        Args:
            path: A .csv, .parquet or .json file with the columns ``sample``, ``target`` and ``subject`` (the last two
                are optional) and, for each class, ``probability:<class>``, ``logit:<class>`` or, if ``classes`` is
                given, a probability under the bare class name.
            split_unit: What was kept whole when the data were split; the table does not hold it.
            classes: The class names in their order; by default that of their stages, if their names have a known order
                (:mod:`gyrus.datasets.class_order`), else that of the columns.
            subset: The subset that was predicted.

        Raises:
            DataError: The file cannot be read, a subject has several spellings, a probability is missing, outside
                [0, 1] or does not sum to one over the classes, or a target is no class; the message names the first.
        """
        table, names = _read_scores(Path(path), classes)
        require_one_spelling(table, Path(path))
        known = recognise_order(names) if classes is None else None
        target = Target("ordered") if known else CLASSES
        return cls.from_table(
            table, classes=known[0] if known else names, split_unit=split_unit, subset=subset, target=target
        )

    @cached_property
    def logits(self) -> npt.NDArray[np.float64]:
        """Scores before the softmax, shape (N, K)."""
        return _read_only(self.table[[LOGIT + name for name in self.classes]].to_numpy(dtype=np.float64))

    @cached_property
    def probabilities(self) -> npt.NDArray[np.float64]:
        """Softmax of the logits, shape (N, K)."""
        logits = self.logits
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return _read_only(powers / powers.sum(axis=1, keepdims=True))

    @cached_property
    def targets(self) -> npt.NDArray[np.int64]:
        """The index of the true class, shape (N,); -1 where it is unknown."""
        return _read_only(pd.Index(self.classes).get_indexer(pd.Index(self.table["target"])).astype(np.int64))

    @property
    def predicted(self) -> npt.NDArray[np.int64]:
        """The index of the predicted class, shape (N,): the highest logit, the first of ties."""
        return self.logits.argmax(axis=1).astype(np.int64)

    @property
    def predicted_classes(self) -> npt.NDArray[np.object_]:
        """The name of the predicted class, shape (N,)."""
        return np.array(self.classes, dtype=object)[self.predicted]

    def _about(self) -> dict[str, Any]:
        return {"classes": list(self.classes), **super()._about()}

    @classmethod
    def load(cls, path: Path) -> Predictions:
        """Read what :meth:`save` wrote.

        Raises:
            DataError: The file is missing or was not written by :meth:`save`.
        """
        import pyarrow.parquet as pq

        with reading(path, "a table written by Predictions.save; Predictions.from_file reads others"):
            content = pq.read_table(path)
            about = json.loads((content.schema.metadata or {})[b"gyrus"])
            about.setdefault("subset", about.get("part"))  # the name before version 0.2
            target = Target.from_facts(about)
            if target.is_number:
                raise DataError(
                    f"{path} holds predictions of the number '{target.name}', and those of classes are needed."
                )
            keywords = {name: about[name] for name in ("classes", "split_unit", "subset", "subject_kind")}
            return cls.from_table(content.to_pandas(), **keywords, target=target)

    def export(self, path: Path) -> None:
        """Write a table for other tools: sample, subject, target, predicted, ``probability:<class>``.

        Then come the columns of :func:`gyrus.inference.columns.exported_columns`.

        Args:
            path: The suffix determines the format: .csv, .parquet or .json (a list of objects).

        Raises:
            UnknownNameError: The suffix is unknown.
        """
        visits = [SUBJECT_OF_VISIT] if SUBJECT_OF_VISIT in self.table else []
        table = self.table[[*COLUMNS, *visits]].assign(predicted=pd.array(self.predicted_classes, dtype="string"))
        probabilities = self.probabilities
        columns = {PROBABILITY + name: probabilities[:, index] for index, name in enumerate(self.classes)}
        further = {name: self.table[name] for name in exported_columns(self.table.columns)}
        write_table(table.assign(**columns, **further), Path(path))


def _read_only(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The array, which is computed once and given to every caller, so that none may change it."""
    values.flags.writeable = False
    return values


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table in the format of its suffix, one of :data:`TABLES`.

    Raises:
        UnknownNameError: The suffix is unknown.
    """
    write = look_up(path.suffix.lower(), _WRITERS, "format of a predictions table")
    with atomic_path(path) as temporary:
        write(table, temporary)


def require_one_spelling(table: pd.DataFrame, path: Path) -> None:
    """Refuse a table in which one subject would count as several.

    Raises:
        DataError: A subject is written in two ways.
    """
    if "subject" not in table:
        return
    changed = unify_spellings(str(name) for name in table["subject"].dropna())
    if changed:
        pairs = ", ".join(f"'{one}' and '{other}'" for one, other in list(changed.items())[:3])
        raise DataError(
            f"{path} has {counted(len(changed), 'subject')} written otherwise than in other rows, only by "
            f"{DIFFERENCES}: {pairs}. "
            "Write each subject in one way."
        )


def checked_samples(columns: Mapping[str, Any]) -> pd.DataFrame:
    """A table of predictions from its columns.

    Raises:
        DataError: A sample has no name or occurs twice, or a visit belongs to no subject or to several.
    """
    table = pd.DataFrame(columns).reset_index(drop=True)
    if SUBJECT_OF_VISIT in table:
        table[SUBJECT_OF_VISIT] = table[SUBJECT_OF_VISIT].astype("string")
    _require_samples(table["sample"])
    _require_visits(table)
    return table


def kind_of_subjects(table: pd.DataFrame, split_unit: SplitUnit, said: SubjectKind) -> SubjectKind:
    """What the subject column holds: visits where there is :data:`SUBJECT_OF_VISIT`, scans after a split by scan."""
    if SUBJECT_OF_VISIT in table:
        return "visit"
    return "scan" if split_unit == "scan" else said


def _require_samples(samples: pd.Series) -> None:
    """Refuse samples without a name, or that occur twice.

    Raises:
        DataError: There is such a sample.
    """
    if samples.isna().any():
        raise DataError(
            f"{counted(int(samples.isna().sum()), 'row has', 'rows have')} no sample id in the predictions table."
        )
    twice = samples[samples.duplicated()]
    if len(twice):
        raise DataError(
            f"{counted(len(twice), 'sample occurs', 'samples occur')} more than once in the predictions table; the "
            f"first is '{twice.iloc[0]}'. "
            "Keep one row per sample."
        )


def _require_visits(table: pd.DataFrame) -> None:
    """Refuse visits of unknown subjects, or of several: they could not be resampled by subject.

    Raises:
        DataError: There is such a visit.
    """
    if SUBJECT_OF_VISIT not in table:
        return
    subjects = table[SUBJECT_OF_VISIT]
    if table["subject"].isna().any() or subjects.isna().any():
        raise DataError(f"The predictions table has rows without subject or {SUBJECT_OF_VISIT}. Fill in both columns.")
    several = subjects.groupby(table["subject"]).nunique()
    if (several > 1).any():
        raise DataError(f"The visit '{several.index[several > 1][0]}' has more than one {SUBJECT_OF_VISIT}.")


def _check_targets(table: pd.DataFrame, classes: tuple[str, ...]) -> None:
    unknown = table["target"].notna() & ~table["target"].isin(classes)
    if unknown.any():
        first = table[unknown].iloc[0]
        raise DataError(
            f"{int(unknown.sum())} targets are not among the classes {list(classes)}; the first is "
            f"'{first['target']}' of sample '{first['sample']}'."
        )


def is_saved_predictions(path: Path) -> bool:
    """Whether a parquet file was written by :meth:`Predictions.save`, and so holds the classes and the split unit."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return b"gyrus" in (pq.read_schema(path).metadata or {})
    except (OSError, pa.ArrowException):
        return False


def _read_scores(path: Path, classes: Sequence[str] | None) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Read a table of probabilities or logits; see :meth:`Predictions.from_file`.

    Returns:
        The table with columns ``logit:<class>``, the logarithms of the probabilities, and the class names.
    """
    table = read_table(path)
    require_columns(table, ["sample"])
    prefix, names = _score_columns(table, classes)
    if prefix == LOGIT:
        return table, names
    logits = _logits_of([prefix + name for name in names], table)
    table = table.drop(columns=[prefix + name for name in names if prefix])
    return table.assign(**{LOGIT + name: logits[:, index] for index, name in enumerate(names)}), names


def finite_numbers(table: pd.DataFrame, column: str) -> npt.NDArray[np.float64]:
    """A column as finite numbers (N,).

    Raises:
        DataError: A cell is missing or no finite number.
    """
    values = pd.to_numeric(table[column], errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    bad = ~np.isfinite(values)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise DataError(
            f"Column '{column}' has {int(bad.sum())} values that are missing or not finite numbers; "
            f"the first is {table[column].iloc[row]!r} for sample '{table['sample'].iloc[row]}'."
        )
    return values


def require_columns(table: pd.DataFrame, columns: Sequence[str]) -> None:
    """Refuse a table that lacks columns.

    Raises:
        DataError: It lacks one.
    """
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise DataError(f"The predictions table lacks the columns {missing}; it has {list(table.columns)}.")


_WRITERS: dict[str, Callable[[pd.DataFrame, Path], object]] = {
    ".csv": write_csv,
    ".parquet": lambda table, path: table.to_parquet(path, index=False),
    ".json": lambda table, path: table.to_json(path, orient="records", indent=1, double_precision=15),
}

_TEXT = {"sample": "string", "subject": "string", "target": "string", SUBJECT_OF_VISIT: "string"}


def _read_csv(path: Path) -> pd.DataFrame:
    source = open_table(path)
    table = pd.read_csv(
        io.StringIO(source.text, newline=""),
        sep=source.separator,
        decimal=source.decimal,
        dtype=_TEXT,
        keep_default_na=False,
        na_values=[""],
    )
    return restored(table)


_READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    # Only an empty field is missing: "NA", "None" and "null" may be names of classes or subjects, and "007" is a
    # name, not a number.
    ".csv": lambda path: _read_csv(path),
    ".parquet": lambda path: pd.read_parquet(path),
    ".json": lambda path: pd.read_json(path, orient="records", dtype=_TEXT),
}

TABLES = tuple(_READERS)
"""Suffixes of tables of predictions."""


def read_table(path: Path) -> pd.DataFrame:
    """A table as another tool wrote it, names as text.

    Raises:
        DataError: The file cannot be read.
    """
    import pyarrow as pa

    read = look_up(path.suffix.lower(), _READERS, "format of a predictions table")
    try:
        return read(path)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DataError(f"Cannot read the predictions table {path}: {error}") from error


def _score_columns(table: pd.DataFrame, classes: Sequence[str] | None) -> tuple[str, tuple[str, ...]]:
    """The prefix of the columns that hold the scores, and the class names in their order."""
    for prefix in (PROBABILITY, LOGIT):
        found = [column.removeprefix(prefix) for column in map(str, table.columns) if column.startswith(prefix)]
        if found:
            if set(found) != set(classes or found):
                raise DataError(
                    f"The columns {prefix}<class> are for {found}, but the classes given are {list(classes or ())}."
                )
            return prefix, tuple(classes or found)
    if classes is None:
        raise DataError(
            f"No column '{PROBABILITY}<class>' or '{LOGIT}<class>' among {list(table.columns)}. "
            "Rename the columns of the scores, or give the class names."
        )
    require_columns(table, classes)
    return "", tuple(classes)


def _logits_of(columns: Sequence[str], table: pd.DataFrame) -> npt.NDArray[np.float64]:
    values = np.column_stack([finite_numbers(table, column) for column in columns])
    sums = values.sum(axis=1)
    bad = ((values < 0) | (values > 1)).any(axis=1) | (np.abs(sums - 1) > SUM_TOLERANCE + 1e-9)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise DataError(
            f"{counted(int(bad.sum()), 'row is', 'rows are')} not probabilities; the first is "
            f"'{table['sample'].iloc[row]}' with "
            f"{values[row].tolist()}, which sum to {sums[row]:.6g}. Each must lie in [0, 1] and each row sum to 1."
        )
    return np.asarray(np.log(np.maximum(values, np.finfo(np.float64).tiny)))
