"""A table of image files: CSV, TSV, JSON Lines or parquet, one row per image; and the roles of table columns."""

from __future__ import annotations

import csv
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from gyrus.datasets.manifest import COLUMNS
from gyrus.datasets.parquet_columns import read_columns
from gyrus.datasets.sample_files import IMAGE_COLUMN, IMAGE_COLUMN_NAMES
from gyrus.datasets.sources.class_folders import walk, with_files
from gyrus.datasets.sources.hdf5 import is_hdf5, with_attributes
from gyrus.datasets.sources.listing import NOT_ASKED_FOR, SUBSET_NAMES, Listing, ScanRequest, subset_named
from gyrus.datasets.text_tables import TEXT_EXTENSIONS, read_text_table
from gyrus.errors import ConfigError, DataError
from gyrus.imaging.decoding import is_image
from gyrus.imaging.volume_formats import extension_of, is_volume
from gyrus.registry import look_up
from gyrus.text import counted

TABLE_EXTENSIONS = (*TEXT_EXTENSIONS, ".parquet")
"""Extensions of tables, in any case."""

_SPREADSHEETS = (".xlsx", ".xls", ".ods", ".numbers")
"""Extensions of spreadsheets, which are not read."""

_READ_ERRORS = (OSError, ValueError, csv.Error, pa.ArrowException)
_TAKEN = (*COLUMNS, IMAGE_COLUMN)
_DECIMAL_COMMA = r"\s*-?\d+(,\d+)?\s*"


def list_samples(path: Path, request: ScanRequest) -> Listing:
    """List the images of a table, or of the tables with paths in a folder.

    Paths are relative to the folder of their table, or absolute. If some are outside of that folder, the root is the
    innermost folder that contains all images. A path without a file is completed where one file below the folder has
    its name, or its stem if it has no extension.

    Raises:
        ConfigError: A column named by the user does not exist.
        DataError: A table cannot be read, has no rows, or lacks a path or label column; or a folder has several tables
            that are not named after subsets.
    """
    files = path_tables(path, request.columns) if path.is_dir() else [path]
    if not files:
        raise DataError(f"{path} has no table with paths. Give the path of the table to use.")
    base = path if path.is_dir() else path.parent
    chosen, notes = with_labels(files, request)
    read = [_read_rows(file, request, subset_of_name(base, file) if path.is_dir() else None) for file in chosen]
    if len({"subject" in rows for rows, _, _ in read}) > 1:
        raise DataError(f"Only some of the tables of {base} have a subject column.")
    rows = pd.concat([rows for rows, _, _ in read], ignore_index=True) if len(read) > 1 else read[0][0]
    subject = next((found.get("subject") for _, found, _ in read), None)
    notes += [note for _, _, more in read for note in more]
    return listing_of_rows(rows, path, request, subject_column=subject, notes=notes, tables=chosen)


def listing_of_rows(
    rows: pd.DataFrame,
    path: Path,
    request: ScanRequest,
    *,
    subject_column: str | None,
    notes: Sequence[str],
    tables: Sequence[Path],
) -> Listing:
    """The listing of rows whose column ``path`` has absolute paths.

    Args:
        rows: The rows, with other columns of the manifest.
        path: The table, or the folder of the tables.
        request: The request.
        subject_column: The column of the subjects, if any.
        notes: Notes on how the table was read.
        tables: The tables.

    Raises:
        DataError: No row is wanted, or some are images and some volumes.
    """
    base = path if path.is_dir() else path.parent
    full, completed = _complete(base.absolute(), rows["path"].to_list())
    root, below = _below_one_root(base.absolute(), full)
    only_hdf5 = all(map(is_hdf5, below))
    chosen_rows = [only_hdf5 or request.wants(name) for name in below]
    if not any(chosen_rows):
        raise DataError(
            f"None of the {len(below)} paths of {path} matches {request.patterns_text}; the first is {below[0]}."
        )
    left_aside = {name: NOT_ASKED_FOR for name, wanted in zip(below, chosen_rows, strict=True) if not wanted}
    rows = rows.assign(sample=below, path=below)[chosen_rows].reset_index(drop=True)
    below = rows["path"].to_list()
    listing = Listing(
        root,
        with_files(root, rows, request),
        tuple(below),
        subject_column=subject_column,
        notes=(*notes, *completed),
        tables=tuple(tables),
        left_aside=left_aside,
    )
    return with_attributes(listing, request) if only_hdf5 else listing


