"""From a row of the manifest to pixels. The scan checks with the same function, so check and read cannot disagree."""

from __future__ import annotations

import hashlib
import io
import stat
import threading
import warnings
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageFile, UnidentifiedImageError

from gyrus.data.manifest import Manifest
from gyrus.errors import DataError

READABLE_FORMATS = ("BMP", "GIF", "ICO", "JPEG", "PNG", "PPM", "TGA", "TIFF", "WEBP")
"""What Pillow is allowed to try. Formats that run other programs or fetch other files are not among them."""

LARGEST_PIXEL_COUNT = 1024**3 // 12
"""The most pixels a slice may announce: a quarter of a gigabyte as RGB, Pillow's own limit."""

ROW_CACHE_BYTES = 256 * 1024**2
"""How much of a parquet file is kept in memory, so that its rows may be read in any order."""

IMAGE_COLUMN = "image_column"
"""The further column of a manifest that names the parquet column with the pixels, where the user named one."""

IMAGE_COLUMN_NAMES = ("image", "img", "image_bytes", "bytes", "jpeg", "png", "scan")
"""Names under which a parquet column with encoded images is found, the first one present."""

_CHANNELS = {"L": 1, "RGB": 3}
_MODE_WORDS = {
    "1": "1-bit black and white",
    "P": "a colour palette",
    "PA": "a colour palette with alpha",
    "LA": "gray with an alpha channel",
    "La": "gray with an alpha channel",
    "RGBA": "RGB with an alpha channel",
    "RGBa": "RGB with an alpha channel",
    "CMYK": "CMYK",
}
_DEEP_MODES = ("I", "F")


class UnusableImageError(DataError):
    """One image that cannot be used.

    Attributes:
        kind: One of the words in :data:`gyrus.data.manifest.PROBLEM_KINDS`.
        message: What is wrong, in words that help to mend it.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind
        self.message = message


@dataclass(frozen=True)
class Inspection:
    """What the check of one image found.

    Attributes:
        shape: Rows and columns.
        digest: SHA-256 of the encoded bytes.
    """

    shape: tuple[int, ...]
    digest: str


class Reader:
    """The pixels of a manifest's samples. Threads may share one."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._encoded = EncodedImages(manifest.root, manifest.table)
        self._samples = manifest.table["sample"].to_list()
        self._digests = manifest.table["digest"].to_list()

    def __len__(self) -> int:
        return len(self._samples)

    def read(self, position: int) -> np.ndarray:
        """Decode the image in row ``position`` of the manifest's table.

        Returns:
            uint8, shape (C, rows, columns), C = 1 (gray) or 3 (RGB); exactly the values that Pillow decodes.

        Raises:
            DataError: The image is gone or damaged, or is not the one that was scanned.
        """
        try:
            data = self._encoded.read(position)
            if hashlib.sha256(data).hexdigest() != self._digests[position]:
                raise UnusableImageError("unreadable", "the content is not the one that was scanned")
            return decode(data)
        except UnusableImageError as error:
            raise DataError(
                f"{self._samples[position]} below {self._manifest.root} cannot be read: {error.message}. "
                "It was usable when the data were scanned; put it back, or scan them again."
            ) from error


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
        return _not_empty(data)


def inspect(data: bytes) -> Inspection:
    """Check one encoded image by decoding all of it.

    Raises:
        UnusableImageError: The image cannot be used; it says why.
    """
    pixels = decode(data)
    return Inspection(tuple(pixels.shape[1:]), hashlib.sha256(data).hexdigest())


def decode(data: bytes) -> np.ndarray:
    """Decode one encoded image.

    Returns:
        uint8, shape (C, rows, columns), C = 1 (gray) or 3 (RGB); exactly the values that Pillow decodes.

    Raises:
        UnusableImageError: The content is damaged, or needs a decision that only the user can make, such as how
            to bring 16 bits to 8; it says which.
    """
    with _quiet_pillow():
        try:
            with Image.open(io.BytesIO(data), formats=READABLE_FORMATS) as image:
                return _pixels(image)
        except UnusableImageError:
            raise
        except Exception as error:  # damaged content makes Pillow's decoders raise errors of many types
            raise _explain(error) from error


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
        return _not_empty(path.read_bytes())
    except FileNotFoundError as error:
        raise UnusableImageError("missing", "there is no such file") from error
    except OSError as error:
        raise UnusableImageError("unreadable", error.strerror or str(error)) from error


