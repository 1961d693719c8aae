"""The cache of decoded and preprocessed images: a memory-mapped file that all later runs read.

A store is a folder named by the digest of image contents and steps. It is built under a temporary name and renamed when
complete, so a killed build, a full disk or two concurrent runs never leave a broken store behind. A store that is
damaged later is noticed by its checksums, and built again.
"""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from gyrus.datasets.manifest import VIEW, VOLUME_FILES, Manifest, Problem
from gyrus.datasets.reader import Reader
from gyrus.datasets.sample_files import ASSUMED
from gyrus.errors import DataError, GyrusError, UnusableSampleError
from gyrus.files import FULL, cache_folder, digest, make_folder, new_folder, read_json, write_json
from gyrus.memory import reading_memory
from gyrus.transforms.image_steps import Grayscale, Rgb
from gyrus.transforms.normalisation import image_statistics
from gyrus.transforms.preprocessing import PreprocessingConfig

FORMAT = 1
CHUNK = 256

BLOCK = 16 * 2**20
"""Bytes with one checksum, CRC-32: it finds accidental damage. Two busy cores check 0.5 GB per second."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Store:
    """Preprocessed pixels of a manifest, row by row.

    Attributes:
        folder: The folder of the files. Pickling a store for another process passes only this path.
    """

    folder: Path

    @cached_property
    def pixels(self) -> np.ndarray:
        """Read-only memory map (N, C, *spatial) uint8."""
        return np.load(self.folder / "pixels.npy", mmap_mode="r")

    @cached_property
    def statistics(self) -> np.ndarray:
        """(N, C, 4) float32; see :data:`gyrus.transforms.normalisation.STATISTICS`."""
        return np.load(self.folder / "statistics.npy")

    @property
    def channels(self) -> int:
        """Number of channels C."""
        return int(self.pixels.shape[1])

    @property
    def image_size(self) -> tuple[int, ...]:
        """The spatial shape of every image."""
        return tuple(int(length) for length in self.pixels.shape[2:])

    def __len__(self) -> int:
        return len(self.pixels)

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder}


def open_store(
    manifest: Manifest,
    preprocessing: PreprocessingConfig,
    *,
    cache: Path | None = None,
    progress: Progress | None = None,
    sizes: _Sizes | None = None,
) -> Store:
    """Open the store of a manifest; build it first if it does not exist.

    Args:
        manifest: Its rows give the order of the store's rows.
        preprocessing: The steps.
        cache: The folder of stores, by default :func:`cache_folder`.
        progress: Called with the number of finished images and of all images.
        sizes: Used by :func:`without_unusable`, to find all samples that cannot be prepared.

    Raises:
        DataError: An image cannot be read, sizes differ after the steps, or the disk is full.
    """
    cache = cache or cache_folder()
    folder = _place(manifest, preprocessing, cache)
    try:
        if not _is_whole(folder):
            make_folder(folder.parent)
            with FileLock(folder.with_suffix(".lock")):
                if not _is_whole(folder):
                    shutil.rmtree(folder, ignore_errors=True)
                    with new_folder(folder) as partial:
                        _fill(partial, manifest, preprocessing, progress, sizes)
    except (OSError, GyrusError) as error:
        reason = error if isinstance(error, OSError) else error.__cause__
        if not isinstance(reason, OSError):
            raise
        if reason.errno in FULL:
            raise DataError(
                f"The disk is full: no space for the decoded images in {cache}. Free some space, or set the "
                "environment variable GYRUS_CACHE to another folder."
            ) from error
        raise DataError(f"Cannot use the store in {folder}: {reason}.") from error
    return Store(folder)


def stored_shape(
    manifest: Manifest, preprocessing: PreprocessingConfig, *, cache: Path | None = None
) -> tuple[int, ...]:
    """Shape of an image in the store of a manifest: channels, then voxels along each axis. Nothing is written.

    Without a store, the first image is read.

    Raises:
        DataError: It cannot be read, or the steps do not fit the data.
    """
    folder = _place(manifest, preprocessing, cache or cache_folder())
    if _is_whole(folder):
        return tuple(Store(folder).pixels.shape[1:])
    return tuple(preprocessing.apply(Reader(manifest, preprocessing.volume).read(0)).shape)


def _place(manifest: Manifest, preprocessing: PreprocessingConfig, cache: Path) -> Path:
    """The folder of a store.

    Raises:
        DataError: The steps would treat neighbouring slices as colours.
    """
    if VIEW in manifest.table:
        _refuse_colour_steps(manifest, preprocessing)
    of_volumes = VOLUME_FILES in manifest.table
    key = digest(
        {
            "format": FORMAT,
            "contents": manifest.table["digest"].tolist(),
            "steps": [step.model_dump(mode="json") for step in preprocessing.steps],
            "percentiles": [preprocessing.intensity.low, preprocessing.intensity.high],
            **({"landmarks": True} if preprocessing.intensity.method == "histogram" else {}),
            **({"assumed": manifest.table[ASSUMED].tolist()} if _assumes(manifest) else {}),
            **({"volume": [step.model_dump(mode="json") for step in preprocessing.volume]} if of_volumes else {}),
        }
    )[:32]
    return cache / "stores" / key


def _assumes(manifest: Manifest) -> bool:
    """Whether the user stated what headers lack, which changes the pixels of the same files."""
    return ASSUMED in manifest.table and bool(manifest.table[ASSUMED].notna().any())


def without_unusable(
    manifest: Manifest,
    preprocessing: PreprocessingConfig,
    *,
    cache: Path | None = None,
    progress: Progress | None = None,
    size: tuple[int, ...] | None = None,
) -> Manifest:
    """The manifest without the samples that cannot be prepared, which become problems; builds the store of the others.

    Args:
        manifest: Its rows give the order of the store's rows.
        preprocessing: The steps.
        cache: As for :func:`open_store`.
        progress: As for :func:`open_store`.
        size: Channels and pixels that a network takes, if known. Samples of another size than most are left out.

    Raises:
        NothingUsableError: No sample is left.
    """
    sizes = _Sizes()
    try:
        open_store(manifest, preprocessing, cache=cache, progress=progress, sizes=sizes)
    except _SomeUnusableError:
        return without_unusable(
            manifest.without(sizes.problems(size)), preprocessing, cache=cache, progress=progress, size=size
        )
    return manifest


class _SomeUnusableError(Exception):
    """Some samples cannot be prepared, so the store was not built."""


class _Sizes:
    """The size of each prepared sample, or why it could not be prepared."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[int, ...] | Problem] = {}
        self.differ = False

    def add(self, sample: str, image: np.ndarray | UnusableSampleError) -> None:
        if isinstance(image, UnusableSampleError):
            # Not the error itself, whose traceback holds the pixels.
            self._found[sample] = Problem(sample, image.kind, image.reason)
        else:
            self._found[sample] = image.shape
        self.differ = self.differ or self._found[sample] != next(iter(self._found.values()))
        self.differ = self.differ or isinstance(self._found[sample], Problem)

    def problems(self, wanted: tuple[int, ...] | None) -> list[Problem]:
        """Samples that failed, or have another size than the wanted one; if none has that, than the commonest."""
        counts = Counter(size for size in self._found.values() if isinstance(size, tuple))
        usual = wanted if wanted in counts else max(counts, key=lambda size: counts[size], default=None)
        problems = []
        for sample, found in self._found.items():
            if isinstance(found, Problem):
                problems.append(found)
            elif found != usual:
                shapes = json.dumps(found), json.dumps(usual)
                problems.append(Problem(sample, "not prepared", f"shape {shapes[0]} after the steps, not {shapes[1]}"))
        return problems


