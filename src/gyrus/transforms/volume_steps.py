"""Deterministic steps on volumes, in mm and in scanner units, before they become 8-bit pixels.

Sizes and spacings are in the order of the network's input: slices from the bottom up, rows from the front, columns from
the subject's right. Every volume is in RAS+ already, so there is no step for orientation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from gyrus.configuration import Section
from gyrus.errors import DataError
from gyrus.imaging.resampling import crop, resample
from gyrus.transforms.bias_field import ITERATIONS, LEVELS, ImageN4
from gyrus.transforms.image_steps import PositiveInt, steps_by_name

if TYPE_CHECKING:
    from gyrus.imaging.volume import Volume

Length = Annotated[float, Field(gt=0)]
Where = Literal["all", "mask"]

_WITHIN = "all voxels, or those in the mask of an earlier step"
_SPLINES = {"nearest": 0, "linear": 1, "cubic": 3}


class VolumeStep(Section):
    """A deterministic step on a volume; every field is part of the store's key."""

    def __call__(self, volume: Volume) -> Volume:
        """Apply; returns a new volume."""
        raise NotImplementedError


class Resample(VolumeStep):
    """Resample to another voxel size over the same field of view, smoothed first where voxels grow."""

    step: Literal["resample"] = "resample"
    spacing: tuple[Length, Length, Length] = Field((1.0, 1.0, 1.0), description="mm between slices, rows, columns")
    interpolation: Literal["nearest", "linear", "cubic"] = Field("linear", description="how new voxels are computed")

    def __call__(self, volume: Volume) -> Volume:
        """Resample values and mask."""
        return resample(volume, self.spacing[::-1], order=_SPLINES[self.interpolation])


class FindMask(VolumeStep):
    """Find the head or the brain for later steps; optionally set voxels outside to zero."""

    step: Literal["mask"] = "mask"
    of: Literal["head", "brain"] = Field("brain", description="what is inside the mask")
    tool: Literal["classical", "hd-bet", "synthstrip"] = Field(
        "classical", description="built in, or an installed program (brains only)"
    )
    outside: Literal["keep", "zero"] = Field(
        "keep", description="whether voxels outside the mask are kept or set to zero"
    )

    @model_validator(mode="after")
    def _tools_find_brains(self) -> FindMask:
        if self.of == "head" and self.tool != "classical":
            raise ValueError(f"{self.tool} finds brains, not heads; use tool: classical")
        return self

    def __call__(self, volume: Volume) -> Volume:
        """Set the mask.

        Raises:
            MissingDependencyError: The program is not installed.
            DataError: The program fails.
        """
        from gyrus.imaging.brain_masks import brain_mask, external_mask, head_mask

        if self.tool != "classical":
            mask = external_mask(volume, self.tool)
        else:
            mask = head_mask(volume) if self.of == "head" else brain_mask(volume)
        return self.masked(volume, mask)

    def masked(self, volume: Volume, mask: np.ndarray) -> Volume:
        """The volume with a mask that was found in it, or in another channel."""
        return volume.replaced(np.where(mask, volume.array, 0) if self.outside == "zero" else volume.array, mask=mask)


class CropToMask(VolumeStep):
    """Crop to the smallest box around the mask, with a margin."""

    step: Literal["crop-to-mask"] = "crop-to-mask"
    margin: float = Field(5.0, ge=0, description="mm on every side, within the volume")

    def __call__(self, volume: Volume) -> Volume:
        """Crop values and mask.

        Raises:
            DataError: No earlier step has found a mask.
        """
        places = np.nonzero(_mask_of(volume, self.step))
        if not len(places[0]):
            return volume
        margins = [round(self.margin / length) for length in volume.spacing]
        start = [max(0, int(place.min()) - margin) for place, margin in zip(places, margins, strict=True)]
        end = [
            min(length, int(place.max()) + 1 + margin)
            for place, margin, length in zip(places, margins, volume.shape, strict=True)
        ]
        return crop(volume, start, [last - first for first, last in zip(start, end, strict=True)], 0.0)


