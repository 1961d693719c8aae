"""Deterministic steps on images: their base classes, and the steps of colour and size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from gyrus.configuration import Section
from gyrus.errors import DataError

PositiveInt = Annotated[int, Field(gt=0)]
Size = tuple[PositiveInt, PositiveInt]

_PIXELS_AT_ONCE = 1 << 20


def steps_by_name(union: Any) -> dict[str, Any]:
    """The classes of a union of steps, ``Annotated[A | B, ...]``, by the names that configs use."""
    return {kind.model_fields["step"].default: kind for kind in get_args(get_args(union)[0])}


class ImageStep(Section):
    """A deterministic step on an image; every field is part of the store's key."""

    whole_stack: ClassVar[bool] = False
    """Whether the step receives all slices of a stack at once, (C, slices, rows, columns), instead of one by one."""

    shows_head: ClassVar[bool] = True
    """Whether the head is still visible after the step; pictures and masks of the head leave out steps that hide it."""

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Apply to an image (C, rows, columns); returns a new array of the same type."""
        raise NotImplementedError


class ChannelStep(ImageStep):
    """A step that enhances each channel of an image or volume by itself and keeps shape and type.

    Unsigned integers are scaled by the largest value of their type; other types by the range of the channel. A constant
    channel is returned unchanged.
    """

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Apply to (C, rows, columns) or (C, planes, rows, columns)."""
        return np.stack([self._enhance_channel(channel) for channel in image])

    def enhance(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Enhance one channel with values in 0..1, at least two of them distinct; returns values in 0..1."""
        raise NotImplementedError

    def _enhance_channel(self, channel: np.ndarray) -> np.ndarray:
        if channel.min() == channel.max():
            return channel.copy()
        whole = np.issubdtype(channel.dtype, np.integer)
        unsigned = np.issubdtype(channel.dtype, np.unsignedinteger)
        low, high = (0, np.iinfo(channel.dtype).max) if unsigned else (float(channel.min()), float(channel.max()))
        enhanced = np.clip(self.enhance((channel.astype(np.float64) - low) / (high - low)), 0, 1)
        values = low + enhanced * (high - low)
        return (np.rint(values) if whole else values).astype(channel.dtype)


class Grayscale(ImageStep):
    """One channel: luma of ITU-R BT.601 in integers, as Pillow's "L"."""

    step: Literal["grayscale"] = "grayscale"

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """(1 or 3, rows, columns) to (1, rows, columns)."""
        if image.shape[0] == 1:
            return image
        gray = np.empty_like(image[:1])
        # A few rows at a time, because the integers take 32 bytes per pixel.
        step = max(1, _PIXELS_AT_ONCE // image.shape[2])
        for start in range(0, image.shape[1], step):
            red, green, blue = image[:, start : start + step].astype(np.int64)
            gray[0, start : start + step] = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16
        return gray


class Rgb(ImageStep):
    """Three channels; a gray image is repeated, as networks with three-channel weights expect."""

    step: Literal["rgb"] = "rgb"

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """(1 or 3, rows, columns) to (3, rows, columns)."""
        return image if image.shape[0] == 3 else np.repeat(image, 3, axis=0)


class Resize(ImageStep):
    """Resize with antialiasing (Pillow's filters)."""

    step: Literal["resize"] = "resize"
    size: Size = Field(description="rows, columns")
    aspect: Literal["pad", "crop", "stretch"] = Field(
        "pad", description="pad: keep the aspect and pad with zeros; crop: keep it and crop; stretch: change it"
    )
    interpolation: Literal["nearest", "bilinear", "bicubic"] = Field(
        "bilinear", description="how new pixels are computed"
    )

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """(C, rows, columns) to (C, *size)."""
        from PIL import Image

        rows, columns = image.shape[1:]
        if (rows, columns) == self.size:
            return image
        target = self.size
        if self.aspect != "stretch":
            ratios = (self.size[0] / rows, self.size[1] / columns)
            ratio = min(ratios) if self.aspect == "pad" else max(ratios)
            target = (max(1, round(rows * ratio)), max(1, round(columns * ratio)))
        filtering = Image.Resampling[self.interpolation.upper()]
        resized = np.stack([np.asarray(Image.fromarray(channel).resize(target[::-1], filtering)) for channel in image])
        return _crop_or_pad(resized, self.size)


class Pad(ImageStep):
    """Pad with zeros evenly on both sides to a size; larger images are refused."""

    step: Literal["pad"] = "pad"
    size: Size = Field(description="rows, columns")

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """(C, rows, columns) to (C, *size)."""
        if image.shape[1] > self.size[0] or image.shape[2] > self.size[1]:
            raise DataError(
                f"An image of {image.shape[1]} x {image.shape[2]} does not fit into pad size "
                f"{self.size[0]} x {self.size[1]}. Use a larger size, or a resize step before."
            )
        return _crop_or_pad(image, self.size)


class Crop(ImageStep):
    """Crop to the centre of the image; smaller images are refused."""

    step: Literal["crop"] = "crop"
    size: Size = Field(description="rows, columns")

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """(C, rows, columns) to (C, *size)."""
        if image.shape[1] < self.size[0] or image.shape[2] < self.size[1]:
            raise DataError(
                f"An image of {image.shape[1]} x {image.shape[2]} is smaller than crop size "
                f"{self.size[0]} x {self.size[1]}. Use a smaller size, or a pad or resize step before."
            )
        return _crop_or_pad(image, self.size)


def _crop_or_pad(image: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Crop or pad each axis evenly to ``size``; an odd pixel goes to the end."""
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