def _is_whole(folder: Path) -> bool:
    """Whether the store exists, and its files have the recorded lengths and checksums.

    The checksums are computed once per process, and again if a file has changed.
    """
    try:
        about = read_json(folder / "store.json")
        sizes = {str(name): int(size) for name, size in about["bytes"].items()}
        checksums = about.get("checksums")  # absent in stores of version 0.1
        states = {name: (folder / name).stat() for name in sizes}
    except (GyrusError, OSError, LookupError, TypeError, ValueError, AttributeError):
        return False
    if any(states[name].st_size != size for name, size in sizes.items()):
        return False
    marks = tuple((name, state.st_ino, state.st_mtime_ns) for name, state in states.items())
    if checksums is None or _WHOLE.get(folder) == marks:
        return True
    try:
        whole = all(_checksums(folder / name) == checksums.get(name) for name in sizes)
    except (OSError, AttributeError):
        return False
    if whole:
        _WHOLE[folder] = marks
    return whole


_WHOLE: dict[Path, tuple[tuple[str, int, int], ...]] = {}
"""The stores that this process has found to be whole, and the state of their files then."""


def _checksums(path: Path) -> list[int]:
    """The checksum of each block of a file."""

    def checksum(start: int) -> int:
        with path.open("rb", buffering=0) as file:
            file.seek(start)
            return zlib.crc32(file.read(BLOCK))

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return list(pool.map(checksum, range(0, path.stat().st_size, BLOCK)))


