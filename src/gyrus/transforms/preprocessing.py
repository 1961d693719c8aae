"""Deterministic steps from a decoded image to the network's input.

Two halves. The **steps** (colour, size, crop, enhancement) run once, on 8-bit pixels, and their result is stored. The
**intensity** scaling is affine for every image, ``(x - shift) / scale``, so the store keeps four numbers an image and
channel instead of a second, larger copy of the pixels; what is fitted on a data set is fitted on its training set only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from gyrus.errors import DataError
from gyrus.transforms.contrast_enhancement import N4, Clahe, Equalise, MinMax, NonLocalMeans
from gyrus.transforms.histogram_standardisation import landmarks_of, map_to_scale, standard_scale
from gyrus.transforms.image_step import Step
from gyrus.transforms.tissue_maps import Tissue
from gyrus.transforms.volume_steps import AnyVolumeStep, Percentiles, require_intensity

PositiveInt = Annotated[int, Field(gt=0)]
Size = tuple[PositiveInt, PositiveInt]


class Grayscale(Step):
    """One channel: luma of ITU-R BT.601 in integers, as Pillow's "L"."""

    step: Literal["grayscale"] = "grayscale"

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """(1 or 3, rows, columns) to (1, rows, columns)."""
        if image.shape[0] == 1:
            return image
        red, green, blue = image.astype(np.int64)
        luma = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16
        return luma[None].astype(image.dtype)


class Rgb(Step):
    """Three channels; a gray image is repeated, as networks with three-channel weights expect."""

    step: Literal["rgb"] = "rgb"

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """(1 or 3, rows, columns) to (3, rows, columns)."""
        return image if image.shape[0] == 3 else np.repeat(image, 3, axis=0)


class Resize(Step):
    """Another size, with antialiasing (Pillow's filters)."""

    step: Literal["resize"] = "resize"
    size: Size = Field(description="rows, columns")
    aspect: Literal["pad", "crop", "stretch"] = Field(
        "pad", description="keep the aspect and pad with zeros, keep it and cut what stands out, or give it up"
    )
    interpolation: Literal["nearest", "bilinear", "bicubic"] = "bilinear"

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """(C, rows, columns) to (C, *size)."""
        rows, columns = image.shape[1:]
        if (rows, columns) == self.size:
            return image
        target = self.size
        if self.aspect != "stretch":
            ratios = (self.size[0] / rows, self.size[1] / columns)
            ratio = min(ratios) if self.aspect == "pad" else max(ratios)
            target = (max(1, round(rows * ratio)), max(1, round(columns * ratio)))
        from PIL import Image

        filtering = Image.Resampling[self.interpolation.upper()]
        resized = np.stack([np.asarray(Image.fromarray(channel).resize(target[::-1], filtering)) for channel in image])
        return _centre(resized, self.size)


class Pad(Step):
    """Zeros around the image, evenly on both sides, up to a size; larger images are refused."""

    step: Literal["pad"] = "pad"
    size: Size = Field(description="rows, columns")

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """(C, rows, columns) to (C, *size)."""
        if image.shape[1] > self.size[0] or image.shape[2] > self.size[1]:
            raise DataError(
                f"An image of {image.shape[1]} x {image.shape[2]} does not fit into pad size "
                f"{self.size[0]} x {self.size[1]}. Use a larger size, or a resize step before."
            )
        return _centre(image, self.size)


class Crop(Step):
    """The centre of the image; smaller images are refused."""

    step: Literal["crop"] = "crop"
    size: Size = Field(description="rows, columns")

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """(C, rows, columns) to (C, *size)."""
        if image.shape[1] < self.size[0] or image.shape[2] < self.size[1]:
            raise DataError(
                f"An image of {image.shape[1]} x {image.shape[2]} is smaller than crop size "
                f"{self.size[0]} x {self.size[1]}. Use a smaller size, or a pad or resize step before."
            )
        return _centre(image, self.size)


