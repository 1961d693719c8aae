"""A table of image files: CSV, TSV or parquet, one row per image; and the roles of table columns."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from gyrus.datasets.manifest import COLUMNS
from gyrus.datasets.sample_files import IMAGE_COLUMN, IMAGE_COLUMN_NAMES
from gyrus.datasets.sources.class_folders import with_files
from gyrus.datasets.sources.listing import SUBSET_NAMES, Listing, ScanRequest
from gyrus.errors import ConfigError, DataError
from gyrus.registry import look_up

TABLE_EXTENSIONS = (".csv", ".tsv", ".parquet")
"""Extensions of tables, in any case."""

_READ_ERRORS = (OSError, ValueError, csv.Error, pa.ArrowException)
_TAKEN = (*COLUMNS, IMAGE_COLUMN)
_SEPARATORS = (",", ";", "\t")


def list_samples(path: Path, request: ScanRequest) -> Listing:
    """List the images of a table, or of the only table with a path column in a folder.

    Paths are relative to the folder of the table, or absolute. If some are outside of that folder, the root is the
    innermost folder that contains all of them.

    Raises:
        ConfigError: A column named by the user does not exist.
        DataError: The table cannot be read, has no rows, or lacks a path or label column.
    """
    file = _only_table(path, request.columns) if path.is_dir() else path
    table = read_table(file)
    if "image" in request.columns:
        raise ConfigError(
            "The role 'image' is for image bytes in parquet files. For this table, name the 'path' column."
        )
    found = find_columns(list(table.columns), request.columns)
    if "path" not in found:
        raise DataError(f"{file} has no column of paths{_known(table, 'path')}")
    if request.labelled and "label" not in found:
        raise DataError(f"{file} has no column of labels{_known(table, 'label')}")
    if table.empty:
        raise DataError(f"{file} has no rows.")
    root, below = _below_one_root(file, table[found["path"]])
    rows = pd.DataFrame({"sample": below, "path": below})
    rows = with_files(root, add_columns(rows, table, found, request), request)
    return Listing(root, rows, tuple(below), subject_column=found.get("subject"), tables=(file,))


def tables_in(folder: Path, asked: Mapping[str, str]) -> list[Path]:
    """The tables of a folder that have a path column, sorted."""
    files = [
        file
        for file in sorted(folder.iterdir())
        if file.suffix.lower() in TABLE_EXTENSIONS and file.is_file() and not file.name.startswith(".")
    ]
    return [file for file in files if has_paths(file, asked)]


def has_paths(file: Path, asked: Mapping[str, str]) -> bool:
    """Whether a table has a text column that may hold paths."""
    try:
        names = _text_columns(file)
    except _READ_ERRORS:
        return False
    return "path" in find_columns(names, {role: name for role, name in asked.items() if name in names})


def read_table(file: Path) -> pd.DataFrame:
    """Read a table; cells of a CSV or TSV stay text.

    Raises:
        DataError: It cannot be read.
    """
    try:
        if file.suffix.lower() == ".parquet":
            return in_pandas(pq.read_table(file))
        return _read_csv(file)
    except _READ_ERRORS as error:
        raise DataError(f"{file} cannot be read as a table: {error}") from error


def in_pandas(content: pa.Table) -> pd.DataFrame:
    """The plain columns of a parquet table, without nested columns and bytes."""
    left_out = (pa.types.is_nested, pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
    plain = [field.name for field in content.schema if not any(test(field.type) for test in left_out)]
    # Integers stay integers if cells are missing; pandas would convert them to floats.
    return content.select(plain).to_pandas(
        types_mapper=lambda kind: pd.Int64Dtype() if pa.types.is_integer(kind) else None
    )


def add_columns(
    rows: pd.DataFrame,
    table: pd.DataFrame,
    found: Mapping[str, str],
    request: ScanRequest,
    label_names: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Add the columns with roles under the names of the manifest, and additional columns under their own.

    Integer labels are named by ``label_names``, else by the classes of the request.
    """
    added: dict[str, Any] = {}
    if request.labelled and "label" in found:
        added["label"] = name_labels(text_cells(table[found["label"]]), label_names or request.classes)
    for role in ("subject", "session"):
        if role in found:
            added[role] = text_cells(table[found[role]])
    if "slice" in found:
        added["slice"] = number_cells(table[found["slice"]], found["slice"])
    if request.labelled and "subset" in found:
        added["subset"] = subset_cells(table[found["subset"]], found["subset"])
    for name in table.columns:
        if name not in found.values():
            added[f"source_{name}" if name in _TAKEN else name] = additional_cells(table[name]).array
    return rows.assign(**added)


def _only_table(folder: Path, asked: Mapping[str, str]) -> Path:
    tables = tables_in(folder, asked)
    if len(tables) == 1:
        return tables[0]
    found = f"{len(tables)} tables with paths: {', '.join(file.name for file in tables)}" if tables else "no table"
    raise DataError(f"{folder} has {found}. Give the path of the table to use.")


