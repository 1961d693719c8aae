"""What all random steps share: a draw, which is plain values, and its application, which is not random any more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeVar

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from gyrus.transforms.augmentation.random_streams import Floats, Streams

if TYPE_CHECKING:
    from torch import Tensor

Draw = Mapping[str, np.ndarray]
"""What was drawn: named arrays with one row an image. ``applied``, bool (B,), says which images are changed at all."""

Axes = Literal["in-plane", "all"]
"""Rows and columns, or also from slice to slice. Of a 2D image both say the same."""


Number = TypeVar("Number", int, float)


def in_order(ends: tuple[Number, Number]) -> tuple[Number, Number]:
    """Refuse a range whose lower end does not come first."""
    if ends[0] > ends[1]:
        raise ValueError(f"the lower end comes first, got {ends[0]} and {ends[1]}")
    return ends


Share = Annotated[float, Field(ge=0, le=1)]
NotNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]

Range = Annotated[tuple[float, float], AfterValidator(in_order)]
NotNegatives = Annotated[tuple[NotNegative, NotNegative], AfterValidator(in_order)]
Factors = Annotated[tuple[Positive, Positive], AfterValidator(in_order)]
Shares = Annotated[tuple[Share, Share], AfterValidator(in_order)]


class RandomStep(BaseModel):
    """One random step on images in 0..1, 2D or 3D.

    Attributes:
        may_change_meaning: Why an image may not show the same any more after the step; empty where it always does.
        is_graded: Whether there is a weaker and a stronger form, or only yes and no.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    may_change_meaning: ClassVar[str] = ""
    is_graded: ClassVar[bool] = True

    probability: Share = Field(1.0, description="share of the images that are changed")

    def draw(self, streams: Streams, shape: Sequence[int], strength: float | None = None) -> Draw:
        """Draw what to do with each image.

        Args:
            streams: B rows.
            shape: The spatial shape of the images.
            strength: None draws from the step's ranges. A number in 0..1 changes every image by exactly this share
                of the way from no change to an end of the range, and only picks the end at random.
        """
        chance = streams.uniform()
        applied = chance < self.probability if strength is None else np.ones(len(streams), dtype=bool)
        return {"applied": applied, **self._amounts(streams, shape, strength)}

    def apply(self, images: Tensor, draw: Draw) -> Tensor:
        """Change images as drawn.

        Args:
            images: (B, C, *spatial), in 0..1; never written to.
            draw: B rows.

        Returns:
            Images of the same shape and type, not limited to 0..1.
        """
        rows = np.flatnonzero(draw["applied"])
        if len(rows) == 0:
            return images
        if len(rows) == len(images):
            return self._changed(images, draw)
        changed = images.clone()
        changed[rows] = self._changed(images[rows], {name: values[rows] for name, values in draw.items()})
        return changed

    def _amounts(self, streams: Streams, shape: Sequence[int], strength: float | None) -> dict[str, np.ndarray]:
        """The values of a draw except ``applied``; the same number is drawn for every row."""
        raise NotImplementedError

    def _changed(self, images: Tensor, draw: Draw) -> Tensor:
        """The images, all of which are to be changed, in new memory."""
        raise NotImplementedError


def between(streams: Streams, ends: Sequence[float], strength: float | None, *, neutral: float, count: int) -> Floats:
    """Amounts in a range, (B, count).

    Args:
        streams: B rows.
        ends: The range.
        strength: None draws within the range; a number in 0..1 goes so far from ``neutral`` to an end: to the further
            one, or to one drawn at random where ``neutral`` lies between them.
        neutral: The amount that changes nothing.
        count: How many a row.
    """
    places = streams.uniforms(count)
    if strength is None:
        return ends[0] + (ends[1] - ends[0]) * places
    further = ends[0] if abs(ends[0] - neutral) > abs(ends[1] - neutral) else ends[1]
    end = np.where(places < 0.5, *ends) if ends[0] < neutral < ends[1] else np.full(places.shape, further)
    return neutral + strength * (end - neutral)


def around(streams: Streams, most: float, strength: float | None, count: int) -> Floats:
    """Amounts in -most..most, 0 changing nothing, (B, count)."""
    return between(streams, (-most, most), strength, neutral=0.0, count=count)


def per_image(values: np.ndarray, images: Tensor) -> Tensor:
    """One value an image (B,) as a tensor that broadcasts over images (B, C, *spatial)."""
    return _tensor(values, images).view(-1, *[1] * (images.ndim - 1))


def along(values: Any, images: Tensor, axis: int) -> Tensor:
    """Values (B, n) or (n,) along a spatial axis, broadcasting over images (B, C, *spatial)."""
    tensor = _tensor(values, images)
    shape = [tensor.shape[0] if tensor.ndim == 2 else 1, *[1] * (images.ndim - 1)]
    shape[axis + 2] = tensor.shape[-1]
    return tensor.view(shape)


def axes_of(axes: Axes, dimensions: int) -> range:
    """The spatial axes that a step works on; the last two are rows and columns."""
    return range(dimensions - 2, dimensions) if axes == "in-plane" else range(dimensions)


def _tensor(values: Any, images: Tensor) -> Tensor:
    import torch

    return torch.as_tensor(values, device=images.device).to(images.dtype)
