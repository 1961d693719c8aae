"""The shards of a store that is being built: some hundred samples each, written by any worker, and then joined.

Each shard is a file of pixels and a mark, which is written last and holds all else. The process of the user appends the
shards in order to one file and removes them. So two machines never write to the same file, the bytes are the same
whoever wrote them, and the disk holds few samples twice. What is finished survives the death of every process.
"""

from __future__ import annotations

import io
import json
import math
import platform
import time
import zipfile
import zlib
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

import numpy as np

from gyrus.datasets.manifest import MEMBERS, VOLUME_FILES, Manifest, Problem
from gyrus.datasets.reader import Reader
from gyrus.errors import DataError, UnusableSampleError
from gyrus.executor import map_tasks
from gyrus.files import atomic_path, open_arrays
from gyrus.memory import reading_memory
from gyrus.transforms.normalisation import image_statistics
from gyrus.transforms.preprocessing import PreprocessingConfig

IMAGES = 512
VOLUMES = 8
"""Images or volumes of one shard: some seconds of work for one core, lost if it is killed."""

PIECE = 4 * 2**20
"""Bytes that are copied at once."""

VISIBLE = 60.0
"""Seconds in which a network file system shows what another machine has written."""

Found = tuple[int, ...] | Problem | UnusableSampleError
"""The shape of a prepared sample, or why it cannot be prepared: a problem if all are wanted, else the first error."""