STEPS = {
    "grayscale": Grayscale,
    "rgb": Rgb,
    "resize": Resize,
    "pad": Pad,
    "crop": Crop,
    "min-max": MinMax,
    "equalise": Equalise,
    "clahe": Clahe,
    "non-local-means": NonLocalMeans,
    "n4": N4,
    "tissue": Tissue,
}

AnyStep = Annotated[
    Grayscale | Rgb | Resize | Pad | Crop | MinMax | Equalise | Clahe | NonLocalMeans | N4 | Tissue,
    Field(discriminator="step"),
]


class IntensityScaling(BaseModel):
    """How gray values are scaled, last of all; pixels come as value / 255."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Literal["fixed", "zscore", "dataset", "percentile", "histogram"] = Field(
        "dataset",
        description="fixed: given mean and std; zscore: of each image; dataset: mean and std a channel of the train "
        "part; percentile: of each image, to 0..1, clipped; histogram: gray values of each image mapped to the mean "
        "histogram of the training set (Nyul and Udupa), then given mean and std",
    )
    mean: tuple[float, ...] = Field((0.0,), description="one value, or one a channel, of pixels in 0..1 (fixed)")
    std: tuple[Annotated[float, Field(gt=0)], ...] = Field((1.0,), description="likewise (fixed)")
    low: float = Field(0.5, ge=0, le=100, description="lower percentile (percentile)")
    high: float = Field(99.5, ge=0, le=100, description="upper percentile (percentile)")

    @model_validator(mode="after")
    def _low_below_high(self) -> IntensityScaling:
        if self.low >= self.high:
            raise ValueError(f"low must be below high, got {self.low} and {self.high}")
        return self


class PreprocessingConfig(BaseModel):
    """Every deterministic step, in order, and the intensity scaling behind them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    volume: tuple[AnyVolumeStep, ...] = Field(
        (Percentiles(),), description="steps of volumes in mm, before they become slices of 8 bits"
    )
    steps: tuple[AnyStep, ...] = (Grayscale(), Resize(size=(128, 128)))
    intensity: IntensityScaling = IntensityScaling()

    @model_validator(mode="after")
    def _volumes_become_pixels(self) -> PreprocessingConfig:
        require_intensity(self.volume)
        return self

    def apply(self, image: np.ndarray) -> np.ndarray:
        """Run the steps on one image (C, rows, columns) or a stack (C, slices, rows, columns), most slice by slice."""
        for step in self.steps:
            if image.ndim == 3 or step.whole_stack:
                image = step(image)
            else:
                image = np.stack([step(image[:, number]) for number in range(image.shape[1])], axis=1)
        return np.ascontiguousarray(image)

    def showing_the_head(self) -> PreprocessingConfig:
        """The same without the steps after which the head can no longer be seen; itself where there are none."""
        steps = tuple(step for step in self.steps if step.shows_head)
        return self if steps == self.steps else self.model_copy(update={"steps": steps})


STATISTICS = ("mean", "std", "low", "high")
"""What the store keeps of each image and channel, of pixels in 0..1; low and high are the intensity's percentiles."""

SMALLEST_SCALE = 1e-6

_COUNTED_AT_ONCE = 1 << 16


def image_statistics(image: np.ndarray, intensity: IntensityScaling) -> np.ndarray:
    """The numbers :data:`STATISTICS` of an image (C, *spatial) uint8, as float32 (C, 4).

    Of the method "histogram" the landmarks of the histogram stand behind them.
    """
    rows = []
    for channel in image.reshape(image.shape[0], -1):
        # Counting takes eight bytes a pixel for a moment; by blocks, large volumes do not need it all at once.
        blocks = range(0, max(1, len(channel)), _COUNTED_AT_ONCE)
        counts = sum(np.bincount(channel[start : start + _COUNTED_AT_ONCE], minlength=256) for start in blocks)
        row = _statistics_of_counts(np.asarray(counts), (intensity.low, intensity.high))
        rows.append([*row, *(landmarks_of(channel / 255.0) if intensity.method == "histogram" else ())])
    return np.array(rows, dtype=np.float32)


