"""From a row of the manifest to pixels, which lie in files or in rows of parquet files."""

from __future__ import annotations

import hashlib
import stat
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from gyrus.datasets.manifest import MEMBERS, VIEW, VOLUME_FILES, Manifest
from gyrus.datasets.prepared_volumes import PreparedVolumes
from gyrus.errors import DataError, UnusableImageError
from gyrus.imaging.decoding import decode
from gyrus.transforms.image_steps import Grayscale
from gyrus.transforms.step import VolumeStep
from gyrus.transforms.volume_steps import Percentiles

ROW_CACHE_BYTES = 256 * 1024**2
"""How much of a parquet file is kept in memory, so that its rows may be read in any order."""

IMAGE_COLUMN = "image_column"
"""The further column of a manifest that names the parquet column with the pixels, where the user named one."""

IMAGE_COLUMN_NAMES = ("image", "img", "image_bytes", "bytes", "jpeg", "png", "scan")
"""Names under which a parquet column with encoded images is found, the first one present."""


class Reader:
    """The pixels of a manifest's samples: images, stacks of slices, or volumes. Threads may share one."""

    def __init__(self, manifest: Manifest, steps: Sequence[VolumeStep] = (Percentiles(),)) -> None:
        """Find out where the samples lie; nothing is opened yet.

        Args:
            manifest: The samples.
            steps: What prepares volumes; images come as they are.
        """
        self._root = manifest.root
        self._samples = manifest.table["sample"].to_list()
        self._volumes = PreparedVolumes(manifest, steps) if VOLUME_FILES in manifest.table else None
        if self._volumes is not None:
            return
        slices, self._bounds = _slices_of(manifest.table)
        self._encoded = EncodedImages(manifest.root, slices)
        self._digests = slices["digest"].to_list()
        self._stacked = MEMBERS in manifest.table
        self._as_channels = self._stacked and VIEW in manifest.table

    def __len__(self) -> int:
        return len(self._samples)

    def read(self, position: int) -> np.ndarray:
        """Decode the image, stack or volume in row ``position`` of the manifest's table.

        Returns:
            uint8, shape (C, rows, columns), or (C, slices, rows, columns) for a stack or volume; C = 1 (gray) or 3
            (RGB), exactly the values that Pillow decodes. Slices may have their neighbours as channels.

        Raises:
            DataError: An image is gone or damaged, or is not the one that was scanned, or the slices of a stack
                differ in size or colour.
        """
        try:
            if self._volumes is not None:
                return self._volumes.read(position)
            decoded = [self._decode(number) for number in range(*self._bounds[position : position + 2])]
        except UnusableImageError as error:
            raise DataError(
                f"{self._samples[position]} below {self._root} cannot be read: {error.message}. "
                "It was usable when the data were scanned; put it back, or scan them again."
            ) from error
        if not self._stacked:
            return cast(np.ndarray, decoded[0])
        if not self._as_channels:
            return _stack(decoded, self._samples[position])
        # Neighbours are channels, so that each must be gray.
        gray = [None if slice_ is None else Grayscale()(slice_) for slice_ in decoded]
        return np.ascontiguousarray(_stack(gray, self._samples[position])[0])

    def _decode(self, number: int) -> np.ndarray | None:
        """One slice; None for a black one."""
        if self._digests[number] is None:
            return None
        data = self._encoded.read(number)
        if hashlib.sha256(data).hexdigest() != self._digests[number]:
            raise UnusableImageError("unreadable", "the content is not the one that was scanned")
        return decode(data)


def _slices_of(table: pd.DataFrame) -> tuple[pd.DataFrame, list[int]]:
    """Where the slices of each sample are, one row a slice, and the bounds of each sample's rows."""
    if MEMBERS not in table:
        return table, list(range(len(table) + 1))
    further = {IMAGE_COLUMN: table[IMAGE_COLUMN]} if IMAGE_COLUMN in table else {}
    slices = pd.DataFrame({MEMBERS: table[MEMBERS], **further}).explode(MEMBERS, ignore_index=True)
    members = slices.pop(MEMBERS).to_list()
    for column in ("path", "row", "digest"):
        slices[column] = pd.Series([member[column] for member in members], dtype=object)
    return slices, [0, *accumulate(table[MEMBERS].map(len))]


def _stack(slices: list[np.ndarray | None], sample: str) -> np.ndarray:
    """(C, slices, rows, columns) of images (C, rows, columns)."""
    shapes = {image.shape for image in slices if image is not None}
    if len(shapes) != 1:
        raise DataError(f"The slices of {sample} differ in size or colour: {sorted(shapes)}. A stack needs them alike.")
    black = np.zeros(shapes.pop(), np.uint8)
    return np.stack([black if image is None else image for image in slices], axis=1)


class EncodedImages:
    """The encoded bytes of a table's samples, in files or in rows of parquet files. Threads may share one."""

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
            UnusableImageError: There are none, or they cannot be read.
        """
        path, row = self._root / self._paths[position], self._rows[position]
        if row is None:
            return _read_file(path)
        data = self._cache.read(path, self._columns[position], row)
        if data is None:
            raise UnusableImageError("missing", "the row holds no image bytes")
        return data


def byte_columns(schema: pa.Schema) -> list[str]:
    """The parquet columns that may hold encoded images: bytes, or a struct with ``bytes``."""
    return [field.name for field in schema if _holds_bytes(field.type)]


def find_image_column(schema: pa.Schema, named: str | None = None) -> str | None:
    """The parquet column that holds encoded images; None where there is none, or none stands out.

    Args:
        schema: The columns of the file.
        named: The column that the user named; None to find it by :data:`IMAGE_COLUMN_NAMES`, or as the only one.
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
        # A pipe or a device with the name of an image would block, or never end.
        if not stat.S_ISREG(path.stat().st_mode):
            raise UnusableImageError("unreadable", "this is not a file")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise UnusableImageError("missing", "there is no such file") from error
    except OSError as error:
        raise UnusableImageError("unreadable", error.strerror or str(error)) from error


class _RowGroupCache:
    """Row groups of parquet files, the latest used ones within a budget of bytes."""

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
