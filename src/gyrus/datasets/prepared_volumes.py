"""Volumes of a manifest as pixels: read, checked, prepared by the steps, and shown as their samples ask."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from typing import NamedTuple

import numpy as np

from gyrus.datasets.manifest import VIEW, VOLUME_FILES, Manifest
from gyrus.datasets.volume_files import VolumeFiles
from gyrus.datasets.volume_slices import show
from gyrus.errors import DataError, UnusableImageError
from gyrus.imaging.volume import Volume
from gyrus.transforms.step import VolumeStep
from gyrus.transforms.volume_steps import apply_steps, to_pixels

KEPT_VOLUMES = 2
"""Prepared volumes that are kept, because the slices of a volume are asked for one after the other."""


class _Pixels(NamedTuple):
    pixels: np.ndarray
    spacing: tuple[float, ...]


class PreparedVolumes:
    """The pixels of a manifest's volumes. Threads may share one."""

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
            uint8, (1, slices, rows, columns), or (channels, rows, columns) of a slice.

        Raises:
            UnusableImageError: The volume is gone or damaged, or is not the one that was scanned.
            DataError: A step fails, or the volume does not reach what is to be shown.
        """
        view = self._views[position]
        prepared = self._prepare(position) if view is None else self._prepare_once(position)
        return show(prepared.pixels, prepared.spacing, view, self._samples[position])

    def volume(self, position: int) -> Volume:
        """The volume in row ``position`` as it is in its files, in RAS+.

        Raises:
            UnusableImageError: It is gone or damaged, or is not the one that was scanned.
        """
        if self._files.digest(position) != self._digests[position]:
            raise UnusableImageError("unreadable", "the content is not the one that was scanned")
        return self._files.read(position)

    def _prepare(self, position: int) -> _Pixels:
        try:
            volume = apply_steps(self.volume(position), self._steps)
        except UnusableImageError:
            raise
        except DataError as error:
            raise DataError(f"{self._samples[position]}: {error}") from error
        return _Pixels(to_pixels(volume), volume.spacing[::-1])

    def _prepare_once(self, position: int) -> _Pixels:
        """Prepare a volume of which several slices are asked for; threads that want the same one wait for it."""
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
