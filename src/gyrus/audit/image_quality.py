"""Image quality: one pass over all images, measures of each, and images that are outliers in one of them.

The pass also keeps a thumbnail of each image, and properties of its file that are not anatomy.

Mean, contrast, signal-to-noise ratio and entropy of the whole image are in common use for sets of slices, although they
mostly depend on how much of the slice is head. The other measures treat head and background separately.

A volume or stack is represented by its central axial slice, except for its size.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from gyrus.audit.findings import Finding, Flag
from gyrus.datasets.manifest import MEMBERS, VOLUME_FILES, Manifest
from gyrus.datasets.reader import Reader, first_channel
from gyrus.datasets.sample_files import EncodedImages
from gyrus.datasets.store_shards import rows_of, shard_rows
from gyrus.errors import DataError, UnusableImageError
from gyrus.executor import map_tasks, runs_here
from gyrus.imaging.decoding import decode
from gyrus.imaging.otsu import otsu_gray_value
from gyrus.memory import reading_memory
from gyrus.text import counted
from gyrus.transforms.contrast_enhancement import estimate_noise
from gyrus.transforms.image_steps import Grayscale

Gray = NDArray[np.uint8]


@dataclass(frozen=True)
class QualityMeasure:
    """A quality measure of an image.

    Attributes:
        description: Its unit or definition, for tables.
        resolution: Smallest meaningful difference; robust deviations are not taken to be smaller.
        low: What is wrong with an image whose value is unusually low; empty where that is no fault.
        high: Likewise for an unusually high value.
    """

    description: str
    resolution: float
    low: str
    high: str


MEASURES: dict[str, QualityMeasure] = {
    "intensity": QualityMeasure("mean gray value", 1.0, "dark", "bright"),
    "contrast": QualityMeasure("standard deviation of the gray values", 1.0, "low contrast", "high contrast"),
    "SNR": QualityMeasure("mean over standard deviation", 0.01, "", ""),
    "entropy": QualityMeasure("bits, of 256 gray values", 0.05, "few gray values", "noisy"),
    "foreground": QualityMeasure("fraction of the image", 0.01, "empty, or almost no head", "head fills the image"),
    "foreground SNR": QualityMeasure("mean of the head over noise", 0.5, "noisy", ""),
    "sharpness": QualityMeasure("mean gradient over contrast, in the head", 0.01, "blurred", "oversharpened or noisy"),
    "ghosting": QualityMeasure(
        "background beside the head less the corners, over the head", 0.01, "", "ghosting, or bright background"
    ),
    "clipping": QualityMeasure("fraction of the head at the largest value", 0.01, "", "clipped"),
    "bias field": QualityMeasure(
        "spread of a smooth quadratic surface fitted to log intensity", 0.01, "", "uneven brightness"
    ),
    "cropped": QualityMeasure("fraction of the border that is head", 0.02, "", "head cut off at the border"),
}
"""The measures of each image, by name."""

ROBUST_Z_THRESHOLD = 5.0
"""Robust z-score from which an image is flagged; 3.5 (Iglewicz and Hoaglin 1993) flags too many in heavy tails."""

PLAIN_Z_THRESHOLD = 2.0
"""Plain z-score of the four whole-image measures above which images are often called outliers."""

WHOLE_IMAGE_MEASURES = ("intensity", "contrast", "SNR", "entropy")
EMPTY_FOREGROUND, CROPPED_BORDER = 0.02, 0.25
"""Foreground fraction below which an image is empty; fraction of the border above which a head is cut off."""


def measure_quality(gray: Gray) -> dict[str, float]:
    """The measures of one gray image (rows, columns), 8 bits; NaN where a measure is undefined."""
    values = gray.astype(np.float64)
    counts = np.bincount(gray.ravel(), minlength=256)
    contrast = float(values.std())
    head = gray > otsu_gray_value(counts)
    border = np.concatenate([head[0], head[-1], head[1:-1, 0], head[1:-1, -1]])
    return {
        "intensity": float(values.mean()),
        "contrast": contrast,
        "SNR": float(values.mean() / contrast) if contrast > 0 else 0.0,
        "entropy": entropy(counts),
        "foreground": float(head.mean()),
        **_head_measures(values, head),
        "cropped": float(border.mean()),
    }


def entropy(counts: NDArray[np.integer]) -> float:
    """Shannon entropy of a histogram in bits."""
    fractions = counts[counts > 0] / counts.sum()
    return float(-(fractions * np.log2(fractions)).sum()) + 0.0


def robust_z_scores(quality: pd.DataFrame) -> pd.DataFrame:
    """Robust z-scores, one column per measure: distance from the median in units of 1.4826 median absolute deviations.

    Where more than half of the images have the same value, the mean absolute deviation is used instead.
    """
    centre = quality.median()
    deviation = (quality - centre).abs()
    scale = 1.4826 * deviation.median()
    resolution = pd.Series({name: measure.resolution for name, measure in MEASURES.items()})
    scale = scale.where(scale > 1e-9, 1.2533 * deviation.mean()).clip(lower=resolution[quality.columns])
    return ((quality - centre) / scale).fillna(0.0)


def plain_z_scores(quality: pd.DataFrame) -> pd.DataFrame:
    """Plain z-scores of the four whole-image measures."""
    values = quality[list(WHOLE_IMAGE_MEASURES)]
    scale = values.std(ddof=0)
    return (values - values.mean()) / scale.where(scale > 1e-9, 1.0)


def largest_plain_z(quality: pd.DataFrame) -> pd.Series:
    """The largest absolute plain z-score of the four whole-image measures, one per image."""
    return plain_z_scores(quality).abs().max(axis=1)


def fault_scores(quality: pd.DataFrame) -> pd.DataFrame:
    """Robust z-score of each measure in the direction that is a fault; 0 in the other direction."""
    scores = robust_z_scores(quality)
    return pd.DataFrame(
        {
            name: scores[name].clip(lower=0) * bool(measure.high) + (-scores[name]).clip(lower=0) * bool(measure.low)
            for name, measure in MEASURES.items()
        }
    )


def describe_fault(quality: pd.DataFrame, row: int, name: str, z_score: float) -> str:
    """The fault of an image in words, with the measure and its robust z-score."""
    measure, value = MEASURES[name], float(quality[name].iloc[row])
    fault = measure.high if value > float(quality[name].median()) else measure.low
    return f"{fault}: {name} {value:.3g}, robust z {z_score:.1f}"


def flag_outliers(quality: pd.DataFrame, samples: pd.Series) -> tuple[Flag, ...]:
    """The quality outliers, the worst first, each with its worst measure in words."""
    scores = fault_scores(quality)
    worst, height = scores.idxmax(axis=1).astype(str), scores.max(axis=1)
    flagged = height[height >= ROBUST_Z_THRESHOLD].sort_values(ascending=False, kind="stable")
    return tuple(
        Flag(str(samples.iloc[row]), describe_fault(quality, row, name, value))
        for row, name, value in zip(flagged.index.to_list(), worst[flagged.index], flagged, strict=True)
    )


def check(manifest: Manifest, quality: pd.DataFrame) -> tuple[Finding, ...]:
    """Find quality outliers, empty images and images in which the head is cut off."""
    flags = flag_outliers(quality, manifest.table["sample"])
    empty = int((quality["foreground"] < EMPTY_FOREGROUND).sum())
    cropped = int((quality["cropped"] > CROPPED_BORDER).sum())
    numbers = {
        "outliers": len(flags),
        "plain z-score outliers": int((largest_plain_z(quality) > PLAIN_Z_THRESHOLD).sum()),
        "empty": empty,
        "cropped": cropped,
        **{f"median {name}": float(quality[name].median()) for name in MEASURES},
    }
    measured = " The central axial slice of each volume was measured." if is_volumetric(manifest) else ""
    if not flags and not empty and not cropped:
        verdict = f"No image is a quality outlier: no measure has a robust z-score of 5 or more.{measured}"
        return (Finding("quality", "ok", verdict, numbers),)
    verdict = f"{len(flags):,} of {counted(len(quality), 'image')} {'is a' if len(flags) == 1 else 'are'} quality "
    verdict += "outlier" if len(flags) == 1 else "outliers"
    verdict += f"; {counted(empty, 'image')} almost without a head" if empty else ""
    verdict += f"; {counted(cropped, 'image')} with the head cut off" if cropped else ""
    many = len(flags) > 0.02 * len(quality) or cropped > 0.02 * len(quality)
    severity: Literal["warning", "note"] = "warning" if many or empty else "note"
    return (Finding("quality", severity, f"{verdict}.{measured}", numbers, flags),)


def _head_measures(values: NDArray[np.float64], head: NDArray[np.bool_]) -> dict[str, float]:
    names = ("foreground SNR", "sharpness", "ghosting", "clipping", "bias field")
    inside = values[head]
    if len(inside) < 16 or head.all():
        return dict.fromkeys(names, float("nan"))
    noise, spread = estimate_noise(values), float(inside.std())
    gradient = np.hypot(*np.gradient(values))[head]
    return {
        "foreground SNR": float(inside.mean() / max(noise, 0.1)),
        "sharpness": float(gradient.mean() / max(spread, 1e-6)),
        "ghosting": _ghosting(values, head),
        "clipping": float((inside >= 255).mean()),
        "bias field": _bias_field(values, head),
    }


def _ghosting(values: NDArray[np.float64], head: NDArray[np.bool_]) -> float:
    """Brightness of the background in the rows and columns of the head, less the rest, relative to the head."""
    background = ~ndimage.binary_dilation(head, iterations=3)
    beside_rows = background & np.asarray(head.any(axis=1))[:, None]
    beside_columns = background & np.asarray(head.any(axis=0))[None]
    rest = background & ~(beside_rows | beside_columns)
    base = float(values[rest].mean()) if rest.any() else 0.0
    bands = [float(values[band].mean()) - base for band in (beside_rows, beside_columns) if band.any()]
    return max([0.0, *bands]) / float(values[head].mean())


def _bias_field(values: NDArray[np.float64], head: NDArray[np.bool_]) -> float:
    """Spread of a quadratic surface fitted to the logarithm of the intensity in the head."""
    rows, columns = np.nonzero(head)
    step = max(1, len(rows) // 500)
    rows, columns = rows[::step], columns[::step]
    y, x = rows / values.shape[0] - 0.5, columns / values.shape[1] - 0.5
    terms = np.stack([np.ones(len(x)), x, y, x * y, x**2, y**2], axis=1)
    logs = np.log(values[rows, columns] + 1)
    normal = terms.T @ terms + 1e-9 * np.eye(6)
    return float((terms @ np.linalg.solve(normal, terms.T @ logs)).std())


THUMBNAIL_SIDE = 64
"""Rows and columns of a thumbnail."""

CORNER_FRACTION = 16
"""A corner is one sixteenth of the image along each side."""

VOLUMES_AT_ONCE = 2
"""Number of volumes that are in memory at a time."""

CHUNK = 256
"""Images that are decoded before the progress is reported."""

Progress = Callable[[int, int], None]

_STANDARD_LUMINANCE = 3_545
"""Sum of the luminance quantisation table in annex K of the JPEG standard (ITU-T T.81), after clipping."""


@dataclass(frozen=True, eq=False)
class ImageMeasurements:
    """Measurements of all images, in the order of the manifest.

    Attributes:
        thumbnails: Gray, uint8 (N, 64, 64), stretched to a square; of a volume its central axial slice.
        quality: The measures of :data:`gyrus.audit.image_quality.MEASURES`, one column each.
        nuisance: Properties that are not anatomy, one column each: ``rows``, ``columns``, ``bytes``,
            ``bytes per pixel``, ``JPEG quality``, ``background``, ``background noise``, and the mean of each corner. Of
            volumes ``slices`` and ``voxel size`` (mm, the mean of the three axes) too, and no ``JPEG quality``.
    """

    thumbnails: NDArray[np.uint8]
    quality: pd.DataFrame
    nuisance: pd.DataFrame


def measure_images(manifest: Manifest, *, progress: Progress | None = None) -> ImageMeasurements:
    """Decode and measure each image once. Memory grows by about 5 KB per image, whatever its size.

    Args:
        manifest: The images.
        progress: Called with the number of images done and the total.

    Raises:
        DataError: An image can no longer be read.
    """
    thumbnails = np.empty((len(manifest), THUMBNAIL_SIDE, THUMBNAIL_SIDE), np.uint8)
    quality: list[dict[str, float]] = []
    nuisance: list[dict[str, float]] = []
    with closing(_measure_here(manifest) if runs_here() else _measure_by_workers(manifest)) as measured:
        for position, (thumbnail, measures, properties) in enumerate(measured):
            thumbnails[position] = thumbnail
            quality.append(measures)
            nuisance.append(properties)
            if progress and (position + 1 == len(manifest) or (position + 1) % CHUNK == 0):
                progress(position + 1, len(manifest))
    return ImageMeasurements(thumbnails, pd.DataFrame(quality), pd.DataFrame(nuisance))


def read_thumbnails(manifest: Manifest, *, progress: Progress | None = None) -> NDArray[np.uint8]:
    """Images in files of their own as :func:`make_thumbnail` makes them small, (N, 64, 64).

    Args:
        manifest: The images.
        progress: Called with the number of images done and the total.

    Raises:
        DataError: An image can no longer be read.
    """
    read, thumbnails = _gray_reader(manifest), np.empty((len(manifest), THUMBNAIL_SIDE, THUMBNAIL_SIDE), np.uint8)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(manifest), CHUNK):
            rows = range(start, min(start + CHUNK, len(manifest)))
            thumbnails[rows.start : rows.stop] = list(pool.map(lambda row: make_thumbnail(read(row)[0]), rows))
            if progress:
                progress(rows.stop, len(manifest))
    return thumbnails


def _reader(manifest: Manifest) -> Callable[[int], _Measured]:
    return _read_volumes(manifest) if is_sliced(manifest) else _read_images(manifest)


def _measure_here(manifest: Manifest) -> Generator[_Measured]:
    read = _reader(manifest)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1) if not is_sliced(manifest) else VOLUMES_AT_ONCE) as pool:
        for start in range(0, len(manifest), CHUNK):
            yield from pool.map(read, range(start, min(start + CHUNK, len(manifest))))


def _measure_by_workers(manifest: Manifest) -> Generator[_Measured]:
    for measured in map_tasks(_measure_all, [rows_of(manifest, rows) for rows in shard_rows(manifest)]):
        yield from measured


def _measure_all(manifest: Manifest) -> list[_Measured]:
    return list(map(_reader(manifest), range(len(manifest))))


def is_sliced(manifest: Manifest) -> bool:
    """Whether samples are volumes, stacks, or slices of volumes, and not images in files of their own."""
    return MEMBERS in manifest.table or VOLUME_FILES in manifest.table


def is_volumetric(manifest: Manifest) -> bool:
    """Whether each sample is a volume or a stack."""
    return any(len(shape) == 3 for shape in manifest.table["shape"])


def central_slice(pixels: NDArray[np.uint8], *, sequences: bool = False) -> NDArray[np.uint8]:
    """The gray image (rows, columns) that represents a sample.

    Args:
        pixels: (C, rows, columns), or (C, slices, rows, columns) of a volume, whose middle slice it is.
        sequences: Whether the channels are those of a session, of which the first that is there is used.
    """
    if sequences:
        pixels = first_channel(pixels)[None]
    return Grayscale()(pixels[:, pixels.shape[1] // 2] if pixels.ndim == 4 else pixels)[0]


_Measured = tuple[NDArray[np.uint8], dict[str, float], dict[str, float]]


def _read_images(manifest: Manifest) -> Callable[[int], _Measured]:
    read = _gray_reader(manifest)
    return lambda position: measure_image(*read(position))


def _gray_reader(manifest: Manifest) -> Callable[[int], tuple[NDArray[np.uint8], bytes]]:
    """A function that reads the image at a position: gray (rows, columns), and its encoded bytes."""
    encoded = EncodedImages(manifest.root, manifest.table)

    def read(position: int) -> tuple[NDArray[np.uint8], bytes]:
        try:
            with reading_memory.task():
                data = encoded.read(position)
                return Grayscale()(decode(data, encoded.windows[position]))[0], data
        except UnusableImageError as error:
            sample = manifest.table["sample"].iloc[position]
            raise DataError(f"{sample} below {manifest.root} cannot be read: {error.message}.") from error

    return read


def _read_volumes(manifest: Manifest) -> Callable[[int], _Measured]:
    reader = Reader(manifest)
    spacings = manifest.table["spacing"].to_list()
    files = [names or () for names in manifest.table[VOLUME_FILES]] if VOLUME_FILES in manifest.table else None
    sequences = bool(manifest.channels)

    def measure(position: int) -> _Measured:
        pixels = reader.read(position)
        gray = central_slice(pixels, sequences=sequences)
        properties = _nuisance(gray, b"")
        del properties["JPEG quality"]
        size = sum((manifest.root / name).stat().st_size for name in files[position]) if files else 0
        spacing = spacings[position]
        properties |= {
            "slices": float(pixels.shape[1] if pixels.ndim == 4 else 1),
            "voxel size": float(np.mean(spacing)) if spacing is not None else 0.0,
            "bytes": float(size),
            "bytes per pixel": size / pixels.size,
        }
        return make_thumbnail(gray), measure_quality(gray), properties

    return measure


def measure_image(gray: NDArray[np.uint8], data: bytes) -> _Measured:
    """Thumbnail, quality measures and nuisance properties of one image.

    Args:
        gray: Gray values (rows, columns).
        data: Its encoded bytes.
    """
    return make_thumbnail(gray), measure_quality(gray), _nuisance(gray, data)


def make_thumbnail(gray: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A gray image as (64, 64), each pixel the mean of those that it covers."""
    size = (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    return np.asarray(Image.fromarray(gray).resize(size, Image.Resampling.BOX))


def _nuisance(gray: NDArray[np.uint8], data: bytes) -> dict[str, float]:
    rows, columns = gray.shape
    high, wide = max(1, rows // CORNER_FRACTION), max(1, columns // CORNER_FRACTION)
    corners = [gray[:high, :wide], gray[:high, -wide:], gray[-high:, :wide], gray[-high:, -wide:]]
    background = np.concatenate([corner.ravel() for corner in corners]).astype(np.float64)
    names = ("corner top left", "corner top right", "corner bottom left", "corner bottom right")
    return {
        "rows": float(rows),
        "columns": float(columns),
        "bytes": float(len(data)),
        "bytes per pixel": len(data) / gray.size,
        "JPEG quality": jpeg_quality(data),
        "background": float(np.median(background)),
        "background noise": float(background.std()),
        **{name: float(corner.mean()) for name, corner in zip(names, corners, strict=True)},
    }


def jpeg_quality(data: bytes) -> float:
    """The quality setting of a JPEG file, 1 to 100, estimated from its quantisation table; 0 for other formats.

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
