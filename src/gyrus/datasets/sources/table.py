"""A table of image files: CSV, TSV or parquet, one row per image."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from gyrus.datasets.encoded_images import IMAGE_COLUMN
from gyrus.datasets.manifest import COLUMNS
from gyrus.datasets.sources import table_columns as roles
from gyrus.datasets.sources.listing import Listing, ScanRequest
from gyrus.datasets.sources.volume_folder import with_files
from gyrus.errors import ConfigError, DataError

TABLE_EXTENSIONS = (".csv", ".tsv", ".parquet")
"""Extensions of tables, in any case."""

_READ_ERRORS = (OSError, ValueError, csv.Error, pa.ArrowException)
_TAKEN = (*COLUMNS, IMAGE_COLUMN)
_SEPARATORS = (",", ";", "\t")


def list_samples(path: Path, request: ScanRequest) -> Listing:
    """List the images of a table.

    Paths are relative to the folder of the table, or absolute. If some are outside of that folder, the root is the
    innermost folder that contains all of them.

    Args:
        path: The table; or a folder with exactly one table that has a path column.
        request: Its ``columns``, ``classes`` and ``labelled`` are used.

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
    found = roles.find_columns(list(table.columns), request.columns)
    if "path" not in found:
        raise DataError(f"{file} has no column of paths{_known(table, 'path')}")
    if request.labelled and "label" not in found:
        raise DataError(f"{file} has no column of labels{_known(table, 'label')}")
    if table.empty:
        raise DataError(f"{file} has no rows.")
    root, below = _below_one_root(file, table[found["path"]])
    rows = pd.DataFrame({"sample": below, "path": below})
    rows = with_files(root, add_columns(rows, table, found, request), request)
    return Listing(root, rows, tuple(below), subject_column=found.get("subject"))


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
    return "path" in roles.find_columns(names, {role: name for role, name in asked.items() if name in names})


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
    plain = [field.name for field in content.schema if not _is_nested_or_bytes(field.type)]
    return content.select(plain).to_pandas(types_mapper=_nullable)


def _is_nested_or_bytes(kind: pa.DataType) -> bool:
    tests = (pa.types.is_nested, pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
    return any(test(kind) for test in tests)


def add_columns(
    rows: pd.DataFrame,
    table: pd.DataFrame,
    found: Mapping[str, str],
    request: ScanRequest,
    label_names: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Add the columns with roles under the names of the manifest, and additional columns under their own.

    Args:
        rows: The rows to extend.
        table: The columns of the source.
        found: The column of each role.
        request: Its ``classes`` name integer labels if the source does not.
        label_names: Names of integer labels, if the source has them.
    """
    added: dict[str, Any] = {}
    if request.labelled and "label" in found:
        added["label"] = roles.name_labels(roles.texts(table[found["label"]]), label_names or request.classes)
    for role in ("subject", "session"):
        if role in found:
            added[role] = roles.texts(table[found[role]])
    if "slice" in found:
        added["slice"] = roles.whole_numbers(table[found["slice"]], found["slice"])
    if request.labelled and "subset" in found:
        added["subset"] = roles.subsets(table[found["subset"]], found["subset"])
    for name in table.columns:
        if name not in found.values():
            added[f"source_{name}" if name in _TAKEN else name] = roles.further(table[name]).array
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
        separator = _separator(file, header)
        names = next(csv.reader([header], delimiter=separator, strict=True), [])
        lines = csv.reader(text, delimiter=separator, strict=True)
        cells = [_as_long_as(names, row, lines.line_num + 1) for row in islice(lines, rows) if row]
    if len(set(names)) < len(names):
        raise ValueError("two columns have the same name")
    return pd.DataFrame(cells, columns=names, dtype="string")


def _as_long_as(names: list[str], row: list[str], line: int) -> list[str]:
    if len(row) != len(names):
        raise ValueError(f"line {line} has {len(row)} cells, and the header has {len(names)}")
    return row


def _separator(file: Path, header: str) -> str:
    """Tab for TSV; else the most frequent one in the header, since some spreadsheets write semicolons."""
    return "\t" if file.suffix.lower() == ".tsv" else max(_SEPARATORS, key=header.count)


def _nullable(kind: pa.DataType) -> pd.api.extensions.ExtensionDtype | None:
    # Integers stay integers if cells are missing; pandas would convert them to floats.
    return pd.Int64Dtype() if pa.types.is_integer(kind) else None


def _known(table: pd.DataFrame, role: str) -> str:
    names = " or ".join(roles.COLUMN_NAMES[role][:3])
    return (
        f"; it has {', '.join(map(str, table.columns))}. Rename one of them to {names}, "
        f'or name it with columns={{"{role}": "..."}}, or scan the folders instead with source="folder".'
    )


def _below_one_root(file: Path, cells: pd.Series) -> tuple[Path, list[str]]:
    folder = file.parent.absolute()
    texts = roles.texts(cells.to_list())
    nameless = [number for number, text in enumerate(texts) if text is None]
    if nameless:
        raise DataError(f"{file} has {len(nameless)} rows without a path, first: row {nameless[0] + 1}.")
    # Tables written on Windows have backslashes; slashes work everywhere.
    full = [os.path.normpath(folder / str(text).replace("\\", "/")) for text in texts]
    inside = all(Path(path).is_relative_to(folder) for path in full)
    root = folder if inside else Path(os.path.commonpath([Path(path).parent for path in full]))
    return root, [Path(path).relative_to(root).as_posix() for path in full]