class Shape(VolumeStep):
    """Crop or pad to a number of voxels along each axis, evenly on both sides; padding is the darkest value."""

    step: Literal["shape"] = "shape"
    size: tuple[PositiveInt, PositiveInt, PositiveInt] = Field(description="slices, rows, columns")
    centre: Literal["grid", "mask"] = Field("grid", description="centre of the volume, or of the mask")

    def __call__(self, volume: Volume) -> Volume:
        """Crop and pad values and mask.

        Raises:
            DataError: The centre is that of the mask, and no earlier step has found one.
        """
        size = self.size[::-1]
        start = [(present - wanted) // 2 for present, wanted in zip(volume.shape, size, strict=True)]
        if self.centre == "mask":
            places = np.nonzero(_mask_of(volume, self.step))
            if len(places[0]):
                middles = [(int(place.min()) + int(place.max()) + 1) // 2 for place in places]
                start = [middle - wanted // 2 for middle, wanted in zip(middles, size, strict=True)]
        return crop(volume, start, size, float(volume.array.min()))


class VolumeN4(VolumeStep):
    """N4 bias field correction of the whole volume."""

    step: Literal["n4"] = "n4"
    shrink: PositiveInt = Field(4, description="factor by which the volume is reduced to estimate the field")
    levels: PositiveInt = Field(4, description=LEVELS)
    iterations: PositiveInt = Field(50, description=ITERATIONS)

    def __call__(self, volume: Volume) -> Volume:
        """Correct the values.

        Raises:
            MissingDependencyError: SimpleITK is not installed.
            DataError: The volume is too small, or N4 fails for another reason.
        """
        correct = ImageN4(shrink=self.shrink, levels=self.levels, iterations=self.iterations)
        return volume.replaced(correct(volume.array[None])[0])


class IntensityStep(VolumeStep):
    """A step that scales gray values to 0..1; each has the fields ``low`` and ``high``."""

    if TYPE_CHECKING:
        low: float
        high: float

    @model_validator(mode="after")
    def _low_below_high(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low must be below high, got {self.low} and {self.high}")
        return self

    def bounds(self, volume: Volume) -> tuple[float, float]:
        """The values that become 0 and 1."""
        raise NotImplementedError

    def __call__(self, volume: Volume) -> Volume:
        """Scale and clip to 0..1; a constant volume becomes 0."""
        low, high = self.bounds(volume)
        if not high > low:
            return volume.replaced(np.zeros_like(volume.array))
        scaled = volume.array - low
        scaled /= high - low
        return volume.replaced(np.clip(scaled, 0, 1, out=scaled))


class Percentiles(IntensityStep):
    """Scale from a low to a high percentile."""

    step: Literal["percentiles"] = "percentiles"
    low: float = Field(0.5, ge=0, le=100, description="percentile that becomes black")
    high: float = Field(99.5, ge=0, le=100, description="percentile that becomes white")
    within: Where = Field("all", description=_WITHIN)

    def bounds(self, volume: Volume) -> tuple[float, float]:
        """The percentiles."""
        low, high = np.percentile(_values(volume, self.within, self.step), [self.low, self.high])
        return float(low), float(high)


class ZScore(IntensityStep):
    """Z-scores within the mask, clipped to a range that becomes 0..1.

    A pixel p has the z-score low + p * (high - low); ``intensity: {method: fixed}`` with mean -low / (high - low) and
    std 1 / (high - low) restores the z-scores for the network.
    """

    step: Literal["zscore"] = "zscore"
    low: float = Field(-3.0, description="z-score that becomes black")
    high: float = Field(5.0, description="z-score that becomes white")
    within: Where = Field("mask", description=_WITHIN)

    def bounds(self, volume: Volume) -> tuple[float, float]:
        """Mean plus low and high standard deviations."""
        values = _values(volume, self.within, self.step)
        mean, std = float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))
        return mean + self.low * std, mean + self.high * std


class Window(IntensityStep):
    """Scale between two gray values, the same for every volume: for CT, and for 8-bit volumes (0 and 255)."""

    step: Literal["window"] = "window"
    low: float = Field(0.0, description="gray value that becomes black")
    high: float = Field(255.0, description="gray value that becomes white")

    def bounds(self, volume: Volume) -> tuple[float, float]:  # noqa: ARG002
        """The two gray values."""
        return self.low, self.high


AnyVolumeStep = Annotated[
    Resample | FindMask | CropToMask | Shape | VolumeN4 | Percentiles | ZScore | Window, Field(discriminator="step")
]

VOLUME_STEPS = steps_by_name(AnyVolumeStep)
"""The steps by name."""


def apply_steps(volume: Volume, steps: Sequence[VolumeStep]) -> Volume:
    """Apply the steps in order."""
    return apply_to_channels([volume], steps)[0]


def apply_to_channels(channels: Sequence[Volume], steps: Sequence[VolumeStep]) -> list[Volume]:
    """Apply the steps in order to the channels of a sample, which are on one grid.

    The first channel decides on everything about space: a mask that is found in it holds for all. Gray values are
    scaled for each channel by itself.
    """
    first, *others = channels
    for step in steps:
        first = step(first)
        if isinstance(step, FindMask):
            assert first.mask is not None
            others = [step.masked(other, first.mask) for other in others]
        else:
            others = [step(other) for other in others]
    return [first, *others]


def to_pixels(volume: Volume) -> np.ndarray:
    """uint8 (1, slices, rows, columns), bottom to top, of gray values in 0..1; values outside are clipped."""
    levels = np.clip(volume.slices(), 0, 1)
    levels *= 255
    return np.ascontiguousarray(np.rint(levels, out=levels).astype(np.uint8)[None])


def require_intensity(steps: Sequence[VolumeStep]) -> None:
    """Refuse steps that do not produce gray values in 0..1.

    Raises:
        ValueError: No step scales to 0..1, or N4 comes after it.
    """
    scaling = [number for number, step in enumerate(steps) if isinstance(step, IntensityStep)]
    if not scaling:
        raise ValueError("add a step that scales gray values to 0..1: percentiles, zscore or window")
    if any(isinstance(step, VolumeN4) for step in steps[scaling[0] :]):
        raise ValueError("n4 needs the gray values of the scanner: put it before percentiles, zscore and window")


def _mask_of(volume: Volume, step: str) -> np.ndarray:
    if volume.mask is None:
        raise DataError(
            f"The step '{step}' needs a mask. Put a step that finds one before it: {{step: mask, of: brain}}."
        )
    return volume.mask


def _values(volume: Volume, within: Where, step: str) -> np.ndarray:
    if within == "all":
        return volume.array
    inside = volume.array[_mask_of(volume, step)]
    return inside if inside.size else volume.array
