"""Predictions tables as other tools read and write them: CSV, parquet or JSON, with probabilities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from gyrus.errors import DataError
from gyrus.files import atomic_path
from gyrus.registry import look_up

LOGIT = "logit:"
PROBABILITY = "probability:"

SUM_TOLERANCE = 0.01
"""How far a row of probabilities may be from one: room for tables that were rounded to two or three digits."""


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table, atomically.

    Args:
        table: What to write.
        path: The suffix decides the format: .csv, .parquet or .json (a list of objects).

    Raises:
        UnknownNameError: The suffix is none of these.
    """
    write = look_up(path.suffix.lower(), _WRITERS, "format of a predictions table")
    with atomic_path(path) as temporary:
        write(table, temporary)


def read_scores(path: Path, classes: Sequence[str] | None) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Read a table of probabilities or logits.

    Args:
        path: A .csv, .parquet or .json file with a column ``sample`` and, a class each, ``probability:<class>``,
            ``logit:<class>`` or, where ``classes`` is given, a probability under the bare class name.
        classes: The class names in their order; by default the order of the columns.

    Returns:
        The table with columns ``logit:<class>``, the logarithms of the probabilities, and the class names.

    Raises:
        DataError: The file cannot be read, or a probability is missing, outside [0, 1] or does not sum to one over
            the classes; the message names the first row.
    """
    table = _read(path)
    require_columns(table, ["sample"])
    prefix, names = _score_columns(table, classes)
    if prefix == LOGIT:
        return table, names
    logits = _logits_of([prefix + name for name in names], table)
    table = table.drop(columns=[prefix + name for name in names if prefix])
    return table.assign(**{LOGIT + name: logits[:, index] for index, name in enumerate(names)}), names


def numbers(table: pd.DataFrame, column: str) -> npt.NDArray[np.float64]:
    """A column as finite numbers.

    Raises:
        DataError: A value is missing or not a finite number; the message names the first.
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
        DataError: The message names the columns that lack and those there are.
    """
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise DataError(f"The predictions table lacks the columns {missing}; it has {list(table.columns)}.")


_WRITERS: dict[str, Callable[[pd.DataFrame, Path], object]] = {
    ".csv": lambda table, path: table.to_csv(path, index=False),
    ".parquet": lambda table, path: table.to_parquet(path, index=False),
    ".json": lambda table, path: table.to_json(path, orient="records", indent=1, double_precision=15),
}

_TEXT = {"sample": "string", "subject": "string", "target": "string"}

_READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    # Only an empty field is missing: "NA", "None" and "null" are names that a class or a person may have, and
    # "007" is not a number.
    ".csv": lambda path: pd.read_csv(path, dtype=_TEXT, keep_default_na=False, na_values=[""]),
    ".parquet": lambda path: pd.read_parquet(path),
    ".json": lambda path: pd.read_json(path, orient="records", dtype=_TEXT),
}


def _read(path: Path) -> pd.DataFrame:
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
            strangers = sorted(set(found) ^ set(classes or found))
            if strangers:
                raise DataError(f"The columns {prefix}<class> are of {found}, the classes given {list(classes or ())}.")
            return prefix, tuple(classes or found)
    if classes is None:
        raise DataError(
            f"No column '{PROBABILITY}<class>' or '{LOGIT}<class>' among {list(table.columns)}. "
            "Rename the columns of the scores, or name the classes."
        )
    require_columns(table, classes)
    return "", tuple(classes)


def _logits_of(columns: Sequence[str], table: pd.DataFrame) -> npt.NDArray[np.float64]:
    values = np.column_stack([numbers(table, column) for column in columns])
    sums = values.sum(axis=1)
    bad = ((values < 0) | (values > 1)).any(axis=1) | (np.abs(sums - 1) > SUM_TOLERANCE + 1e-9)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise DataError(
            f"{int(bad.sum())} rows are not probabilities; the first is '{table['sample'].iloc[row]}' with "
            f"{values[row].tolist()}, which sum to {sums[row]:.6g}. Each must lie in [0, 1] and a row sum to one."
        )
    return np.asarray(np.log(np.maximum(values, np.finfo(np.float64).tiny)))
