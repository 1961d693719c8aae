"""One pass over all images: a small picture of each, and what can be measured on it and on its file."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from gyrus.audit.image_quality import measure_quality
from gyrus.datasets.manifest import Manifest
from gyrus.datasets.reader import EncodedImages
from gyrus.errors import DataError
from gyrus.imaging.decoding import UnusableImageError, decode
from gyrus.transforms.preprocessing import Grayscale

SIDE = 64
"""Rows and columns of a small picture."""

CORNER = 16
"""A corner is this part of the image along each side: one sixteenth."""

CHUNK = 256

Progress = Callable[[int, int], None]

_STANDARD_LUMINANCE = 3_545
"""Sum of the quantisation table for brightness in annex K of the JPEG standard (ITU-T T.81), less clipping."""


@dataclass(frozen=True, eq=False)
class ImageMeasurements:
    """What one pass over the images gives, row by row as in the manifest.

    Attributes:
        thumbnails: Gray, uint8 (N, 64, 64), stretched to a square.
        quality: The measures of :data:`gyrus.audit.image_quality.MEASURES`, one column each.
        circumstances: What is not anatomy, one column each: ``rows``, ``columns``, ``bytes``, ``bytes per pixel``,
            ``JPEG quality``, ``background``, ``background noise``, and the means of the four corners.
    """

    thumbnails: NDArray[np.uint8]
    quality: pd.DataFrame
    circumstances: pd.DataFrame


def look_at_images(manifest: Manifest, *, progress: Progress | None = None) -> ImageMeasurements:
    """Decode each image once. Memory grows by some 5 KB an image, whatever its size.

    Args:
        manifest: The images.
        progress: Called with the number of images done and of all.

    Raises:
        DataError: An image cannot be read any more.
    """
    encoded = EncodedImages(manifest.root, manifest.table)
    thumbnails = np.empty((len(manifest), SIDE, SIDE), np.uint8)
    quality: list[dict[str, float]] = []
    circumstances: list[dict[str, float]] = []

    def look(position: int) -> tuple[NDArray[np.uint8], dict[str, float], dict[str, float]]:
        try:
            data = encoded.read(position)
            return look_at(decode(data), data)
        except UnusableImageError as error:
            sample = manifest.table["sample"].iloc[position]
            raise DataError(f"{sample} below {manifest.root} cannot be read: {error.message}.") from error

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(manifest), CHUNK):
            chunk = range(start, min(start + CHUNK, len(manifest)))
            for position, (thumbnail, measured, around) in zip(chunk, pool.map(look, chunk), strict=True):
                thumbnails[position] = thumbnail
                quality.append(measured)
                circumstances.append(around)
            if progress:
                progress(chunk.stop, len(manifest))
    return ImageMeasurements(thumbnails, pd.DataFrame(quality), pd.DataFrame(circumstances))


def look_at(pixels: NDArray[np.uint8], data: bytes) -> tuple[NDArray[np.uint8], dict[str, float], dict[str, float]]:
    """Small picture, quality and circumstances of one image.

    Args:
        pixels: Decoded, (C, rows, columns).
        data: Its encoded bytes.
    """
    gray = Grayscale()(pixels)[0]
    return make_thumbnail(gray), measure_quality(gray), _circumstances(gray, data)


def make_thumbnail(gray: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A gray image as (64, 64), each pixel the mean of those that it covers."""
    return np.asarray(Image.fromarray(gray).resize((SIDE, SIDE), Image.Resampling.BOX))


def _circumstances(gray: NDArray[np.uint8], data: bytes) -> dict[str, float]:
    rows, columns = gray.shape
    high, wide = max(1, rows // CORNER), max(1, columns // CORNER)
    corners = [gray[:high, :wide], gray[:high, -wide:], gray[-high:, :wide], gray[-high:, -wide:]]
    together = np.concatenate([corner.ravel() for corner in corners]).astype(np.float64)
    names = ("corner top left", "corner top right", "corner bottom left", "corner bottom right")
    return {
        "rows": float(rows),
        "columns": float(columns),
        "bytes": float(len(data)),
        "bytes per pixel": len(data) / gray.size,
        "JPEG quality": jpeg_quality(data),
        "background": float(np.median(together)),
        "background noise": float(together.std()),
        **{name: float(corner.mean()) for name, corner in zip(names, corners, strict=True)},
    }


def jpeg_quality(data: bytes) -> float:
    """The quality setting that a JPEG was probably saved with, 1 to 100, from its quantisation table; 0 for others.

    The Independent JPEG Group's encoder scales the standard's table by 5000 / quality percent below 50, and by
    200 - 2 * quality percent from 50 on.
    """
    if not data.startswith(b"\xff\xd8"):
        return 0.0
    with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
        tables: dict[int, list[int]] = getattr(image, "quantization", {})
    if not tables:
        return 0.0
    scale = 100.0 * sum(tables[min(tables)]) / _STANDARD_LUMINANCE
    return float(np.clip((200 - scale) / 2 if scale <= 100 else 5000 / scale, 1, 100))
