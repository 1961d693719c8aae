"""Intensity normalisation: its config, the statistics that it needs, and its fit on the training set.

Scaling is affine for every image, ``(x - shift) / scale``, so the store keeps four numbers per image and channel
instead of a second, larger copy of the pixels. The method "histogram" first maps gray values to landmarks of the
training set (Nyul and Udupa, Magn Reson Med 42, 1999): MRI intensities have no unit, and the same tissue is bright in
one scan and dark in the next. The landmarks of an image are percentiles of its foreground; their means over the
training set are the standard scale, to which every image is mapped by a piecewise linear function.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from gyrus.configuration import Section
from gyrus.errors import DataError

_GIVEN = "one value or one per channel, of pixels in 0..1 (fixed, histogram)"


class IntensityScaling(Section):
    """How gray values are scaled after all other steps; pixels come as value / 255."""

    method: Literal["fixed", "zscore", "dataset", "percentile", "histogram"] = Field(
        "dataset",
        description="fixed: given mean and std; zscore: mean and std of each image; dataset: mean and std of each "
        "channel over the training set; percentile: percentiles of each image to 0..1, clipped; histogram: gray values "
        "of each image mapped to the mean histogram of the training set (Nyul and Udupa), then given mean and std",
    )
    mean: tuple[float, ...] = Field((0.0,), description=f"mean, {_GIVEN}")
    std: tuple[Annotated[float, Field(gt=0)], ...] = Field((1.0,), description=f"standard deviation, {_GIVEN}")
    low: float = Field(0.5, ge=0, le=100, description="lower percentile (percentile)")
    high: float = Field(99.5, ge=0, le=100, description="upper percentile (percentile)")

    @model_validator(mode="after")
    def _low_below_high(self) -> IntensityScaling:
        if self.low >= self.high:
            raise ValueError(f"low must be below high, got {self.low} and {self.high}")
        return self


STATISTICS = ("mean", "std", "low", "high")
"""What the store keeps per image and channel, of pixels in 0..1; low and high are the configured percentiles."""

SMALLEST_SCALE = 1e-6

_COUNTED_AT_ONCE = 1 << 16


def image_statistics(image: np.ndarray, intensity: IntensityScaling) -> np.ndarray:
    """The :data:`STATISTICS` of an image (C, *spatial) uint8, as float32 (C, 4).

    With the method "histogram", the landmarks of the histogram follow.
    """
    rows = []
    for channel in image.reshape(image.shape[0], -1):
        # Counting needs eight bytes per pixel; counting by blocks keeps this small for large volumes.
        blocks = range(0, max(1, len(channel)), _COUNTED_AT_ONCE)
        counts = sum(np.bincount(channel[start : start + _COUNTED_AT_ONCE], minlength=256) for start in blocks)
        row = _statistics_of_counts(np.asarray(counts), (intensity.low, intensity.high))
        rows.append([*row, *(landmarks_of(channel / 255.0) if intensity.method == "histogram" else ())])
    return np.array(rows, dtype=np.float32)


def _statistics_of_counts(counts: np.ndarray, percentiles: tuple[float, float]) -> list[float]:
    """The statistics from the counts of the 256 gray values: equal to those of the pixels, and many times faster."""
    values, total = np.arange(256) / 255.0, counts.sum()
    mean = counts @ values / total
    std = np.sqrt(counts @ (values - mean) ** 2 / total)
    ends = np.cumsum(counts)
    places = np.array(percentiles) / 100 * (total - 1)
    below, above = (values[np.searchsorted(ends, whole(places), side="right")] for whole in (np.floor, np.ceil))
    return [mean, std, *(below + (above - below) * (places % 1))]


@dataclass(frozen=True)
class Normalisation:
    """Fitted intensity scaling: ``(x - shift) / scale`` of pixels x in 0..1.

    Attributes:
        method: As in :class:`IntensityScaling`.
        mean: One value per channel; used by "fixed", "dataset" and "histogram".
        std: One value per channel; used by the same methods.
        standard: The mean landmarks of the training set, one tuple per channel; used by "histogram".
        sequences: Whether the channels are sequences of a session. One that is black throughout is missing: it becomes
            0, and nothing is fitted on it.
    """

    method: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    standard: tuple[tuple[float, ...], ...] = ()
    sequences: bool = False

    @classmethod
    def fit(cls, intensity: IntensityScaling, statistics: np.ndarray, *, sequences: bool = False) -> Normalisation:
        """Fit on the :data:`STATISTICS` (N, C, 4) of the images of the training set only.

        Raises:
            DataError: The number of given means or deviations does not match the channels, or no image has a channel.
        """
        channels = statistics.shape[1]
        present = present_channels(statistics) if sequences else np.ones(statistics.shape[:2], dtype=bool)
        if not present.any(axis=0).all():
            raise DataError(
                f"Channel {int(np.argmin(present.any(axis=0))) + 1} is empty in all images of the training set. Leave "
                "it out of data.channels, or change the seed of the split."
            )
        if intensity.method == "dataset":
            mean = _mean_of_present(statistics[..., 0].astype(np.float64), present)
            # All images have the same number of pixels, so their moments average to those of the whole set.
            squares = statistics[..., 1].astype(np.float64) ** 2 + statistics[..., 0].astype(np.float64) ** 2
            std = np.maximum(np.sqrt(np.maximum(_mean_of_present(squares, present) - mean**2, 0)), SMALLEST_SCALE)
            return cls("dataset", tuple(mean.tolist()), tuple(std.tolist()), sequences=sequences)
        given = intensity.mean, intensity.std
        if any(len(values) not in (1, channels) for values in given):
            raise DataError(
                f"intensity.mean and intensity.std need 1 or {channels} values for images of {channels} channels, "
                f"got {len(given[0])} and {len(given[1])}."
            )
        mean, std = (np.broadcast_to(values, channels) for values in given)
        standard: tuple[tuple[float, ...], ...] = ()
        if intensity.method == "histogram":
            landmarks = statistics[..., len(STATISTICS) :]
            own = [standard_scale(landmarks[there, number]) for number, there in enumerate(present.T)]
            standard = tuple(tuple(scale.tolist()) for scale in own)
        return cls(intensity.method, tuple(map(float, mean)), tuple(map(float, std)), standard, sequences)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Normalisation:
        """Read what :func:`dataclasses.asdict` gave, after JSON."""
        standard = tuple(map(tuple, document.get("standard", ())))
        sequences = bool(document.get("sequences", False))  # absent in files of earlier versions
        return cls(document["method"], tuple(document["mean"]), tuple(document["std"]), standard, sequences)

    def present(self, statistics: np.ndarray) -> np.ndarray | None:
        """Which channels of some images are there, bool (N, C), from their statistics (N, C, 4); None: all of them."""
        return present_channels(statistics) if self.sequences else None

    def gray_values(self, statistics: np.ndarray) -> np.ndarray | None:
        """What each of the 256 gray values becomes before scaling; None if it stays value / 255.

        Args:
            statistics: (N, C, 4 + landmarks), of some images.

        Returns:
            float32 (N, C, 256): the map to the histogram of the training set, with the method "histogram".
        """
        if not self.standard:
            return None
        values = np.arange(256, dtype=np.float32) / np.float32(255)
        own = statistics[..., len(STATISTICS) :]
        return np.stack(
            [[map_to_scale(values, *one) for one in zip(landmarks, self.standard, strict=True)] for landmarks in own]
        )

    def shift_and_scale(self, statistics: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Shift and scale of some images, float32 (N, C) each, from their statistics (N, C, 4)."""
        if self.method == "percentile":
            shift, scale = statistics[..., 2], statistics[..., 3] - statistics[..., 2]
        elif self.method == "zscore":
            shift, scale = statistics[..., 0], statistics[..., 1]
        else:
            shape = statistics.shape[:2]
            shift, scale = np.broadcast_to(self.mean, shape), np.broadcast_to(self.std, shape)
        return shift.astype(np.float32), np.maximum(scale, SMALLEST_SCALE).astype(np.float32)

    def apply(self, pixels: np.ndarray, statistics: np.ndarray) -> NDArray[np.float32]:
        """Network input of stored pixels, without PyTorch and without augmentation.

        Args:
            pixels: uint8 (N, C, *spatial).
            statistics: Their statistics (N, C, 4), from :func:`image_statistics`.

        Returns:
            float32 (N, C, *spatial).
        """
        shape = (*pixels.shape[:2], 256)
        values = self.gray_values(statistics)
        if values is None:
            values = np.broadcast_to(np.arange(256, dtype=np.float32) / np.float32(255), shape)
        shift, scale = self.shift_and_scale(statistics)
        values = (values - shift[..., None]) / scale[..., None]
        if self.clips:
            values = np.clip(values, 0, 1)
        # All steps are functions of the gray value, so each of the 256 is computed once per image and channel.
        present = self.present(statistics)
        if present is not None:
            values = values * present[..., None]
        places = np.arange(shape[0] * shape[1]).reshape(*shape[:2], *[1] * (pixels.ndim - 2)) * 256
        return np.take(np.ascontiguousarray(values, dtype=np.float32).reshape(-1), pixels + places)

    @property
    def clips(self) -> bool:
        """Whether values are clipped to 0..1 after scaling."""
        return self.method == "percentile"


