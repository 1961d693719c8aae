"""Base class of random steps: a draw of plain values, and its deterministic application."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeVar

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from gyrus.transforms.augmentation.random_streams import Floats, Streams

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Draw = Mapping[str, np.ndarray]
"""Drawn values: named arrays with one row per image. ``applied``, bool (B,), marks the images that are changed."""

Axes = Literal["in-plane", "all"]
"""Rows and columns only, or also across slices; the same for 2D images."""

Number = TypeVar("Number", int, float)


def in_order(ends: tuple[Number, Number]) -> tuple[Number, Number]:
    """Refuse a range whose lower end is not first."""
    if ends[0] > ends[1]:
        raise ValueError(f"the lower end must come first, got {ends[0]} and {ends[1]}")
    return ends


Fraction = Annotated[float, Field(ge=0, le=1)]
NotNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]

Range = Annotated[tuple[float, float], AfterValidator(in_order)]
NotNegativeRange = Annotated[tuple[NotNegative, NotNegative], AfterValidator(in_order)]
FactorRange = Annotated[tuple[Positive, Positive], AfterValidator(in_order)]
FractionRange = Annotated[tuple[Fraction, Fraction], AfterValidator(in_order)]


class RandomStep(BaseModel):
    """One random step on images in 0..1, 2D or 3D.

    Attributes:
        may_change_meaning: Why the step may change the meaning of an image; empty if it cannot.
        is_graded: Whether the step has a strength, or is only applied or not.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)

    may_change_meaning: ClassVar[str] = ""
    is_graded: ClassVar[bool] = True

    probability: Fraction = Field(1.0, description="fraction of the images that are changed")

    def draw(self, streams: Streams, shape: Sequence[int], strength: float | None = None) -> Draw:
        """Draw the parameters for each image.

        Args:
            streams: B rows.
            shape: The spatial shape of the images.
            strength: None draws from the ranges of the step. A number in 0..1 changes every image by exactly this
                fraction of the way from no change to an end of the range, and only draws the end at random.
        """
        chance = streams.uniform()
        applied = chance < self.probability if strength is None else np.ones(len(streams), dtype=bool)
        return {"applied": applied, **self._amounts(streams, shape, strength)}

    def apply(self, images: Tensor, draw: Draw) -> Tensor:
        """Apply a draw to images.

        Args:
            images: (B, C, *spatial), in 0..1; never modified.
            draw: B rows.

        Returns:
            Images of the same shape and type, not clipped to 0..1.
        """
        rows = np.flatnonzero(draw["applied"])
        if len(rows) == 0:
            return images
        if len(rows) == len(images):
            return self._changed(images, draw)
        some = {name: values[rows] for name, values in draw.items()}
        return with_rows(images.clone(), rows, self._changed(rows_of(images, rows), some))

    def _amounts(self, streams: Streams, shape: Sequence[int], strength: float | None) -> dict[str, np.ndarray]:
        """The values of a draw except ``applied``; every row draws the same number of values."""
        raise NotImplementedError

    def _changed(self, images: Tensor, draw: Draw) -> Tensor:
        """The changed images, in new memory; all images are to be changed."""
        raise NotImplementedError


def between(streams: Streams, ends: Sequence[float], strength: float | None, *, neutral: float, count: int) -> Floats:
    """Amounts in a range, (B, count).

    Args:
        streams: B rows.
        ends: The range.
        strength: None draws within the range; a number in 0..1 is the fraction of the way from ``neutral`` to an end:
            the further one, or one drawn at random if ``neutral`` lies between them.
        neutral: The amount that changes nothing.
        count: Number of amounts per row.
    """
    places = streams.uniforms(count)
    if strength is None:
        return ends[0] + (ends[1] - ends[0]) * places
    further = ends[0] if abs(ends[0] - neutral) > abs(ends[1] - neutral) else ends[1]
    end = np.where(places < 0.5, *ends) if ends[0] < neutral < ends[1] else np.full(places.shape, further)
    return neutral + strength * (end - neutral)


def one_between(streams: Streams, ends: Sequence[float], strength: float | None, *, neutral: float) -> Floats:
    """One amount per image in a range, (B,); see :func:`between`."""
    return between(streams, ends, strength, neutral=neutral, count=1)[:, 0]


def around(streams: Streams, most: float, strength: float | None, count: int) -> Floats:
    """Amounts in -most..most, (B, count); 0 changes nothing."""
    return between(streams, (-most, most), strength, neutral=0.0, count=count)


def per_image(values: np.ndarray, images: Tensor) -> Tensor:
    """One value per image, (B,), as a tensor that broadcasts over images (B, C, *spatial)."""
    return like(values, images).view(-1, *[1] * (images.ndim - 1))


def along_axis(values: Any, images: Tensor, axis: int) -> Tensor:
    """Values (B, n) or (n,) along a spatial axis, broadcasting over images (B, C, *spatial)."""
    tensor = like(values, images)
    shape = [tensor.shape[0] if tensor.ndim == 2 else 1, *[1] * (images.ndim - 1)]
    shape[axis + 2] = tensor.shape[-1]
    return tensor.view(shape)


def axes_of(axes: Axes, dimensions: int) -> range:
    """The spatial axes of a step; the last two are rows and columns."""
    return range(dimensions - 2, dimensions) if axes == "in-plane" else range(dimensions)


def like(values: Any, images: Tensor) -> Tensor:
    """Numbers as a tensor of the type of the images, on their device."""
    import torch

    return on_device(torch.as_tensor(values).to(images.dtype), images.device)


def on_device(values: Tensor, device: torch.device) -> Tensor:
    """Move a tensor from the CPU to a device. The CPU does not wait for the GPU, as it does without pinned memory."""
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values.to(device)


def rows_of(images: Tensor, rows: np.ndarray) -> Tensor:
    """Some images of a batch, in new memory."""
    return images.index_select(0, _index(rows, images.device))


def with_rows(images: Tensor, rows: np.ndarray, values: Tensor) -> Tensor:
    """The same tensor after some of its images were replaced."""
    return images.index_copy_(0, _index(rows, images.device), values)


def _index(rows: np.ndarray, device: torch.device) -> Tensor:
    import torch

    return on_device(torch.from_numpy(rows), device)
