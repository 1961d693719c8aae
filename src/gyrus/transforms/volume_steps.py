"""Deterministic steps of volumes, in millimetres and in the units of the scanner, before they become pixels.

Sizes and spacings are given as the network sees a volume: slices from the bottom up, rows from the front, columns from
the person's right. Every volume comes as RAS+, so there is no step for that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from gyrus.errors import DataError
from gyrus.imaging.resampling import cut, resample
from gyrus.transforms.contrast_enhancement import N4

if TYPE_CHECKING:
    from gyrus.imaging.volume import Volume

Length = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(gt=0)]
Where = Literal["all", "mask"]

_WITHIN = "count all voxels, or those of the mask that a step before has found"
_SPLINES = {"nearest": 0, "linear": 1, "cubic": 3}


class VolumeStep(BaseModel):
    """One deterministic step; every field is part of the store's key."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def __call__(self, volume: Volume) -> Volume:
        """Apply; gives a new volume."""
        raise NotImplementedError


class Resample(VolumeStep):
    """Another size of voxels over the same field of view, smoothed before where they grow."""

    step: Literal["resample"] = "resample"
    spacing: tuple[Length, Length, Length] = Field((1.0, 1.0, 1.0), description="mm between slices, rows, columns")
    interpolation: Literal["nearest", "linear", "cubic"] = "linear"

    def __call__(self, volume: Volume) -> Volume:
        """Resample values and mask."""
        return resample(volume, self.spacing[::-1], order=_SPLINES[self.interpolation])


class FindMask(VolumeStep):
    """Find the head or the brain, for the steps behind; and blacken what is outside, if asked for."""

    step: Literal["mask"] = "mask"
    of: Literal["head", "brain"] = "brain"
    tool: Literal["classical", "hd-bet", "synthstrip"] = Field(
        "classical", description="built in, or a program that you have installed (brains only)"
    )
    outside: Literal["keep", "zero"] = Field("keep", description="what becomes of the voxels outside")

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
        from gyrus.imaging.masks import brain_mask, head_mask
        from gyrus.imaging.skull_stripping import external_mask

        if self.tool != "classical":
            mask = external_mask(volume, self.tool)
        else:
            mask = head_mask(volume) if self.of == "head" else brain_mask(volume)
        return volume.replaced(np.where(mask, volume.array, 0) if self.outside == "zero" else volume.array, mask=mask)