def present_channels(statistics: np.ndarray) -> np.ndarray:
    """Which channels are not black throughout, bool (N, C), from the :data:`STATISTICS` (N, C, 4)."""
    return np.asarray((statistics[..., :2] != 0).any(axis=-1))


def _mean_of_present(values: np.ndarray, present: np.ndarray) -> np.ndarray:
    """The mean of each channel (C,) over the images (N, C) that have it."""
    return np.asarray(values.mean(axis=0) if present.all() else values.mean(axis=0, where=present))


PERCENTILES = (1, 10, 20, 30, 40, 50, 60, 70, 80, 90, 99)
"""Percentiles of the foreground. 0 and 100 are left out because noise determines them (Nyul et al. 2000)."""


def landmarks_of(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """The :data:`PERCENTILES` of the foreground of a channel of any shape, that is of the values above the mean."""
    foreground = values[values > values.mean()]
    return np.percentile(foreground if foreground.size else values, PERCENTILES)


def standard_scale(landmarks: NDArray[np.floating]) -> NDArray[np.float64]:
    """The mean landmarks, after those of each image were scaled to a common first and last landmark.

    Args:
        landmarks: (N, ..., landmarks), of the training set only.

    Returns:
        (..., landmarks), in rising order.
    """
    first, last = landmarks[..., :1], landmarks[..., -1:]
    fraction = (landmarks - first) / np.maximum(last - first, 1e-6)
    low, high = first.mean(axis=0), last.mean(axis=0)
    return np.asarray(low + fraction.mean(axis=0) * (high - low), dtype=np.float64)


def map_to_scale(
    values: NDArray[np.float32], landmarks: Sequence[float], standard: Sequence[float]
) -> NDArray[np.float32]:
    """Map values in 0..1 so that the landmarks of an image become the standard ones, linearly in between and beyond."""
    own, wanted = _rising(landmarks, standard)
    if len(own) < 2:
        return values
    slope = (wanted[-1] - wanted[0]) / (own[-1] - own[0])
    below = wanted[0] + (values - own[0]) * slope
    above = wanted[-1] + (values - own[-1]) * slope
    inside = np.interp(values, own, wanted)
    mapped = np.where(values < own[0], below, np.where(values > own[-1], above, inside))
    return np.clip(mapped, 0, 1).astype(np.float32)


def _rising(landmarks: Sequence[float], standard: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Landmarks and standard without those that coincide, as happens in images with few gray values."""
    own, wanted = np.asarray(landmarks, dtype=np.float64), np.asarray(standard, dtype=np.float64)
    keep = np.concatenate([[True], np.diff(own) > 1e-6])
    return own[keep], wanted[keep]
