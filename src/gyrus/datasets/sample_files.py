"""The files behind the rows of a manifest: encoded images in files or rows of parquet files, and volumes."""

from __future__ import annotations

import hashlib
import json
import stat
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from gyrus.datasets.manifest import CHANNEL_FILES, MEMBERS, VOLUME_FILES
from gyrus.datasets.parquet_columns import dictionary_leaves
from gyrus.errors import UnusableImageError
from gyrus.files import digest, file_digest
from gyrus.imaging.decoding import GrayWindow, Inspection, decode, inspect
from gyrus.imaging.dicom import DICOM_EXTENSIONS, is_dicom, read_series
from gyrus.imaging.orientation import AssumedGeometry
from gyrus.imaging.resampling import resample_to, same_grid
from gyrus.imaging.volume import Volume
from gyrus.imaging.volume_formats import FORMATS, extension_of, is_volume, read_volume
from gyrus.memory import reading_memory
from gyrus.text import counted

ROW_CACHE_BYTES = 256 * 1024**2
"""Memory for row groups of parquet files, so that rows can be read in any order."""

IMAGE_COLUMN = "image_column"
"""Additional column of a manifest: the parquet column with the images, if the user named it."""

ASSUMED = "assumed"
"""Additional column of a manifest: what the user stated about files whose headers lack it, as JSON: orientation and
spacing of volumes, the dataset of HDF5 files, window of images with more than 8 bits."""

IMAGE_COLUMN_NAMES = ("image", "img", "image_bytes", "bytes", "jpeg", "png", "scan")
"""Names by which a parquet column of encoded images is recognised; the first one present is used."""

FEW_SLICES = 5
"""A volume with fewer slices along an axis is read, with a note: it is hardly a whole head."""

_COPIES_OF_ROWS = 4
"""Copies of a row group while it is read: decompressed, decoded, one row, and the content that is decoded."""


class EncodedImages:
    """The encoded bytes of the samples of a table, in files or in rows of parquet files. Thread-safe.

    Attributes:
        windows: The window that the user stated for each image, or None.
    """

    def __init__(self, root: Path, table: pd.DataFrame) -> None:
        self._root = root
        self._paths = table["path"].to_list()
        self._rows = [None if pd.isna(row) else int(row) for row in table["row"]]
        self._columns = table[IMAGE_COLUMN].to_list() if IMAGE_COLUMN in table else [None] * len(table)
        self.windows = [window_from_json(text) for text in table.get(ASSUMED, [None] * len(table))]
        self._cache = _RowGroupCache(ROW_CACHE_BYTES)

    def __len__(self) -> int:
        return len(self._paths)

    def inspect(self, position: int) -> Inspection:
        """Check the image at ``position`` by decoding all of it.

        Raises:
            UnusableImageError: It cannot be used; the message has the reason.
        """
        return inspect(self.read(position), self.windows[position])

    def decode(self, position: int, digest: str) -> np.ndarray:
        """The pixels of the image at ``position``, uint8 (C, rows, columns).

        Raises:
            UnusableImageError: It cannot be used, or does not have the digest.
        """
        data = self.read(position)
        if hashlib.sha256(data).hexdigest() != digest:
            raise UnusableImageError("unreadable", "the content has changed since the scan")
        return decode(data, self.windows[position])

    def read(self, position: int) -> bytes:
        """The encoded bytes of the sample at ``position``.

        Raises:
            UnusableImageError: They are missing or cannot be read.
        """
        path, row = self._root / self._paths[position], self._rows[position]
        if row is None:
            return read_file(path)
        data = self._cache.read(path, self._columns[position], row)
        if data is None:
            raise UnusableImageError("missing", "the row holds no image bytes")
        return data


def byte_columns(schema: pa.Schema) -> list[str]:
    """Parquet columns that may hold encoded images: bytes, or a struct with ``bytes``."""
    return [field.name for field in schema if _holds_bytes(field.type)]


