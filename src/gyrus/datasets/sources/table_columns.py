"""Which column of a table plays which role, and what its cells say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from gyrus.datasets.reader import IMAGE_COLUMN_NAMES
from gyrus.datasets.sources.listing import SUBSET_WORDS
from gyrus.errors import ConfigError, DataError
from gyrus.registry import look_up

COLUMN_NAMES: dict[str, tuple[str, ...]] = {
    "path": ("path", "file", "filename", "file_name", "filepath", "file_path", "image_path", "image", "img"),
    "label": ("label", "labels", "class", "diagnosis", "dx", "group", "target"),
    "subject": ("subject", "subject_id", "patient", "patient_id", "participant", "participant_id", "person"),
    "session": ("session", "session_id", "visit", "visit_id", "scan_id"),
    "slice": ("slice", "slice_index", "slice_number"),
    "subset": ("subset", "split", "set", "subset"),
}
"""The names under which the column of each role is found, in any case; the first one present plays the role."""

ROLES = {**COLUMN_NAMES, "image": IMAGE_COLUMN_NAMES}
"""The same with the role of encoded images, which only columns of bytes in a parquet file can play."""

_MISSING = ("", "n/a", "na", "nan", "null", "none")
"""What counts as nothing in a further column, in any case. In labels only an empty cell or BIDS' n/a does:
"None" may be the name of a class."""


def require_roles(asked: Mapping[str, str]) -> None:
    """Refuse a role that no column can play.

    Raises:
        UnknownNameError: There is no such role.
    """
    for role in asked:
        look_up(role, ROLES, "column role")


def find_columns(present: Sequence[str], asked: Mapping[str, str]) -> dict[str, str]:
    """The column of each role, for the roles that have one.

    Args:
        present: The columns of the table.
        asked: Columns that the user named, by role.

    Raises:
        ConfigError: A named column is not there.
    """
    for role, name in asked.items():
        if name not in present:
            raise ConfigError(f"There is no column '{name}' for the role '{role}'. Columns: {', '.join(present)}.")
    lowered = {name.lower().strip(): name for name in reversed(present)}
    found = dict(asked)
    for role, names in COLUMN_NAMES.items():
        free = [lowered[name] for name in names if name in lowered and lowered[name] not in asked.values()]
        if free:
            found.setdefault(role, free[0])
    return found


def texts(cells: Iterable[Any]) -> list[str | None]:
    """Cells of a role as text; None where the cell is empty, or BIDS' n/a."""
    words = [None if pd.isna(cell) else str(cell).strip() for cell in cells]
    return [word if word not in (None, "", "n/a") else None for word in words]


def subsets(cells: Iterable[Any], column: str) -> list[str | None]:
    """Cells of the part column as train, val or test.

    Raises:
        DataError: A cell says something else.
    """
    words = texts(cells)
    strangers = sorted({word for word in words if word is not None and word.lower() not in SUBSET_WORDS})
    if strangers:
        raise DataError(
            f"The column '{column}' names parts that are not known: {', '.join(strangers[:5])}. "
            f"Known, in any case: {', '.join(SUBSET_WORDS)}."
        )
    return [SUBSET_WORDS[word.lower()] if word is not None else None for word in words]


def whole_numbers(cells: Iterable[Any], column: str) -> list[int | None]:
    """Cells of the slice column as numbers.

    Raises:
        DataError: A cell is not a whole number.
    """
    numbers: list[int | None] = []
    for word in texts(cells):
        try:
            numbers.append(None if word is None else _whole(word))
        except ValueError as error:
            raise DataError(f"The column '{column}' must hold whole numbers, but has '{word}'.") from error
    return numbers


def _whole(word: str) -> int:
    number = float(word)
    if not number.is_integer():
        raise ValueError(word)
    return int(number)


def name_labels(labels: Sequence[str | None], classes: Sequence[str] | None) -> list[str | None]:
    """Integer labels become the class at that position, unless the integers are names of classes themselves.

    -1 stands for no label, as the ``datasets`` library writes it.
    """
    found = {label for label in labels if label is not None}
    if not classes or found <= set(classes) or not all(_is_index(label, len(classes)) for label in found):
        return list(labels)
    return [None if label in (None, "-1") else classes[int(label)] for label in labels]


def _is_index(label: str, count: int) -> bool:
    return label == "-1" or (label.isdecimal() and int(label) < count)


def further(cells: pd.Series) -> pd.Series:
    """A column without a role: numbers where every cell is a number, else text."""
    if not (pd.api.types.is_object_dtype(cells) or pd.api.types.is_string_dtype(cells)):
        return cells
    words = cells.astype("string")
    words = words.mask(words.str.strip().str.lower().isin(_MISSING))
    try:
        return pd.to_numeric(words)
    except ValueError:
        return words