def _not_empty(data: bytes) -> bytes:
    if not data:
        raise UnusableImageError("empty", "there is nothing in it")
    return data


def _pixels(image: Image.Image) -> np.ndarray:
    width, height = image.size
    if width * height > LARGEST_PIXEL_COUNT:
        raise UnusableImageError("decompression bomb", f"the header announces {width} x {height} pixels")
    # Both are gone after loading: Pillow turns a TIFF upright by itself and forgets how the samples were stored.
    bits, tiff_orientation = _bits_per_sample(image), _tiff_tag(image, 274)
    # Loading comes before anything else that may load: Pillow reports damage only once.
    image.load()
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        raise UnusableImageError("several frames", f"there are {frames} pictures in it; save each as a file")
    if bits > 8:
        raise UnusableImageError("16-bit", f"{bits} bits a sample; choose a window and save as 8 bits")
    _require_plain_mode(image)
    orientation = tiff_orientation or _exif_orientation(image)
    if orientation not in (None, 1):
        raise UnusableImageError(
            "rotated by EXIF", f"orientation {orientation}; turn the pixels themselves and drop the tag"
        )
    pixels = np.asarray(image)
    return np.ascontiguousarray(pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0))


def _require_plain_mode(image: Image.Image) -> None:
    if image.mode not in _CHANNELS:
        words = _MODE_WORDS.get(image.mode, f"mode {image.mode}")
        raise UnusableImageError("colour mode", f"{words}; save as 8-bit gray or RGB")
    if "transparency" in image.info:
        raise UnusableImageError("colour mode", "one colour is transparent; save as 8-bit gray or RGB")


def _bits_per_sample(image: Image.Image) -> int:
    if image.mode.startswith(_DEEP_MODES):
        return 32 if image.mode in _DEEP_MODES and image.format != "PPM" else 16
    if image.format == "TIFF":
        return max(_tiff_tag(image, 258) or (1,))
    # Deeper colour images come out as 8-bit RGB; only what the decoder was told says how they are stored.
    told = [image.tile[0].args] if isinstance(image, ImageFile.ImageFile) and image.tile else []
    if image.format == "PNG":
        return 16 if any(";16" in str(words) for words in told) else 8
    if image.format == "PPM":
        largest = [words[1] for words in told if isinstance(words, tuple) and isinstance(words[1], int)]
        return max([8, *(value.bit_length() for value in largest)])
    return 8


def _tiff_tag(image: Image.Image, number: int) -> Any:
    return image.tag_v2.get(number) if hasattr(image, "tag_v2") else None


def _exif_orientation(image: Image.Image) -> int | None:
    try:
        return image.getexif().get(274)
    except Exception:  # a damaged EXIF block says nothing about how to turn the pixels, and viewers skip it too
        return None


def _explain(error: Exception) -> UnusableImageError:
    if isinstance(error, Image.DecompressionBombError):
        return UnusableImageError("decompression bomb", str(error))
    if isinstance(error, UnidentifiedImageError):
        return UnusableImageError("not an image", f"the content is none of {', '.join(READABLE_FORMATS)}")
    words = str(error) or type(error).__name__
    return UnusableImageError("truncated" if "truncated" in words.lower() else "unreadable", words)


class _QuietPillow:
    """Silences Pillow's warnings while any thread is decoding: what they warn of is checked here and named."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._saved = warnings.catch_warnings()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        # warnings.catch_warnings is shared by all threads: the first one in silences, the last one out restores.
        with self._lock:
            self._users += 1
            if self._users == 1:
                self._saved = warnings.catch_warnings()
                self._saved.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL(\.|$)")
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0:
                    self._saved.__exit__(None, None, None)


_quiet_pillow = _QuietPillow()


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
