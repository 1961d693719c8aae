"""Parquet files with image bytes, one row per image; one file, or a folder in the layout of Hugging Face."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import compress
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gyrus.datasets.parquet_columns import read_columns
from gyrus.datasets.sample_files import IMAGE_COLUMN, byte_columns, find_image_column
from gyrus.datasets.sources.listing import Listing, ScanRequest, subset_named
from gyrus.datasets.sources.table import add_columns, find_columns, in_pandas, text_cells
from gyrus.errors import ConfigError, DataError
from gyrus.text import counted

_BELOW = (".", "data")
"""Where a folder may hold the files; the first place with any is used."""

_INNER_PATH = " path inside the image"


def list_samples(path: Path, request: ScanRequest) -> Listing:
    """List the rows that hold encoded images: of one parquet file, or of those in a folder or its ``data/``.

    Class names come from the request, else from the metadata that the ``datasets`` library writes, else from the
    labels themselves. If files are named after subsets (``train-00000-of-00001.parquet``), the subset is filled in.

    Raises:
        ConfigError: A column named by the user does not exist.
        DataError: A file cannot be read, has no images or labels, or the files have different class names.
    """
    files = image_files(path, request.columns.get("image")) if path.is_dir() else [path]
    if not files:
        raise DataError(f"There is no parquet file with a column of image bytes in {path}.")
    root = path if path.is_dir() else path.parent
    listings = [_list_file(file, root, request, with_subset=path.is_dir()) for file in files]
    return _together(path, root, [listing for listing in listings if len(listing.rows)], request)


def image_files(folder: Path, named: str | None) -> list[Path]:
    """The parquet files of a folder that hold images, sorted."""
    for below in _BELOW:
        found = sorted((folder / below).glob("*")) if (folder / below).is_dir() else []
        files = [file for file in found if file.suffix.lower() == ".parquet" and holds_images(file, named)]
        if files:
            return files
    return []


def holds_images(file: Path, named: str | None) -> bool:
    """Whether a parquet file has a column of image bytes."""
    try:
        found = byte_columns(pq.read_schema(file))
    except (OSError, pa.ArrowException):
        return False
    return bool(found) if named is None else named in found


def _together(path: Path, root: Path, listings: list[Listing], request: ScanRequest) -> Listing:
    if not listings:
        raise DataError(f"{path} has no rows{' that match --files' if request.files else ''}.")
    classes = {listing.classes for listing in listings}
    if len(classes) > 1:
        raise DataError(f"The parquet files of {path} have different class names: {sorted(map(str, classes))}.")
    columns = {listing.subject_column for listing in listings}
    if len(columns) > 1:
        raise DataError(f"Only some of the parquet files of {path} have a subject column.")
    named = all(listing.names for listing in listings)
    return Listing(
        root,
        pd.concat([listing.rows for listing in listings], ignore_index=True),
        tuple(name for listing in listings for name in listing.names) if named else (),
        classes.pop(),
        columns.pop(),
        notes=tuple(note for listing in listings for note in listing.notes),
    )


def _list_file(file: Path, root: Path, request: ScanRequest, *, with_subset: bool) -> Listing:
    content, image = _without_pixels(file, request.columns.get("image"))
    table = in_pandas(content)
    asked = {role: name for role, name in request.columns.items() if role != "image"}
    found = find_columns([name for name in table.columns if name != _INNER_PATH], asked)
    if request.labelled and "label" not in found:
        raise DataError(
            f"{file} has no column of labels; it has {', '.join([image, *table.columns.drop(_INNER_PATH)])}. "
            'Name it with columns={"label": "..."}.'
        )
    names = _names(table, found.pop("path", None))
    classes = _class_names(content.schema, found.get("label")) if request.labelled else None
    rows = add_columns(_rows(file, root, len(table)), table.drop(columns=_INNER_PATH), found, request, classes)
    if "image" in request.columns:
        rows[IMAGE_COLUMN] = image
    if with_subset and "subset" not in found and request.labelled:
        rows["subset"] = subset_named(file.name)
    listing = Listing(root, rows, names, classes, found.get("subject"))
    return _only_asked_for(file, listing, request) if request.files else listing


def _only_asked_for(file: Path, listing: Listing, request: ScanRequest) -> Listing:
    if not listing.names:
        raise DataError(f"The images of {file} have no file names, so --files cannot select them.")
    chosen = [request.wants(name) for name in listing.names]
    note = f"{counted(chosen.count(False), 'row')} of {file.name} left out by --files"
    return replace(
        listing,
        rows=listing.rows[chosen].reset_index(drop=True),
        names=tuple(compress(listing.names, chosen)),
        notes=(note,) if not all(chosen) else (),
    )


def _without_pixels(file: Path, named: str | None) -> tuple[pa.Table, str]:
    """All columns except the images, with the paths inside the images as an additional one; and the image column."""
    try:
        schema = pq.read_schema(file)
        image = _image_column(file, schema, named)
        others = [field.name for field in schema if field.name != image]
        content = read_columns(file, others)
        paths = _inner_paths(file, schema.field(image).type, image, len(content))
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{file} cannot be read as parquet: {error}") from error
    return content.append_column(_INNER_PATH, paths), image


def _image_column(file: Path, schema: pa.Schema, named: str | None) -> str:
    column = find_image_column(schema, named)
    if column is not None:
        return column
    if named is not None:
        raise ConfigError(f"{file} has no column '{named}' with image bytes; it has {', '.join(schema.names)}.")
    candidates = ", ".join(byte_columns(schema))
    if candidates:
        raise DataError(
            f'Several columns of {file} may hold the images: {candidates}. Name one with columns={{"image": "..."}}.'
        )
    raise DataError(f"{file} has no column with image bytes; it has {', '.join(schema.names)}.")


def _inner_paths(file: Path, kind: pa.DataType, image: str, count: int) -> pa.Array | pa.ChunkedArray:
    inner = [kind.field(i).name for i in range(kind.num_fields)] if pa.types.is_struct(kind) else []
    if "path" not in inner:
        return pa.nulls(count, pa.string())
    with pq.ParquetFile(file) as content:
        return pc.struct_field(content.read(columns=[f"{image}.path"]).column(image), "path")


def _rows(file: Path, root: Path, count: int) -> pd.DataFrame:
    path = file.relative_to(root).as_posix()
    # Zero-padded, so that samples sorted by name are sorted by row, and row groups are read one after another.
    width = len(str(count - 1))
    samples = [f"{path}#{row:0{width}d}" for row in range(count)]
    return pd.DataFrame({"sample": samples, "path": path, "row": range(count)})


def _names(table: pd.DataFrame, column: str | None) -> tuple[str, ...]:
    """File names of the rows, from inside the images or from a column of their own."""
    for name in (_INNER_PATH, column):
        paths = text_cells(table[name]) if name is not None else []
        found = tuple(path.replace("\\", "/") for path in paths if path is not None)
        if found and len(found) == len(paths):
            return found
    return ()


def _class_names(schema: pa.Schema, label: str | None) -> tuple[str, ...] | None:
    """The class names that the ``datasets`` library writes into the metadata of a file."""
    try:
        about: Any = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        names = about["info"]["features"][label]["names"]
    except (ValueError, KeyError, TypeError):
        return None
    return tuple(map(str, names)) if isinstance(names, list) and names else None
