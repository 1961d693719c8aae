"""A table of subjects without images: CSV, TSV, JSON Lines or parquet, one row per subject or visit."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pandas as pd

from gyrus.datasets.sources.listing import Listing, ScanRequest
from gyrus.datasets.sources.subject_rules import subjects_from_names
from gyrus.datasets.sources.table import add_columns, find_columns, missing_column, read_table, text_cells
from gyrus.errors import DataError
from gyrus.files import digest
from gyrus.text import counted

_ID_NAMES = ("id", "name", "case", "scan_id", "mri_id")
"""Names of a column of ids, in any case, if no column has a name of the role subject."""

ROW_DIGEST = "row_digest"
"""Column of a listing without images: the digest of the cells of each row."""


def list_people(path: Path, request: ScanRequest) -> Listing:
    """List the rows of a table whose subjects have no images.

    The subject is the column with that role. Ids such as "OAS1_0061_MR2", in a column named "ID", are read by the rules
    for file names where one fits all of them; else each is a subject. Without ids every row is a subject.

    Raises:
        ConfigError: A column named by the user does not exist.
        DataError: The table cannot be read, has no rows, lacks a label column, or a row has no id.
    """
    if path.is_dir():
        raise DataError(f"{path} is a folder. Give the path of the table of subjects.")
    table, notes = read_table(path)
    if table.empty:
        raise DataError(f"{path} has no rows.")
    found = find_columns(list(table.columns), request.columns)
    found.pop("path", None)
    if request.labelled and "label" not in found:
        raise DataError(f"{path} has no column of labels{missing_column(table, 'label')}")
    ids, id_column = _ids(path, table, found)
    rows = add_columns(pd.DataFrame({"path": [path.name] * len(table)}), table, found, request)
    rows = rows.drop(columns=[id_column] if id_column in rows else [])
    if "subject" not in rows:
        names = subjects_from_names(ids, [None] * len(ids)) if id_column else None
        known = names if names and names.kind == "subject" else None
        rows["subject"] = known.subjects if known else ids
        if known and "session" not in rows:
            rows["session"] = known.sessions
    rows["sample"] = _samples(rows, ids)
    cells = table.astype("string").fillna("").to_numpy().tolist()
    rows[ROW_DIGEST] = [digest([name, *row]) for name, row in zip(rows["sample"], cells, strict=True)]
    return Listing(
        path.parent.absolute(),
        rows,
        tuple(ids),
        subject_column=found.get("subject") or id_column or "row",
        notes=notes,
        tables=(path,),
    )


def _ids(path: Path, table: pd.DataFrame, found: dict[str, str]) -> tuple[list[str], str | None]:
    """The id of each row, and the column that holds them; the numbers of the rows if there is none."""
    lowered = {str(name).lower().strip(): str(name) for name in reversed(list(table.columns))}
    free = {lower: name for lower, name in lowered.items() if name not in found.values()}
    column = found.get("subject") or next((free[name] for name in _ID_NAMES if name in free), None)
    if column is None:
        return [f"row-{number}" for number in range(1, len(table) + 1)], None
    ids = text_cells(table[column])
    missing = [number for number, name in enumerate(ids) if name is None]
    if missing:
        raise DataError(
            f"{path} has {counted(len(missing), 'row')} without an id in column '{column}', first: row "
            f"{missing[0] + 1}. Fill in the column."
        )
    return [str(name) for name in ids], column


def _samples(rows: pd.DataFrame, ids: list[str]) -> list[str]:
    """A name for each row: its id, with the visit or the number of the row where an id has several rows."""
    names = list(ids)
    if "session" in rows:
        counts = Counter(names)
        names = [
            f"{name}/{visit}" if counts[name] > 1 and not pd.isna(visit) else name
            for name, visit in zip(names, rows["session"], strict=True)
        ]
    counts = Counter(names)
    return [f"{name}#{number}" if counts[name] > 1 else name for number, name in enumerate(names, 1)]
