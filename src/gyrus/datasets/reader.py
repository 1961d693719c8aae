"""Read the pixels of a manifest's samples: images, stacks of slices, or prepared volumes."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from itertools import accumulate
from typing import NamedTuple, cast

import numpy as np
import pandas as pd

from gyrus.datasets.manifest import MEMBERS, VIEW, VOLUME_FILES, Manifest
from gyrus.datasets.sample_files import ASSUMED, IMAGE_COLUMN, EncodedImages, VolumeFiles
from gyrus.datasets.slices import show_sample
from gyrus.errors import DataError, UnusableImageError, UnusableSampleError
from gyrus.imaging.volume import Volume
from gyrus.memory import reading_memory
from gyrus.transforms.image_steps import Grayscale
from gyrus.transforms.volume_steps import Percentiles, VolumeStep, apply_to_channels, to_pixels

KEPT_VOLUMES = 2
"""Number of prepared volumes kept in memory, because slices of a volume are usually read one after the other."""


class Reader:
    """The pixels of a manifest's samples: images, stacks of slices, or volumes. Thread-safe."""

    def __init__(self, manifest: Manifest, steps: Sequence[VolumeStep] = (Percentiles(),)) -> None:
        """Locate the samples; no file is opened yet. The steps are for volumes; images are returned unchanged."""
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
        self._sequences = bool(manifest.channels)

    def __len__(self) -> int:
        return len(self._samples)

    def read(self, position: int) -> np.ndarray:
        """Decode the image, stack or volume in row ``position`` of the manifest's table.

        Returns:
            uint8, shape (C, rows, columns), or (C, slices, rows, columns) for a stack or volume; C = 1 (gray) or 3
            (RGB), exactly the values that Pillow decodes. Slices may have their neighbours as channels, and sessions
            one channel for each of their files, which is 0 where the file is missing.

        Raises:
            UnusableSampleError: An image is missing, damaged or changed since the scan, or the slices of a stack differ
                in size or colour.
        """
        try:
            if self._volumes is not None:
                return self._volumes.read(position)
            with reading_memory.task():
                decoded = [self._decode(number) for number in range(*self._bounds[position : position + 2])]
        except UnusableImageError as error:
            reason = f"{error.message}. It was usable when the data were scanned. Restore it, or scan the data again"
            name = f"{self._samples[position]} below {self._root}"
            raise UnusableSampleError(error.kind, reason, f"{name} cannot be read: {reason}.") from error
        if not self._stacked:
            return cast(np.ndarray, decoded[0])
        if not self._as_channels:
            return _stack(decoded, self._samples[position])
        # Neighbours are channels, so each must be gray.
        # So are the files of a session, each of one channel.
        gray = [None if slice_ is None else Grayscale()(slice_) for slice_ in decoded]
        return np.ascontiguousarray(_stack(gray, self._samples[position])[0])

    def read_stored(self, position: int) -> tuple[np.ndarray, tuple[float, ...] | None]:
        """The gray values in row ``position`` as stored, before any step, and the voxel size in mm.

        Returns:
            Of a volume (X, Y, Z) in RAS+ with its spacing, also where the sample shows only some of its slices; of an
            image (rows, columns) and of a stack (slices, rows, columns), without a spacing. Colours are averaged.

        Raises:
            UnusableImageError: As :meth:`read`.
            UnusableSampleError: As :meth:`read`.
        """
        if self._volumes is not None:
            with reading_memory.task():
                volume = self._volumes.volume(position)
            return volume.array, volume.spacing
        pixels = self.read(position)
        if self._sequences:  # the first channel that is there
            return first_channel(pixels).astype(np.float32), None
        if self._as_channels:  # neighbours, of which the middle one is the sample
            return pixels[len(pixels) // 2].astype(np.float32), None
        return pixels.mean(axis=0, dtype=np.float32), None

    def _decode(self, number: int) -> np.ndarray | None:
        """One slice; None for a black one."""
        if self._digests[number] is None:
            return None
        return self._encoded.decode(number, self._digests[number])


def first_channel(pixels: np.ndarray) -> np.ndarray:
    """The first channel (*spatial) that is there, of pixels (C, *spatial)."""
    return next((channel for channel in pixels if channel.any()), pixels[0])


def _slices_of(table: pd.DataFrame) -> tuple[pd.DataFrame, list[int]]:
    """The location of all slices, one row per slice, and the bounds of the rows of each sample."""
    if MEMBERS not in table:
        return table, list(range(len(table) + 1))
    further = {name: table[name] for name in (IMAGE_COLUMN, ASSUMED) if name in table}
    slices = pd.DataFrame({MEMBERS: table[MEMBERS], **further}).explode(MEMBERS, ignore_index=True)
    members = slices.pop(MEMBERS).to_list()
    for column in ("path", "row", "digest"):
        slices[column] = pd.Series([member[column] for member in members], dtype=object)
    return slices, [0, *accumulate(table[MEMBERS].map(len))]


def _stack(slices: list[np.ndarray | None], sample: str) -> np.ndarray:
    """(C, slices, rows, columns) of images (C, rows, columns)."""
    shapes = {image.shape for image in slices if image is not None}
    if len(shapes) != 1:
        reason = f"differ in size or colour: {sorted(shapes)}. A stack needs equal slices"
        raise UnusableSampleError("geometry", f"the slices {reason}", f"The slices of {sample} {reason}.")
    black = np.zeros(shapes.pop(), np.uint8)
    return np.stack([black if image is None else image for image in slices], axis=1)


class _Pixels(NamedTuple):
    pixels: np.ndarray
    spacing: tuple[float, ...]


class PreparedVolumes:
    """The volumes of a manifest, read, preprocessed and restricted to the slices that samples show. Thread-safe."""

    def __init__(self, manifest: Manifest, steps: Sequence[VolumeStep]) -> None:
        table = manifest.table
        self._samples = table["sample"].to_list()
        self._files = VolumeFiles(manifest.root, table)
        self._names = table[VOLUME_FILES].to_list()
        self._views = table[VIEW].to_list() if VIEW in table else [None] * len(table)
        self._digests = [
            json.loads(view)["volume"] if isinstance(view, str) else own
            for view, own in zip(self._views, table["digest"], strict=True)
        ]
        self._steps = tuple(steps)
        self._kept: OrderedDict[tuple[str, ...], Future[_Pixels]] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, position: int) -> np.ndarray:
        """The pixels of the sample in row ``position``.

        Returns:
            uint8, (C, slices, rows, columns), or (C, rows, columns) of a slice; C is the number of channels of the
            session, and of the neighbours of a slice.

        Raises:
            UnusableImageError: The volume is missing, damaged or changed since the scan.
            UnusableSampleError: A step fails, or the volume has too few slices.
        """
        view = self._views[position]
        prepared = self._prepare(position) if view is None else self._prepare_once(position)
        return show_sample(prepared.pixels, prepared.spacing, view, self._samples[position])

    def volume(self, position: int) -> Volume:
        """The volume in row ``position`` as stored in its files, in RAS+; of several channels, the first that is there.

        Raises:
            UnusableImageError: It is missing, damaged or changed since the scan.
        """
        self._require_unchanged(position)
        return self._files.read(position)

    def channels(self, position: int) -> list[Volume | None]:
        """The volume of each channel in row ``position``, before any step, on the grid of the first one.

        Raises:
            UnusableImageError: As :meth:`volume`.
        """
        self._require_unchanged(position)
        return self._files.read_channels(position)

    def _require_unchanged(self, position: int) -> None:
        if self._files.digest(position) != self._digests[position]:
            raise UnusableImageError("unreadable", "the content has changed since the scan")

    def _prepare(self, position: int) -> _Pixels:
        # Threads that wait for each other's volumes hold no memory, so that nobody waits in a circle.
        with reading_memory.task():
            try:
                self._require_unchanged(position)
                volumes = self._files.read_channels(position)
                prepared = iter(apply_to_channels([one for one in volumes if one is not None], self._steps))
                channels = [None if volume is None else next(prepared) for volume in volumes]
            except UnusableImageError:
                raise
            except DataError as error:
                raise UnusableSampleError("not prepared", str(error), f"{self._samples[position]}: {error}") from error
            first = next(volume for volume in channels if volume is not None)
            shape = (1, *first.shape[::-1])
            pixels = [np.zeros(shape, np.uint8) if volume is None else to_pixels(volume) for volume in channels]
            together = np.concatenate(pixels) if len(pixels) > 1 else pixels[0]
            return _Pixels(together, first.spacing[::-1])

    def _prepare_once(self, position: int) -> _Pixels:
        """Prepare a volume that several samples share; threads that need the same one wait for it."""
        key = self._names[position]
        with self._lock:
            known = key in self._kept
            future: Future[_Pixels] = self._kept.setdefault(key, Future())
            self._kept.move_to_end(key)
            while len(self._kept) > KEPT_VOLUMES:
                self._kept.popitem(last=False)
        if not known:
            try:
                future.set_result(self._prepare(position))
            except BaseException as error:
                future.set_exception(error)
        return future.result()