class CropToMask(VolumeStep):
    """The smallest box around the mask, with a margin."""

    step: Literal["crop-to-mask"] = "crop-to-mask"
    margin: float = Field(5.0, ge=0, description="mm on every side; never beyond the volume")

    def __call__(self, volume: Volume) -> Volume:
        """Cut values and mask.

        Raises:
            DataError: No step before has found a mask.
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
        return cut(volume, start, [last - first for first, last in zip(start, end, strict=True)], 0.0)


class Shape(VolumeStep):
    """A number of voxels along each axis, by cutting and padding evenly on both sides with the darkest value."""

    step: Literal["shape"] = "shape"
    size: tuple[Count, Count, Count] = Field(description="slices, rows, columns")
    centre: Literal["grid", "mask"] = Field("grid", description="around the middle of the volume, or of the mask")

    def __call__(self, volume: Volume) -> Volume:
        """Cut and pad values and mask.

        Raises:
            DataError: The middle of the mask is asked for, and no step before has found one.
        """
        size = self.size[::-1]
        start = [(present - wanted) // 2 for present, wanted in zip(volume.shape, size, strict=True)]
        if self.centre == "mask":
            places = np.nonzero(_mask_of(volume, self.step))
            if len(places[0]):
                middles = [(int(place.min()) + int(place.max()) + 1) // 2 for place in places]
                start = [middle - wanted // 2 for middle, wanted in zip(middles, size, strict=True)]
        return cut(volume, start, size, float(volume.array.min()))


class BiasFieldCorrection(VolumeStep):
    """N4 over the whole volume: shading by the coil is taken out."""

    step: Literal["n4"] = "n4"
    shrink: Count = Field(4, description="by how much the volume is made smaller to estimate the field")
    levels: Count = Field(4, description="resolutions of the field, each twice as fine as the one before")
    iterations: Count = Field(50, description="at most so many at each level")

    def __call__(self, volume: Volume) -> Volume:
        """Correct the values.

        Raises:
            MissingDependencyError: SimpleITK is not installed.
            DataError: The volume is too small for N4.
        """
        correct = N4(shrink=self.shrink, levels=self.levels, iterations=self.iterations)
        return volume.replaced(correct(volume.array[None])[0])


class IntensityStep(VolumeStep):
    """A step that brings gray values to 0..1, where pixels are."""

    def bounds(self, volume: Volume) -> tuple[float, float]:
        """The values that become 0 and 1."""
        raise NotImplementedError

    def __call__(self, volume: Volume) -> Volume:
        """Scale and cut to 0..1; a volume of one value becomes 0."""
        low, high = self.bounds(volume)
        if not high > low:
            return volume.replaced(np.zeros_like(volume.array))
        return volume.replaced(np.clip((volume.array - low) / (high - low), 0, 1))


class Percentiles(IntensityStep):
    """From a low to a high percentile."""

    step: Literal["percentiles"] = "percentiles"
    low: float = Field(0.5, ge=0, le=100, description="percentile that becomes black")
    high: float = Field(99.5, ge=0, le=100, description="percentile that becomes white")
    within: Where = Field("all", description=_WITHIN)

    @model_validator(mode="after")
    def _low_below_high(self) -> Percentiles:
        _require_order(self.low, self.high)
        return self

    def bounds(self, volume: Volume) -> tuple[float, float]:
        """The percentiles."""
        low, high = np.percentile(_values(volume, self.within, self.step), [self.low, self.high])
        return float(low), float(high)


class ZScore(IntensityStep):
    """Mean 0 and standard deviation 1 within the mask, then cut to a range that becomes 0..1.

    A pixel p is the z-score low + p * (high - low); ``intensity: {method: fixed}`` with mean -low / (high - low) and
    std 1 / (high - low) gives the network z-scores again.
    """

    step: Literal["zscore"] = "zscore"
    low: float = Field(-3.0, description="z-score that becomes black")
    high: float = Field(5.0, description="z-score that becomes white")
    within: Where = Field("mask", description=_WITHIN)

    @model_validator(mode="after")
    def _low_below_high(self) -> ZScore:
        _require_order(self.low, self.high)
        return self

    def bounds(self, volume: Volume) -> tuple[float, float]:
        """Mean plus low and high standard deviations."""
        values = _values(volume, self.within, self.step)
        mean, std = float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))
        return mean + self.low * std, mean + self.high * std


class Window(IntensityStep):
    """Between two gray values, the same for every volume: for CT, and for volumes of 8-bit gray (0 and 255)."""

    step: Literal["window"] = "window"
    low: float = Field(0.0, description="gray value that becomes black")
    high: float = Field(255.0, description="gray value that becomes white")

    @model_validator(mode="after")
    def _low_below_high(self) -> Window:
        _require_order(self.low, self.high)
        return self

    def bounds(self, volume: Volume) -> tuple[float, float]:  # noqa: ARG002
        """As given."""
        return self.low, self.high


VOLUME_STEPS = {
    "resample": Resample,
    "mask": FindMask,
    "crop-to-mask": CropToMask,
    "shape": Shape,
    "n4": BiasFieldCorrection,
    "percentiles": Percentiles,
    "zscore": ZScore,
    "window": Window,
}
"""The steps by name."""

AnyVolumeStep = Annotated[
    Resample | FindMask | CropToMask | Shape | BiasFieldCorrection | Percentiles | ZScore | Window,
    Field(discriminator="step"),
]


def apply_steps(volume: Volume, steps: Sequence[VolumeStep]) -> Volume:
    """Run the steps in their order."""
    for step in steps:
        volume = step(volume)
    return volume


def to_pixels(volume: Volume) -> np.ndarray:
    """uint8 (1, slices, rows, columns), bottom to top, of gray values in 0..1; others are cut."""
    return np.ascontiguousarray(np.rint(np.clip(volume.slices(), 0, 1) * 255).astype(np.uint8)[None])


def require_intensity(steps: Sequence[VolumeStep]) -> None:
    """Refuse steps that do not end at gray values in 0..1.

    Raises:
        ValueError: There is no step that scales, or N4 comes behind it.
    """
    scaling = [number for number, step in enumerate(steps) if isinstance(step, IntensityStep)]
    if not scaling:
        raise ValueError("add a step that brings gray values to 0..1: percentiles, zscore or window")
    if any(isinstance(step, BiasFieldCorrection) for step in steps[scaling[0] :]):
        raise ValueError("n4 works on the gray values of the scanner: put it before percentiles, zscore and window")


def _require_order(low: float, high: float) -> None:
    if low >= high:
        raise ValueError(f"low must be below high, got {low} and {high}")


def _mask_of(volume: Volume, step: str) -> np.ndarray:
    if volume.mask is None:
        raise DataError(f"The step '{step}' needs a mask. Put a step before it: {{step: mask, of: brain}}.")
    return volume.mask


def _values(volume: Volume, within: Where, step: str) -> np.ndarray:
    if within == "all":
        return volume.array
    inside = volume.array[_mask_of(volume, step)]
    return inside if inside.size else volume.array