def find_image_column(schema: pa.Schema, named: str | None = None) -> str | None:
    """The parquet column of encoded images; None if there is none or the choice is ambiguous.

    It is the one ``named`` by the user, else recognised by :data:`IMAGE_COLUMN_NAMES`, or the only one.
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


def read_file(path: Path) -> bytes:
    """The content of a file.

    Raises:
        UnusableImageError: It is missing, no regular file, or cannot be read.
    """
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
        self._layouts: dict[tuple[Path, str | None], tuple[str, list[int], list[int]]] = {}
        self._groups: OrderedDict[tuple[Path, str | None, int], pa.ChunkedArray] = OrderedDict()

    def read(self, path: Path, named: str | None, row: int) -> bytes | None:
        with ExitStack() as reserved:
            try:
                with self._lock:
                    column, ends, sizes = self._layout(path, named)
                    number = bisect_right(ends, row)
                    known = (path, named, number) in self._groups
                if not known:
                    # Without the lock: whoever waits for memory must not hold what others need to release theirs.
                    needed = sizes[number] * _COPIES_OF_ROWS
                    reserved.enter_context(reading_memory.reserve(needed, f"the rows around row {row} of {path.name}"))
                with self._lock:
                    group = self._group(path, named, column, number)
            except (OSError, IndexError, pa.ArrowException) as error:
                raise UnusableImageError("unreadable", f"the parquet file cannot be read: {error}") from error
            value = group[row - (ends[number - 1] if number else 0)].as_py()
        return value["bytes"] if isinstance(value, dict) else value

    def _layout(self, path: Path, named: str | None) -> tuple[str, list[int], list[int]]:
        """The column of images, and of each row group the number of the row after it and its size in bytes."""
        if (path, named) not in self._layouts:
            with pq.ParquetFile(path) as file:
                column = find_image_column(file.schema_arrow, named)
                groups = [file.metadata.row_group(i) for i in range(file.num_row_groups)]
            if column is None:
                raise UnusableImageError("unreadable", "the parquet file has no column with image bytes")
            ends = list(accumulate(group.num_rows for group in groups))
            self._layouts[path, named] = (column, ends, [group.total_byte_size for group in groups])
        return self._layouts[path, named]

    def _group(self, path: Path, named: str | None, column: str, number: int) -> pa.ChunkedArray:
        key = (path, named, number)
        if key not in self._groups:
            with pq.ParquetFile(path) as file:
                leaves = [leaf for leaf in dictionary_leaves(file) if leaf in (column, f"{column}.bytes")]
            with pq.ParquetFile(path, read_dictionary=leaves) as file:  # equal images are in memory once
                self._groups[key] = file.read_row_group(number, columns=[column]).column(0)
            while len(self._groups) > 1 and sum(group.nbytes for group in self._groups.values()) > self._budget:
                self._groups.popitem(last=False)
        self._groups.move_to_end(key)
        return self._groups[key]


class ChannelImages:
    """The images of samples with several channels, one file each. Thread-safe."""

    def __init__(self, root: Path, table: pd.DataFrame) -> None:
        self._members = [[member["path"] for member in members] for members in table[MEMBERS]]
        further = {name: table[name] for name in (ASSUMED,) if name in table}
        rows = pd.DataFrame({MEMBERS: self._members, **further}).explode(MEMBERS, ignore_index=True)
        self._images = EncodedImages(root, rows.rename(columns={MEMBERS: "path"}).assign(row=None))
        self._starts = [0, *accumulate(map(len, self._members))]

    def inspect(self, position: int) -> Inspection:
        """Check all images of a sample by decoding them.

        Raises:
            UnusableImageError: One cannot be used, or they differ in size; the message has the reason.
        """
        found: list[Inspection | None] = []
        for number, path in enumerate(self._members[position], self._starts[position]):
            try:
                found.append(None if path is None else self._images.inspect(number))
            except UnusableImageError as error:
                raise UnusableImageError(error.kind, f"{path}: {error.message}") from error
        there = [one for one in found if one is not None]
        sizes = {one.shape for one in there}
        if len(sizes) > 1:
            texts = ", ".join(" x ".join(map(str, size)) for size in sorted(sizes))
            raise UnusableImageError(
                "geometry",
                f"its channels differ in size: {texts}. Images have no position in mm, so they are not resampled; make "
                "them equal, or give the volumes that they were cut from",
            )
        members = tuple(None if one is None else one.digest for one in found)
        notes = tuple(dict.fromkeys(note for one in there for note in one.notes))
        constant = all(one.constant for one in there)
        return Inspection(there[0].shape, digest(["channels", *members]), there[0].spacing, notes, constant, members)


class VolumeFiles:
    """The volumes of the samples of a table. Thread-safe."""

    def __init__(self, root: Path, table: pd.DataFrame) -> None:
        self._root = root
        if CHANNEL_FILES in table:
            self._channels = [[str(one["channel"]) for one in channels] for channels in table[CHANNEL_FILES]]
            self._files = [
                [[root / name for name in one["files"]] for one in channels] for channels in table[CHANNEL_FILES]
            ]
        else:
            self._channels = [[""]] * len(table)
            self._files = [[[root / name for name in names]] for names in table[VOLUME_FILES]]
        assumed = table[ASSUMED] if ASSUMED in table else [None] * len(table)
        self._assumed = [geometry_from_json(text) for text in assumed]

    def __len__(self) -> int:
        return len(self._files)

    def read(self, position: int) -> Volume:
        """The volume at ``position``, in RAS+; of several channels, the first one that is there.

        Raises:
            UnusableImageError: It cannot be used; the message has the reason.
        """
        return self._read(next(filter(None, self._files[position])), self._assumed[position])

    def read_channels(self, position: int) -> list[Volume | None]:
        """The volume of each channel at ``position``, in RAS+, on the grid of the first one; None for a missing one.

        Raises:
            UnusableImageError: One cannot be used, or lies elsewhere; the message has the channel and the reason.
        """
        volumes: list[Volume | None] = []
        first: Volume | None = None
        for channel, files in zip(self._channels[position], self._files[position], strict=True):
            if not files:
                volumes.append(None)
                continue
            try:
                volume = self._read(files, self._assumed[position])
                if volume.array.min() == volume.array.max():
                    raise UnusableImageError("constant", "every voxel has the same value; export the volume again")
                if first is not None and not same_grid(volume, first):
                    note = "a channel was resampled to the grid of the first one of its session"
                    volume = replace(resample_to(volume, first), notes=(*volume.notes, f"{note} ({channel})"))
            except UnusableImageError as error:
                message = f"{channel} ({files[0].name}): {error.message}" if channel else error.message
                raise UnusableImageError(error.kind, message) from error
            first = first or volume
            volumes.append(volume)
        return volumes

    def _read(self, files: Sequence[Path], assumed: AssumedGeometry) -> Volume:
        return read_volume(files[0], assumed) if is_volume(files[0].name) else read_series(list(files))

    def inspect(self, position: int) -> Inspection:
        """Check a volume by reading all of it, with all its channels.

        Raises:
            UnusableImageError: It cannot be used; the message has the reason.
        """
        with reading_memory.task():
            volumes = [volume for volume in self.read_channels(position) if volume is not None]
        volume = volumes[0]
        x, y, z = volume.spacing
        few = min(volume.shape)
        notes = (f"the volume has {counted(few, 'slice')} along one axis",) if few < FEW_SLICES else ()
        own = dict.fromkeys(note for one in volumes for note in one.notes)
        return Inspection(volume.shape[::-1], self.digest(position), (z, y, x), (*own, *notes))

    def digest(self, position: int) -> str:
        """SHA-256 of the file, or of the digests of all files; of several channels, of the digest of each.

        Raises:
            UnusableImageError: A file is missing or cannot be read.
        """
        digests: list[str | None] = []
        for files in self._files[position]:
            own = [_file_digest(path) for path in files]
            digests.append(None if not own else own[0] if len(own) == 1 else digest(sorted(own)))
        return str(digests[0]) if len(digests) == 1 else digest(["channels", *digests])


def files_of(path: Path) -> list[Path]:
    """All files of a volume: one file, a header with its voxel file, or a folder of DICOM files.

    Raises:
        UnusableImageError: The header does not name its voxel file.
    """
    if path.is_dir():
        return sorted(file for file in path.iterdir() if may_be_dicom(file) and is_dicom(file))
    kind = FORMATS.get(extension_of(path.name))
    return kind.files(path) if kind else [path]


def may_be_dicom(path: Path) -> bool:
    """Whether a file name is that of a DICOM file, or has no other meaningful extension."""
    name = path.name
    suffix = path.suffix.lower()
    plain = not suffix or suffix[1:].isdigit() or len(suffix) > 5
    return not name.startswith(".") and name != "DICOMDIR" and (suffix in DICOM_EXTENSIONS or plain)


def assumed_to_json(geometry: AssumedGeometry, window: GrayWindow | None = None) -> str | None:
    """What is assumed where headers lack it, as JSON; None if nothing is assumed."""
    if geometry == AssumedGeometry() and window is None:
        return None
    stated: dict[str, Any] = {"orientation": geometry.orientation, "spacing": geometry.spacing}
    if geometry.dataset is not None:
        stated["dataset"] = geometry.dataset
    return json.dumps(stated if window is None else {**stated, "window": [window.low, window.high]})


def geometry_from_json(text: str | None) -> AssumedGeometry:
    """The geometry that :func:`assumed_to_json` wrote."""
    values = json.loads(text) if isinstance(text, str) else {}
    spacing = values.get("spacing") and tuple(values["spacing"])
    return AssumedGeometry(values.get("orientation"), spacing, values.get("dataset"))


def window_from_json(text: str | None) -> GrayWindow | None:
    """The window that :func:`assumed_to_json` wrote."""
    window = json.loads(text).get("window") if isinstance(text, str) else None
    return window and GrayWindow(*window)


def _file_digest(path: Path) -> str:
    try:
        return file_digest(path)
    except FileNotFoundError as error:
        raise UnusableImageError("missing", f"the file {path.name} does not exist") from error
    except OSError as error:
        raise UnusableImageError("unreadable", error.strerror or "the file cannot be read") from error