def path_tables(folder: Path, asked: Mapping[str, str]) -> list[Path]:
    """The tables of a folder that have a path column, else those of its subset folders; sorted.

    Raises:
        DataError: There are several, and not each is named after a subset or is in the folder of one.
    """
    return _one_or_subsets(folder, [file for file in tables_in(folder) if has_paths(file, asked)]) or _one_or_subsets(
        folder, [file for place in _subset_folders(folder) for file in tables_in(place) if has_paths(file, asked)]
    )


def _one_or_subsets(folder: Path, files: list[Path]) -> list[Path]:
    if len(files) > 1 and not all(subset_of_name(folder, file) for file in files):
        raise DataError(
            f"{folder} holds {len(files)} tables with paths: {', '.join(file.name for file in files)}. "
            'Give the path of one of them, or scan the folders instead with source="folder". '
            "Tables named after subsets (train.csv and test.csv) are read together."
        )
    return files


def tables_in(folder: Path) -> list[Path]:
    """All tables of a folder by their extension, sorted."""
    return [
        file
        for file in sorted(folder.iterdir())
        if file.suffix.lower() in TABLE_EXTENSIONS and file.is_file() and not file.name.startswith(".")
    ]


def unreadable_tables(folder: Path) -> dict[str, str]:
    """The tables and spreadsheets of a folder that cannot be read, with the reason."""
    reasons = {
        file.name: "a spreadsheet; save it as CSV"
        for file in sorted(folder.iterdir())
        if file.suffix.lower() in _SPREADSHEETS and not file.name.startswith((".", "~$"))
    }
    for file in tables_in(folder):
        try:
            column_names(file) if file.suffix.lower() == ".parquet" else read_text_table(file)
        except _READ_ERRORS as error:
            reasons[file.name] = f"cannot be read as a table: {error}"
    return reasons


def _subset_folders(folder: Path) -> list[Path]:
    return [place for place in sorted(folder.iterdir()) if place.is_dir() and place.name.lower() in SUBSET_NAMES]


def subset_of_name(folder: Path, file: Path) -> str | None:
    """The subset that a table is named after, or the folder that it is in."""
    return subset_named(file.name if file.parent == folder else file.parent.name)


def with_labels(files: Sequence[Path], request: ScanRequest) -> tuple[list[Path], list[str]]:
    """The tables that have a column of labels if labels are needed; a note names the others.

    Raises:
        DataError: None has.
    """
    if not request.labelled:
        return list(files), []
    found = {file: "label" in roles_present(column_names(file), request.columns) for file in files}
    if not any(found.values()):
        table, _ = read_table(files[0])
        find_columns(list(table.columns), request.columns)  # a column that the user names may not exist
        raise DataError(f"{files[0]} has no column of labels{missing_column(table, 'label')}")
    without = [file.name for file, has in found.items() if not has]
    note = f"not used, because it has no column of labels: {', '.join(without)}"
    return [file for file, has in found.items() if has], [note] if without else []


def roles_present(names: Sequence[str], asked: Mapping[str, str]) -> dict[str, str]:
    """As :func:`find_columns`, in a table that may lack columns that the user names."""
    return find_columns(list(names), {role: name for role, name in asked.items() if _in_its_case(name, names) in names})


def has_paths(file: Path, asked: Mapping[str, str]) -> bool:
    """Whether a table can be read and has a text column that may hold paths."""
    try:
        return "path" in roles_present(_text_columns(file), asked)
    except _READ_ERRORS:
        return False


def column_names(file: Path) -> list[str]:
    """The names of all columns of a table.

    Raises:
        DataError: It cannot be read.
    """
    try:
        return pq.read_schema(file).names if file.suffix.lower() == ".parquet" else _text_columns(file)
    except _READ_ERRORS as error:
        raise DataError(f"{file} cannot be read as a table: {error}") from error