@dataclass(frozen=True)
class Shard:
    """A shard that has been written.

    Attributes:
        found: One entry per sample. If they differ, or one is missing, the shard has no file of pixels.
        kind: Data type of the pixels, as NumPy's files name it.
        checksum: CRC-32 of the file of pixels.
        statistics: (samples, C, 4) float32.
    """

    found: Sequence[Found]
    kind: str = ""
    checksum: int = 0
    statistics: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of each sample, if there are pixels."""
        first = self.found[0]
        assert isinstance(first, tuple)
        return first

    @property
    def size(self) -> int:
        """Bytes of the pixels."""
        return len(self.found) * math.prod(self.shape) * np.dtype(self.kind).itemsize

    def save(self, path: Path) -> None:
        """Write the mark."""
        about = {"samples": len(self.found), "shape": self.shape, "kind": self.kind, "checksum": self.checksum}
        with atomic_path(path, parents=False) as temporary, temporary.open("wb") as file:
            np.savez(file, about=np.array(json.dumps(about)), statistics=self.statistics)

    @classmethod
    def load(cls, path: Path, samples: int) -> Shard | None:
        """Read a mark; None if it is missing, damaged, or of another number of samples."""
        try:
            with open_arrays(path) as arrays:
                about, statistics = json.loads(str(arrays["about"])), arrays["statistics"]
            shape = tuple(int(length) for length in about["shape"])
            shard = cls([shape] * int(about["samples"]), str(about["kind"]), int(about["checksum"]), statistics)
        except (OSError, LookupError, ValueError, TypeError, zipfile.BadZipFile):
            return None
        return shard if len(shard.found) == len(statistics) == samples else None


class _NotAlikeError(Exception):
    """The samples of a shard cannot be written together."""


@dataclass(frozen=True, repr=False)
class ShardTask:
    """Prepares the samples of one shard, and writes its files unless a sample is unusable or of another shape.

    Attributes:
        manifest: The rows of the shard.
        preprocessing: The steps.
        path: The file of pixels.
        all_problems: Whether to go on after a sample that cannot be prepared.
    """

    manifest: Manifest
    preprocessing: PreprocessingConfig
    path: Path
    all_problems: bool

    def __call__(self, progress: Callable[[int], None] | None = None) -> Shard:
        """Do so.

        Args:
            progress: Called with the number of prepared samples.

        Raises:
            GyrusError: The files cannot be written.
        """
        if not self.path.parent.is_dir():
            raise DataError(
                f"{platform.node()} has no folder {self.path.parent}. All machines need one shared folder for decoded "
                "images: set the environment variable GYRUS_CACHE to it."
            )
        found: list[Found] = []
        try:
            with atomic_path(self.path, parents=False) as temporary, temporary.open("wb") as file:
                shard = self._write(file, found, progress)
        except _NotAlikeError:
            return Shard(found)
        shard.save(mark_of(self.path))
        return shard

    def _write(self, file: IO[bytes], found: list[Found], progress: Callable[[int], None] | None) -> Shard:
        statistics: list[np.ndarray] = []
        kind = ""
        checksum, samples = 0, self.manifest.table["sample"].to_list()
        with closing(_images(self.manifest, self.preprocessing)) as images:
            for number, image in enumerate(images):
                if progress:
                    progress(number + 1)
                if isinstance(image, UnusableSampleError):
                    if not self.all_problems:
                        found.append(UnusableSampleError(image.kind, image.reason, str(image)))
                        break
                    found.append(Problem(samples[number], image.kind, image.reason))
                    continue
                found.append(image.shape)
                if found[-1] == found[0]:
                    kind = kind or image.dtype.str
                    # Not written through a memory map, where a full disk would kill the process instead of an error.
                    content = image.astype(kind, copy=False).tobytes()
                    file.write(content)
                    checksum = zlib.crc32(content, checksum)
                    statistics.append(image_statistics(image, self.preprocessing.intensity))
        if len(statistics) < len(samples):
            raise _NotAlikeError
        return Shard(found, kind, checksum, np.stack(statistics))


def shard_rows(manifest: Manifest) -> list[range]:
    """The rows of each shard, independent of the number of workers. Slices of one volume are in one shard."""
    table = manifest.table
    if VOLUME_FILES in table:
        files = table[VOLUME_FILES].to_list()
        starts = [row for row in range(len(files)) if row == 0 or files[row] != files[row - 1]][::VOLUMES]
    else:
        slices = max(map(len, table[MEMBERS]), default=1) if MEMBERS in table else 1
        starts = list(range(0, len(table), max(1, IMAGES // slices)))
    return [range(start, stop) for start, stop in zip(starts, [*starts[1:], len(table)], strict=True)]


def rows_of(manifest: Manifest, rows: range) -> Manifest:
    """The manifest of some rows, with nothing that a shard does not need."""
    table = manifest.table.iloc[rows.start : rows.stop]
    return replace(manifest, table=table, problems=(), notes=(), files=None, constant=())


def mark_of(path: Path) -> Path:
    """The mark that a file of pixels is complete."""
    return path.with_suffix(".npz")


def recover(pixels: Path, paths: Sequence[Path], rows: Sequence[range]) -> tuple[dict[int, Shard], int]:
    """The shards that a killed build has finished, and whose bytes are undamaged; and how many of them are appended.

    The file of all pixels is cut after the last one that has been appended whole.

    Args:
        pixels: The file of all pixels, which may be missing.
        paths: The file of pixels of each shard.
        rows: The rows of each shard.
    """
    found = ((number, Shard.load(mark_of(path), len(rows[number]))) for number, path in enumerate(paths))
    marked = {number: shard for number, shard in found if shard}
    end = appended = 0
    whole: dict[int, Shard] = {}
    with suppress(OSError), pixels.open("r+b") as file:
        header = _header(marked[0], sum(map(len, rows))) if 0 in marked else b"?"
        if file.read(len(header)) == header:
            for number in range(len(paths)):
                if number not in marked or paths[number].exists():
                    break
                if _copy(file, None, marked[number].size) != marked[number].checksum:
                    break
                whole[number] = marked[number]
                end, appended = file.tell(), number + 1
        file.truncate(end)
    for number in marked.keys() - whole.keys():
        with suppress(OSError), paths[number].open("rb") as file:
            if _copy(file, None, marked[number].size) == marked[number].checksum and not file.read(1):
                whole[number] = marked[number]
    return whole, appended


def append(pixels: Path, shard: Shard, path: Path, *, first: bool, total: int) -> None:
    """Append the next shard to the file of all pixels, and remove its own file.

    Args:
        pixels: The file of all pixels.
        shard: The shard.
        path: Its file of pixels.
        first: Whether it is the first one.
        total: Number of samples of all shards.

    Raises:
        DataError: The file of the shard is missing or damaged.
        OSError: The disk is full, or cannot be used.
    """
    with pixels.open("ab") as file:
        if first:
            file.write(_header(shard, total))
        with _open_when_visible(path) as source:
            if _copy(source, file, shard.size) != shard.checksum:
                raise DataError(f"{path} was damaged after it was written. Check the disk or network, and try again.")
    path.unlink()


def _open_when_visible(path: Path) -> IO[bytes]:
    for _ in range(int(VISIBLE)):
        with suppress(FileNotFoundError):
            return path.open("rb")
        time.sleep(1)
    raise DataError(
        f"A worker has written {path}, which is not there. All machines need one shared folder for decoded images: set "
        "the environment variable GYRUS_CACHE to it."
    )


def _header(shard: Shard, total: int) -> bytes:
    """The start of a NumPy file with samples such as those of a shard."""
    file = io.BytesIO()
    about = {"descr": shard.kind, "fortran_order": False, "shape": (total, *shard.shape)}
    np.lib.format.write_array_header_2_0(file, about)
    return file.getvalue()


def _copy(source: IO[bytes], target: IO[bytes] | None, size: int) -> int:
    """Copy bytes, or only read them; returns their CRC-32."""
    checksum = 0
    while size > 0 and (piece := source.read(min(PIECE, size))):
        checksum = zlib.crc32(piece, checksum)
        size -= len(piece)
        if target:
            target.write(piece)
    return checksum


def _images(manifest: Manifest, preprocessing: PreprocessingConfig) -> Generator[np.ndarray | UnusableSampleError]:
    """Preprocessed images in the order of the manifest; or why one cannot be prepared."""
    reader = Reader(manifest, preprocessing.volume)
    samples = manifest.table["sample"].to_list()
    sequences = bool(manifest.channels)

    def prepare(position: int) -> np.ndarray | UnusableSampleError:
        try:
            with reading_memory.task():
                return preprocessing.apply(reader.read(position), sequences=sequences)
        except UnusableSampleError as error:
            return error
        except DataError as error:
            return UnusableSampleError("not prepared", str(error), f"{samples[position]}: {error}")

    # Volumes are large: hold only as many as are being processed.
    ahead = 1 if VOLUME_FILES in manifest.table else 32
    return map_tasks(prepare, range(len(manifest)), ahead=ahead)