def _statistics_of_counts(counts: np.ndarray, percentiles: tuple[float, float]) -> list[float]:
    """The same as from the pixels, of which 256 values are known to occur how often: many times quicker."""
    values, total = np.arange(256) / 255.0, counts.sum()
    mean = counts @ values / total
    std = np.sqrt(counts @ (values - mean) ** 2 / total)
    ends = np.cumsum(counts)
    places = np.array(percentiles) / 100 * (total - 1)
    below, above = (values[np.searchsorted(ends, whole(places), side="right")] for whole in (np.floor, np.ceil))
    return [mean, std, *(below + (above - below) * (places % 1))]


@dataclass(frozen=True)
class Normalisation:
    """Intensity scaling with everything known that it needs: ``(x - shift) / scale`` of pixels x in 0..1.

    Attributes:
        method: As in :class:`IntensityScaling`.
        mean: One value a channel; used by "fixed" and "dataset".
        std: Likewise.
        standard: The mean landmarks of the training set, one tuple a channel; used by "histogram".
    """

    method: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    standard: tuple[tuple[float, ...], ...] = ()

    @classmethod
    def fit(cls, intensity: IntensityScaling, statistics: np.ndarray) -> Normalisation:
        """Fit on the images of the training set.

        Args:
            intensity: The method.
            statistics: (N, C, 4), rows of the training set only; see :data:`STATISTICS`.

        Raises:
            DataError: The number of given means is not that of the channels.
        """
        channels = statistics.shape[1]
        if intensity.method == "dataset":
            mean = statistics[..., 0].astype(np.float64).mean(axis=0)
            # All images have the same number of pixels, so their moments average to those of the whole part.
            square = (statistics[..., 1].astype(np.float64) ** 2 + statistics[..., 0].astype(np.float64) ** 2).mean(0)
            std = np.sqrt(np.maximum(square - mean**2, 0))
            return cls("dataset", tuple(mean.tolist()), tuple(np.maximum(std, SMALLEST_SCALE).tolist()))
        given = intensity.mean, intensity.std
        if any(len(values) not in (1, channels) for values in given):
            raise DataError(
                f"intensity.mean and intensity.std need 1 or {channels} values for images of {channels} channels, "
                f"got {len(given[0])} and {len(given[1])}."
            )
        mean, std = (np.broadcast_to(values, channels) for values in given)
        standard: tuple[tuple[float, ...], ...] = ()
        if intensity.method == "histogram":
            standard = tuple(map(tuple, standard_scale(statistics[..., len(STATISTICS) :]).tolist()))
        return cls(intensity.method, tuple(map(float, mean)), tuple(map(float, std)), standard)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Normalisation:
        """The way back from :func:`dataclasses.asdict` through JSON."""
        standard = tuple(map(tuple, document.get("standard", ())))
        return cls(document["method"], tuple(document["mean"]), tuple(document["std"]), standard)

    def to_standard_scale(self, images: np.ndarray, statistics: np.ndarray) -> np.ndarray:
        """Map gray values to the histogram of the training set, where the method is "histogram"; else nothing changes.

        Args:
            images: float32 (N, C, *spatial), pixels in 0..1.
            statistics: (N, C, 4 + landmarks).
        """
        if not self.standard:
            return images
        own = statistics[..., len(STATISTICS) :]
        return np.stack(
            [
                [map_to_scale(*one) for one in zip(image, landmarks, self.standard, strict=True)]
                for image, landmarks in zip(images, own, strict=True)
            ]
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

    @property
    def clips(self) -> bool:
        """Whether values are cut to 0..1 after scaling."""
        return self.method == "percentile"


def _centre(image: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Cut or pad each axis evenly to ``size``; an odd pixel goes to the end."""
    for axis, wanted in enumerate(size, start=1):
        present = image.shape[axis]
        if present > wanted:
            start = (present - wanted) // 2
            image = np.take(image, range(start, start + wanted), axis=axis)
        elif present < wanted:
            before = (wanted - present) // 2
            width = [(0, 0)] * image.ndim
            width[axis] = (before, wanted - present - before)
            image = np.pad(image, width)
    return image