def read_table(file: Path) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Read a table; cells of a text file stay text.

    Returns:
        The table, and notes on how it was read.

    Raises:
        DataError: It cannot be read.
    """
    try:
        if file.suffix.lower() == ".parquet":
            return in_pandas(read_columns(file)), ()
        return read_text_table(file)
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


def _read_rows(
    file: Path, request: ScanRequest, subset: str | None
) -> tuple[pd.DataFrame, dict[str, str], tuple[str, ...]]:
    """The rows of a table with absolute paths, the column of each role, and notes.

    Args:
        file: The table.
        request: The request.
        subset: The subset of its rows, if it has no column of subsets.
    """
    table, notes = read_table(file)
    if "image" in request.columns:
        raise ConfigError(
            "The role 'image' is for image bytes in parquet files. For this table, name the 'path' column."
        )
    found = find_columns(list(table.columns), request.columns)
    if "path" not in found:
        raise DataError(
            f"{file} has no column of paths{missing_column(table, 'path')} A table of subjects without images: "
            "--source people, with a model that needs none (--set model.name=logistic-regression)."
        )
    if table.empty:
        raise DataError(f"{file} has no rows.")
    rows = pd.DataFrame({"path": absolute_paths(file, table[found["path"]])})
    rows = add_columns(rows, table, found, request)
    if subset is not None and request.labelled and "subset" not in found:
        rows["subset"] = subset
    return rows, found, notes


def _text_columns(file: Path) -> list[str]:
    if file.suffix.lower() != ".parquet":
        return list(read_text_table(file, rows=0)[0].columns)
    schema = pq.read_schema(file)
    if b"gyrus" in (schema.metadata or {}):
        return []  # a manifest saved beside the images describes an earlier scan
    text = (pa.types.is_string, pa.types.is_large_string)
    return [field.name for field in schema if any(is_text(field.type) for is_text in text)]


def missing_column(table: pd.DataFrame, role: str) -> str:
    """The columns of a table that lacks one for a role, and what to do, as the end of a message."""
    names = " or ".join(COLUMN_NAMES[role][:3])
    return (
        f"; it has {', '.join(map(str, table.columns))}. Rename one of them to {names}, "
        f'or name it with columns={{"{role}": "..."}}, or scan the folders instead with source="folder".'
    )


def absolute_paths(file: Path, cells: pd.Series) -> list[str]:
    """The paths of a table, which are relative to its folder, as absolute ones.

    Raises:
        DataError: A cell is empty.
    """
    texts = text_cells(cells.to_list())
    nameless = [number for number, text in enumerate(texts) if text is None]
    if nameless:
        raise DataError(f"{file} has {counted(len(nameless), 'row')} without a path, first: row {nameless[0] + 1}.")
    # Tables written on Windows have backslashes; slashes work everywhere.
    return [os.path.normpath(file.parent.absolute() / str(text).replace("\\", "/")) for text in texts]


def _complete(folder: Path, paths: list[str]) -> tuple[list[str], list[str]]:
    """Paths without a file, completed where the files below the folder leave no doubt; and a note on them."""
    missing = [path for path in paths if not os.path.lexists(path)]
    if not missing:
        return paths, []
    by_name: dict[str, list[str]] = defaultdict(list)
    for name in walk(folder):
        if is_image(name) or is_volume(name):
            for key in {PurePosixPath(name).name.casefold(), stem_of(name).casefold()}:
                by_name[key].append(name)
    completed: dict[str, str] = {}
    for path in missing:
        candidates = by_name.get(Path(path).name.casefold(), [])
        # Files of one name are told apart by the folders that they share with the path, from the last on.
        shared = [_shared_folders(path, name) for name in candidates]
        best = [name for name, count in zip(candidates, shared, strict=True) if count == max(shared)]
        if len(best) == 1:
            completed[path] = str(folder / best[0])
    if not completed:
        return paths, []
    first = missing[next(number for number, path in enumerate(missing) if path in completed)]
    note = (
        f"paths of the table without a file that were completed by name ({len(completed)}): "
        f"{Path(first).name} is {Path(completed[first]).relative_to(folder).as_posix()}"
    )
    return [completed.get(path, path) for path in paths], [note]


def _shared_folders(path: str, name: str) -> int:
    pairs = zip(reversed(Path(path).parts[:-1]), reversed(PurePosixPath(name).parts[:-1]), strict=False)
    return len(list(takewhile(lambda pair: pair[0].casefold() == pair[1].casefold(), pairs)))


def stem_of(name: str) -> str:
    """The file name without the extension of its format: ``a/b.nii.gz`` gives ``b``."""
    file = PurePosixPath(name)
    extension = extension_of(file.name)
    return file.name[: -len(extension)] if extension else file.stem


def _below_one_root(folder: Path, full: list[str]) -> tuple[Path, list[str]]:
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

    A column that is named in another case is found if no other has that name.

    Raises:
        ConfigError: A named column does not exist.
    """
    asked = {role: _in_its_case(name, present) for role, name in asked.items()}
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


def _in_its_case(name: str, present: Sequence[str]) -> str:
    """The column of this name; else the only one with this name in another case; else the name itself."""
    same = [column for column in present if column.casefold().strip() == name.casefold().strip()]
    return same[0] if name not in present and len(same) == 1 else name


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
    if words.str.fullmatch(_DECIMAL_COMMA).all() and words.str.contains(",", regex=False).any():
        words = words.str.replace(",", ".", regex=False)
    try:
        return pd.to_numeric(words)
    except ValueError:
        return words
