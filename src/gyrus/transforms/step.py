"""Base classes of deterministic steps: on images, on each channel of an image, and on volumes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from gyrus.imaging.volume import Volume

PositiveInt = Annotated[int, Field(gt=0)]


class ImageStep(BaseModel):
    """A deterministic step on an image; every field is part of the store's key."""

    model_config = ConfigDict(extra="forbid", frozen=True)

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


class VolumeStep(BaseModel):
    """A deterministic step on a volume; every field is part of the store's key."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def __call__(self, volume: Volume) -> Volume:
        """Apply; returns a new volume."""
        raise NotImplementedError
