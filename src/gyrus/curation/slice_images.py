"""Every slice of a data set as an encoded picture with what is known about it."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from gyrus.curation.scan_volumes import (
    AFFINE,
    OWN_COLUMNS,
    SLICE_NUMBERS,
    ConversionOptions,
    Progress,
    scans,
    with_progress,
)
from gyrus.datasets.manifest import MEMBERS, VIEW, VOLUME_FILES, Manifest
from gyrus.datasets.reader import EncodedImages, Reader
from gyrus.errors import DataError
from gyrus.imaging.volume import Volume
from gyrus.transforms.step import VolumeStep
from gyrus.transforms.volume_steps import Window, apply_steps, to_pixels

_EXACT = Window(low=0, high=255)


@dataclass(frozen=True)
class SliceImage:
    """An encoded slice with the columns that go with it."""

    data: bytes
    about: dict[str, Any]


def pictures(manifest: Manifest, options: ConversionOptions) -> tuple[Iterator[SliceImage], tuple[str, ...]]:
    """Every slice, encoded; and what was decided, in words.

    Images are what their files hold, byte for byte. Slices of volumes that all hold 8-bit gray are exact; others are
    scaled by the steps.

    Raises:
        DataError: The samples are stacks.
    """
    if VOLUME_FILES not in manifest.table:
        return _encoded(manifest, options.progress), ()
    if VIEW in manifest.table:
        reader = Reader(manifest, options.steps)
        return _views(manifest, reader, options.progress), (_scaled_by(options.steps),)
    exact = all(scan.volume.stored == np.uint8 for scan in scans(manifest))
    steps = (_EXACT,) if exact else options.steps
    return _cut(manifest, steps, options.progress), () if exact else (_scaled_by(steps),)


def _scaled_by(steps: Sequence[VolumeStep]) -> str:
    words = json.dumps([step.model_dump(mode="json") for step in steps])
    return f"The volumes hold more than 8 bits; slices are gray values scaled by {words}."


def _encoded(manifest: Manifest, progress: Progress | None) -> Iterator[SliceImage]:
    if MEMBERS in manifest.table:
        raise DataError("Convert the slices as they are, without data.stack.")
    images = EncodedImages(manifest.root, manifest.table)
    rows = (SliceImage(images.read(number), _columns(row)) for number, (_, row) in enumerate(manifest.table.iterrows()))
    yield from with_progress(rows, len(manifest), progress)


def _views(manifest: Manifest, reader: Reader, progress: Progress | None) -> Iterator[SliceImage]:
    rows = (SliceImage(_png(reader.read(n)), _columns(row)) for n, (_, row) in enumerate(manifest.table.iterrows()))
    yield from with_progress(rows, len(manifest), progress)


def _cut(manifest: Manifest, steps: Sequence[VolumeStep], progress: Progress | None) -> Iterator[SliceImage]:
    for scan in with_progress(scans(manifest), len(manifest), progress):
        volume = apply_steps(scan.volume, steps)
        about = dict(scan.about)
        told = about.pop(SLICE_NUMBERS, None)
        pixels = to_pixels(volume)[0]
        numbers = [int(number) for number in told.split()] if told else list(range(len(pixels)))
        for number, pixel in zip(numbers, pixels, strict=True):
            yield SliceImage(_png(pixel[None]), {**about, "slice": number, AFFINE: _affine_text(volume)})


def _affine_text(volume: Volume) -> str:
    return json.dumps(volume.affine.tolist())


def _png(pixels: np.ndarray) -> bytes:
    if pixels.shape[0] not in (1, 3):
        raise DataError(f"A slice of {pixels.shape[0]} channels is no picture. Set data.slices.neighbours to 0 or 1.")
    buffer = io.BytesIO()
    Image.fromarray(pixels[0] if pixels.shape[0] == 1 else np.moveaxis(pixels, 0, -1)).save(buffer, format="PNG")
    return buffer.getvalue()


def _columns(row: pd.Series) -> dict[str, Any]:
    return {str(name): None if _missing(value) else value for name, value in row.items() if name not in OWN_COLUMNS}


def _missing(value: Any) -> bool:
    return bool(np.ndim(value) == 0 and pd.isna(value))
