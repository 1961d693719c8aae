"""The cache of decoded and preprocessed images: a memory-mapped file that all later runs read.

A store is a folder named by the digest of image contents and steps. It is built under another name and renamed when
complete, so a killed build, a full disk or two concurrent runs never leave a broken store behind. A store that is
damaged later is noticed by its checksums, and built again. Many processes may build it together, also on several
machines that share the file system; see :mod:`gyrus.executor` and :mod:`gyrus.datasets.store_shards`.
"""

from __future__ import annotations

import json
import os
import shutil
import time
import zlib
from collections import Counter
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from gyrus.datasets.manifest import VIEW, VOLUME_FILES, Manifest, Problem
from gyrus.datasets.reader import Reader
from gyrus.datasets.sample_files import ASSUMED
from gyrus.datasets.store_shards import Found, Shard, ShardTask, append, recover, rows_of, shard_rows
from gyrus.errors import DataError, GyrusError, UnusableSampleError
from gyrus.executor import map_tasks, runs_here
from gyrus.files import FOREIGN_AGE, FULL, cache_folder, digest, make_folder, read_json, write_json
from gyrus.transforms.image_steps import Grayscale, Rgb
from gyrus.transforms.preprocessing import PreprocessingConfig

FORMAT = 1

BUILDING = ".building"
"""Suffix of the folder in which a store is built."""

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
                    _remove_old_builds(folder.parent)
                    _build(folder, manifest, preprocessing, progress, sizes)
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
    pixels = Reader(manifest, preprocessing.volume).read(0)
    return tuple(preprocessing.apply(pixels, sequences=bool(manifest.channels)).shape)


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

    def add(self, sample: str, found: Found) -> None:
        assert not isinstance(found, UnusableSampleError)
        self._found[sample] = found
        self.differ = self.differ or found != next(iter(self._found.values())) or isinstance(found, Problem)

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


def _build(
    folder: Path,
    manifest: Manifest,
    preprocessing: PreprocessingConfig,
    progress: Progress | None,
    sizes: _Sizes | None,
) -> None:
    """Build a store under another name. The next call uses what an interrupted or killed one has finished."""
    building = folder.with_suffix(BUILDING)
    make_folder(building)
    try:
        if not _is_whole(building):
            _fill(building, manifest, preprocessing, progress, sizes)
        shutil.rmtree(building / "shards", ignore_errors=True)
        building.rename(folder)
    except (DataError, OSError, _SomeUnusableError):
        _remove(building)
        raise
    except GyrusError as error:
        if isinstance(error.__cause__, OSError):
            _remove(building)
        raise


def _remove(building: Path) -> None:
    """Remove a build. It is renamed first, so that workers that are still busy with it write nothing any more."""
    gone = building.with_suffix(".removed")
    with suppress(OSError):
        building.rename(gone)
    for folder in (building, gone):
        shutil.rmtree(folder, ignore_errors=True)


def _remove_old_builds(stores: Path) -> None:
    """Remove builds that nobody has continued for a week."""
    for building in stores.glob(f"*{BUILDING}"):
        with suppress(OSError, Timeout), FileLock(building.with_suffix(".lock"), timeout=0):
            touched = max(path.stat().st_mtime for path in (building, *building.glob("*")))
            if time.time() - touched > FOREIGN_AGE:
                shutil.rmtree(building, ignore_errors=True)


def _fill(
    folder: Path,
    manifest: Manifest,
    preprocessing: PreprocessingConfig,
    progress: Progress | None,
    sizes: _Sizes | None,
) -> None:
    """Write the files of a store into a folder, which may hold shards of a killed build."""
    rows, pixels = shard_rows(manifest), folder / "pixels.npy"
    make_folder(folder / "shards")
    paths = [folder / "shards" / f"{number:06d}.pixels" for number in range(len(rows))]
    known, appended = recover(pixels, paths, rows)

    def task(number: int) -> ShardTask:
        return ShardTask(rows_of(manifest, rows[number]), preprocessing, paths[number], all_problems=sizes is not None)

    def here(number: int) -> Shard:
        start = rows[number].start
        return task(number)(progress and (lambda done: progress(start + done, len(manifest))))

    missing = [number for number in range(len(rows)) if number not in known]
    # In this process the samples of a shard are prepared by all threads, and shown one by one.
    results = map(here, missing) if runs_here() else map_tasks(here, missing, part=task)
    statistics, samples, shape = [], manifest.table["sample"], None
    with closing(results) if isinstance(results, Generator) else nullcontext():
        for number, path in enumerate(paths):
            shard = known[number] if number in known else next(results)
            if progress and (number in known or not runs_here()):
                progress(rows[number].stop, len(manifest))
            for row, found in zip(rows[number], shard.found, strict=False):
                if sizes is not None:
                    sizes.add(samples.iloc[row], found)
                    if sizes.differ:  # nothing is written any more, because samples will be left out
                        continue
                if isinstance(found, UnusableSampleError):
                    raise found
                shape = shape or found
                _require_same_shape(found, shape, manifest, row)
            if sizes is None or not sizes.differ:
                if number >= appended:
                    append(pixels, shard, path, first=number == 0, total=len(manifest))
                statistics.append(shard.statistics)
    if sizes is not None and sizes.differ:
        raise _SomeUnusableError
    with pixels.open("rb") as file:
        os.fsync(file.fileno())
    np.save(folder / "statistics.npy", np.concatenate(statistics))
    files = [folder / name for name in ("pixels.npy", "statistics.npy")]
    about = {
        "format": FORMAT,
        "images": len(manifest),
        "bytes": {path.name: path.stat().st_size for path in files},
        "checksums": {path.name: _checksums(path) for path in files},
    }
    write_json(folder / "store.json", about)


def _require_same_shape(shape: Found, first: Found, manifest: Manifest, row: int) -> None:
    if shape != first:
        samples = manifest.table["sample"]
        steps = "a grayscale or rgb step and a resize step"
        if VOLUME_FILES in manifest.table:
            steps = "the steps resample and shape to preprocessing.volume"
        raise DataError(
            f"{samples.iloc[row]} has shape {json.dumps(shape)} after the steps, but {samples.iloc[0]} has "
            f"{json.dumps(first)}. Add {steps}."
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