def _text_columns(file: Path) -> list[str]:
    if file.suffix.lower() != ".parquet":
        return list(_read_csv(file, rows=0).columns)
    schema = pq.read_schema(file)
    if b"gyrus" in (schema.metadata or {}):
        return []  # a manifest saved beside the images describes an earlier scan
    text = (pa.types.is_string, pa.types.is_large_string)
    return [field.name for field in schema if any(is_text(field.type) for is_text in text)]


def _read_csv(file: Path, rows: int | None = None) -> pd.DataFrame:
    # Not with pandas, which shifts or drops cells of uneven rows, and with them the labels.
    with file.open(encoding="utf-8-sig", newline="") as text:
        header = text.readline()
        # Some spreadsheets write semicolons.
        separator = "\t" if file.suffix.lower() == ".tsv" else max(_SEPARATORS, key=header.count)
        names = next(csv.reader([header], delimiter=separator, strict=True), [])
        lines = csv.reader(text, delimiter=separator, strict=True)
        cells = []
        for row in filter(None, islice(lines, rows)):
            if len(row) != len(names):
                raise ValueError(f"line {lines.line_num + 1} has {len(row)} cells, and the header has {len(names)}")
            cells.append(row)
    if len(set(names)) < len(names):
        raise ValueError("two columns have the same name")
    return pd.DataFrame(cells, columns=names, dtype="string")


def _known(table: pd.DataFrame, role: str) -> str:
    names = " or ".join(COLUMN_NAMES[role][:3])
    return (
        f"; it has {', '.join(map(str, table.columns))}. Rename one of them to {names}, "
        f'or name it with columns={{"{role}": "..."}}, or scan the folders instead with source="folder".'
    )


def _below_one_root(file: Path, cells: pd.Series) -> tuple[Path, list[str]]:
    folder = file.parent.absolute()
    texts = text_cells(cells.to_list())
    nameless = [number for number, text in enumerate(texts) if text is None]
    if nameless:
        raise DataError(f"{file} has {len(nameless)} rows without a path, first: row {nameless[0] + 1}.")
    # Tables written on Windows have backslashes; slashes work everywhere.
    full = [os.path.normpath(folder / str(text).replace("\\", "/")) for text in texts]
    inside = all(Path(path).is_relative_to(folder) for path in full)
    root = folder if inside else Path(os.path.commonpath([Path(path).parent for path in full]))
    return root, [Path(path).relative_to(root).as_posix() for path in full]


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
    """The column of each role that has one: the ``asked`` one, else the first with a name of :data:`COLUMN_NAMES`.

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


def text_cells(cells: Iterable[Any]) -> list[str | None]:
    """Cells of a role as text; None if the cell is empty or BIDS' n/a."""
    words = [None if pd.isna(cell) else str(cell).strip() for cell in cells]
    return [word if word not in (None, "", "n/a") else None for word in words]


def subset_cells(cells: Iterable[Any], column: str) -> list[str | None]:
    """Cells of the subset column as train, val or test.

    Raises:
        DataError: A cell has another value.
    """
    words = text_cells(cells)
    unknown = sorted({word for word in words if word is not None and word.lower() not in SUBSET_NAMES})
    if unknown:
        raise DataError(
            f"The column '{column}' has unknown subsets: {', '.join(unknown[:5])}. "
            f"Known, in any case: {', '.join(SUBSET_NAMES)}."
        )
    return [SUBSET_NAMES[word.lower()] if word is not None else None for word in words]


def number_cells(cells: Iterable[Any], column: str) -> list[int | None]:
    """Cells of the slice column as numbers.

    Raises:
        DataError: A cell is not a whole number.
    """
    numbers: list[int | None] = []
    for word in text_cells(cells):
        try:
            number = None if word is None else float(word)
        except ValueError:
            number = float("nan")
        if number is not None and not number.is_integer():
            raise DataError(f"The column '{column}' must hold whole numbers, but has '{word}'.")
        numbers.append(None if number is None else int(number))
    return numbers


def name_labels(labels: Sequence[str | None], classes: Sequence[str] | None) -> list[str | None]:
    """Replace integer labels by the class at that position, unless the integers are class names themselves.

    -1 means no label, as in the ``datasets`` library.
    """
    found = {label for label in labels if label is not None}
    indices = all(label == "-1" or (label.isdecimal() and int(label) < len(classes or ())) for label in found)
    if not classes or found <= set(classes) or not indices:
        return list(labels)
    return [None if label in (None, "-1") else classes[int(label)] for label in labels]


def additional_cells(cells: pd.Series) -> pd.Series:
    """A column without a role: numbers if every cell is a number, else text."""
    if not (pd.api.types.is_object_dtype(cells) or pd.api.types.is_string_dtype(cells)):
        return cells
    words = cells.astype("string")
    words = words.mask(words.str.strip().str.lower().isin(_MISSING))
    try:
        return pd.to_numeric(words)
    except ValueError:
        return words
