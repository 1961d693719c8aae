"""Encoded bytes of images, in files or in rows of parquet files."""

from __future__ import annotations

import stat
import threading
from bisect import bisect_right
from collections import OrderedDict
from itertools import accumulate
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from gyrus.errors import UnusableImageError

ROW_CACHE_BYTES = 256 * 1024**2
"""Memory for row groups of parquet files, so that rows can be read in any order."""

IMAGE_COLUMN = "image_column"
"""Additional column of a manifest: the parquet column with the images, if the user named it."""

IMAGE_COLUMN_NAMES = ("image", "img", "image_bytes", "bytes", "jpeg", "png", "scan")
"""Names by which a parquet column of encoded images is recognised; the first one present is used."""


class EncodedImages:
    """The encoded bytes of the samples of a table, in files or in rows of parquet files. Thread-safe."""

    def __init__(self, root: Path, table: pd.DataFrame) -> None:
        self._root = root
        self._paths = table["path"].to_list()
        self._rows = [None if pd.isna(row) else int(row) for row in table["row"]]
        self._columns = table[IMAGE_COLUMN].to_list() if IMAGE_COLUMN in table else [None] * len(table)
        self._cache = _RowGroupCache(ROW_CACHE_BYTES)

    def __len__(self) -> int:
        return len(self._paths)

    def read(self, position: int) -> bytes:
        """The encoded bytes of the sample at ``position``.

        Raises:
            UnusableImageError: They are missing or cannot be read.
        """
        path, row = self._root / self._paths[position], self._rows[position]
        if row is None:
            return _read_file(path)
        data = self._cache.read(path, self._columns[position], row)
        if data is None:
            raise UnusableImageError("missing", "the row holds no image bytes")
        return data


def byte_columns(schema: pa.Schema) -> list[str]:
    """Parquet columns that may hold encoded images: bytes, or a struct with ``bytes``."""
    return [field.name for field in schema if _holds_bytes(field.type)]


def find_image_column(schema: pa.Schema, named: str | None = None) -> str | None:
    """The parquet column of encoded images; None if there is none or the choice is ambiguous.

    Args:
        schema: The columns of the file.
        named: The column named by the user; None to recognise it by :data:`IMAGE_COLUMN_NAMES`, or as the only one.
    """
    holding = byte_columns(schema)
    if named is not None:
        return named if named in holding else None
    lowered = {name.lower(): name for name in reversed(holding)}
    known = [lowered[name] for name in IMAGE_COLUMN_NAMES if name in lowered]
    return known[0] if known else holding[0] if len(holding) == 1 else None


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(kind.field(i).name == "bytes" and _holds_bytes(kind.field(i).type) for i in range(kind.num_fields))
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)


def _read_file(path: Path) -> bytes:
    try:
        # A pipe or device with the name of an image would block, or never end.
        if not stat.S_ISREG(path.stat().st_mode):
            raise UnusableImageError("unreadable", "this is not a regular file")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise UnusableImageError("missing", "the file does not exist") from error
    except OSError as error:
        raise UnusableImageError("unreadable", error.strerror or str(error)) from error


class _RowGroupCache:
    """The most recently used row groups of parquet files, within a budget of bytes."""

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._lock = threading.Lock()
        self._layouts: dict[tuple[Path, str | None], tuple[str, list[int]]] = {}
        self._groups: OrderedDict[tuple[Path, str | None, int], pa.ChunkedArray] = OrderedDict()

    def read(self, path: Path, named: str | None, row: int) -> bytes | None:
        with self._lock:
            try:
                column, ends = self._layout(path, named)
                number = bisect_right(ends, row)
                group = self._group(path, named, column, number)
            except (OSError, IndexError, pa.ArrowException) as error:
                raise UnusableImageError("unreadable", f"the parquet file cannot be read: {error}") from error
        value = group[row - (ends[number - 1] if number else 0)].as_py()
        return value["bytes"] if isinstance(value, dict) else value

    def _layout(self, path: Path, named: str | None) -> tuple[str, list[int]]:
        if (path, named) not in self._layouts:
            with pq.ParquetFile(path) as file:
                column = find_image_column(file.schema_arrow, named)
                groups = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
            if column is None:
                raise UnusableImageError("unreadable", "the parquet file has no column with image bytes")
            self._layouts[path, named] = (column, list(accumulate(groups)))
        return self._layouts[path, named]

    def _group(self, path: Path, named: str | None, column: str, number: int) -> pa.ChunkedArray:
        key = (path, named, number)
        if key not in self._groups:
            with pq.ParquetFile(path) as file:
                self._groups[key] = file.read_row_group(number, columns=[column]).column(0)
            while len(self._groups) > 1 and sum(group.nbytes for group in self._groups.values()) > self._budget:
                self._groups.popitem(last=False)
        self._groups.move_to_end(key)
        return self._groups[key]