def _fill(
    folder: Path,
    manifest: Manifest,
    preprocessing: PreprocessingConfig,
    progress: Progress | None,
    sizes: _Sizes | None,
) -> None:
    statistics = []
    first: np.ndarray | None = None
    with (folder / "pixels.npy").open("wb") as file:
        for number, image in enumerate(_images(manifest, preprocessing)):
            if progress:
                progress(number + 1, len(manifest))
            if sizes is not None:
                sizes.add(manifest.table["sample"][number], image)
                if sizes.differ:  # nothing is written any more, because samples will be left out
                    continue
            if isinstance(image, UnusableSampleError):
                raise image
            if first is None:
                first = image
                shape, kind = (len(manifest), *image.shape), np.lib.format.dtype_to_descr(image.dtype)
                np.lib.format.write_array_header_2_0(file, {"descr": kind, "fortran_order": False, "shape": shape})
            _require_same_shape(image, first, manifest, number)
            # Not written through a memory map, where a full disk would kill the process instead of raising an error.
            file.write(image.tobytes())
            statistics.append(image_statistics(image, preprocessing.intensity))
        file.flush()
        os.fsync(file.fileno())
    if sizes is not None and sizes.differ:
        raise _SomeUnusableError
    np.save(folder / "statistics.npy", np.stack(statistics))
    files = [folder / name for name in ("pixels.npy", "statistics.npy")]
    about = {
        "format": FORMAT,
        "images": len(manifest),
        "bytes": {path.name: path.stat().st_size for path in files},
        "checksums": {path.name: _checksums(path) for path in files},
    }
    write_json(folder / "store.json", about)


def _images(manifest: Manifest, preprocessing: PreprocessingConfig) -> Iterator[np.ndarray | UnusableSampleError]:
    """Preprocessed images in the order of the manifest, decoded by threads in chunks; or why one cannot be prepared."""
    reader = Reader(manifest, preprocessing.volume)
    samples = manifest.table["sample"]

    def prepare(position: int) -> np.ndarray | UnusableSampleError:
        try:
            with reading_memory.task():
                return preprocessing.apply(reader.read(position))
        except UnusableSampleError as error:
            return error
        except DataError as error:
            return UnusableSampleError("not prepared", str(error), f"{samples[position]}: {error}")

    threads = min(8, os.cpu_count() or 1)
    # Volumes are large: hold only as many as are being processed.
    length = threads if VOLUME_FILES in manifest.table else CHUNK
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(manifest), length):
            chunk = range(start, min(start + length, len(manifest)))
            yield from pool.map(prepare, chunk)


def _require_same_shape(image: np.ndarray, first: np.ndarray, manifest: Manifest, number: int) -> None:
    if image.shape != first.shape or image.dtype != first.dtype:
        samples = manifest.table["sample"]
        steps = "a grayscale or rgb step and a resize step"
        if VOLUME_FILES in manifest.table:
            steps = "the steps resample and shape to preprocessing.volume"
        raise DataError(
            f"{samples[number]} has shape {json.dumps(image.shape)} after the steps, but {samples[0]} has "
            f"{json.dumps(first.shape)}. Add {steps}."
        )


def _refuse_colour_steps(manifest: Manifest, preprocessing: PreprocessingConfig) -> None:
    """Refuse steps that would treat neighbouring slices, which are channels, as colours."""
    views = manifest.table[VIEW].dropna()
    colour = [step.step for step in preprocessing.steps if isinstance(step, Grayscale | Rgb)]
    if colour and any(json.loads(view).get("neighbours") for view in views):
        raise DataError(
            f"The step '{colour[0]}' would treat neighbouring slices (data.slices.neighbours) as colours. "
            "Remove it from preprocessing.steps."
        )
