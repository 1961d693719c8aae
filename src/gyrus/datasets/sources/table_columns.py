"""The roles of table columns (path, label, subject ...), and how their cells are read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from gyrus.datasets.encoded_images import IMAGE_COLUMN_NAMES
from gyrus.datasets.sources.listing import SUBSET_NAMES
from gyrus.errors import ConfigError, DataError
from gyrus.registry import look_up

COLUMN_NAMES: dict[str, tuple[str, ...]] = {
    "path": ("path", "file", "filename", "file_name", "filepath", "file_path", "image_path", "image", "img"),
    "label": ("label", "labels", "class", "diagnosis", "dx", "group", "target"),
    "subject": ("subject", "subject_id", "patient", "patient_id", "participant", "participant_id", "person"),
    "session": ("session", "session_id", "visit", "visit_id", "scan_id"),
    "slice": ("slice", "slice_index", "slice_number"),
    "subset": ("subset", "part", "split", "set"),
}
"""Names by which the column of each role is recognised, in any case; the first one present is used."""

ROLES = {**COLUMN_NAMES, "image": IMAGE_COLUMN_NAMES}
"""The same with the role of encoded images, which needs a column of bytes in a parquet file."""

FORMER_ROLES = {"part": "subset"}
"""Roles under their names before version 0.2, which are still accepted."""

_MISSING = ("", "n/a", "na", "nan", "null", "none")
"""Missing values of additional columns, in any case. In labels only an empty cell or BIDS' n/a is missing, because
"None" may be the name of a class."""


def current_roles(asked: Mapping[str, str]) -> dict[str, str]:
    """Columns by role, with former roles under their current names.

    Raises:
        UnknownNameError: There is no such role.
    """
    current = {FORMER_ROLES.get(role, role): name for role, name in asked.items()}
    for role in current:
        look_up(role, ROLES, "column role")
    return current


def find_columns(present: Sequence[str], asked: Mapping[str, str]) -> dict[str, str]:
    """The column of each role that has one.

    Args:
        present: The columns of the table.
        asked: Columns named by the user, by role.

    Raises:
        ConfigError: A named column does not exist.
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
    """Cells of a role as text; None if the cell is empty or BIDS' n/a."""
    words = [None if pd.isna(cell) else str(cell).strip() for cell in cells]
    return [word if word not in (None, "", "n/a") else None for word in words]


def subsets(cells: Iterable[Any], column: str) -> list[str | None]:
    """Cells of the subset column as train, val or test.

    Raises:
        DataError: A cell has another value.
    """
    words = texts(cells)
    unknown = sorted({word for word in words if word is not None and word.lower() not in SUBSET_NAMES})
    if unknown:
        raise DataError(
            f"The column '{column}' has unknown subsets: {', '.join(unknown[:5])}. "
            f"Known, in any case: {', '.join(SUBSET_NAMES)}."
        )
    return [SUBSET_NAMES[word.lower()] if word is not None else None for word in words]


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
    """Replace integer labels by the class at that position, unless the integers are class names themselves.

    -1 means no label, as in the ``datasets`` library.
    """
    found = {label for label in labels if label is not None}
    if not classes or found <= set(classes) or not all(_is_index(label, len(classes)) for label in found):
        return list(labels)
    return [None if label in (None, "-1") else classes[int(label)] for label in labels]


def _is_index(label: str, count: int) -> bool:
    return label == "-1" or (label.isdecimal() and int(label) < count)


def further(cells: pd.Series) -> pd.Series:
    """A column without a role: numbers if every cell is a number, else text."""
    if not (pd.api.types.is_object_dtype(cells) or pd.api.types.is_string_dtype(cells)):
        return cells
    words = cells.astype("string")
    words = words.mask(words.str.strip().str.lower().isin(_MISSING))
    try:
        return pd.to_numeric(words)
    except ValueError:
        return words
