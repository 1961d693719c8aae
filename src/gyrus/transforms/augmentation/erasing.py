"""Steps that erase boxes of the image, so that a network cannot rely on a single region."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from pydantic import AfterValidator, Field

from gyrus.transforms.augmentation.geometry import box_sides
from gyrus.transforms.augmentation.random_step import (
    Draw,
    FactorRange,
    Fraction,
    FractionRange,
    RandomStep,
    along_axis,
    between,
    in_order,
)
from gyrus.transforms.augmentation.random_streams import Floats, Streams

if TYPE_CHECKING:
    from torch import Tensor

Holes = Annotated[int, Field(ge=1, le=1000)]


class _BoxStep(RandomStep):
    """Boxes of a constant value. A draw holds their ``starts`` and ``stops``, (B, boxes, D), in whole voxels."""

    may_change_meaning: ClassVar[str] = "the decisive structure, such as a lesion or a hippocampus, may be erased"

    value: float = Field(0.0, description="value inside the boxes; 0 is black")

    def _changed(self, images: Tensor, draw: Draw) -> Tensor:
        import torch

        boxes = zip(*(draw[name].swapaxes(0, 1) for name in ("starts", "stops")), strict=True)
        inside = reduce(torch.logical_or, (_inside(images, *box) for box in boxes))
        return images.masked_fill(inside, self.value)


class RandomErasing(_BoxStep):
    """One box of random size and aspect (Zhong et al.: Random erasing data augmentation, 2020)."""

    step: Literal["erasing"] = "erasing"
    share: FractionRange = Field((0.02, 0.1), description="erased fraction of the area, or volume, of the image")
    ratio: FactorRange = Field(
        (0.3, 3.3), description="aspect ratio, rows to columns and slices to both, for a square image"
    )
    probability: Fraction = Field(0.25, description="fraction of the images that are changed")

    def _amounts(self, streams: Streams, shape: Sequence[int], strength: float | None) -> dict[str, np.ndarray]:
        sides, fits = box_sides(streams, self.share, self.ratio, strength, len(shape), neutral=0.0)
        starts, stops = _placed(streams, (sides * fits[:, None])[:, None], shape)
        return {"starts": starts, "stops": stops}


class RandomCoarseDropout(_BoxStep):
    """Several small boxes (DeVries and Taylor: Improved regularization of CNNs with cutout, 2017)."""

    step: Literal["coarse-dropout"] = "coarse-dropout"
    holes: Annotated[tuple[Holes, Holes], AfterValidator(in_order)] = Field((4, 8), description="number of boxes")
    side: FractionRange = Field((0.04, 0.1), description="side of a box, as a fraction of the side of the image")
    probability: Fraction = Field(0.25, description="fraction of the images that are changed")

    def _amounts(self, streams: Streams, shape: Sequence[int], strength: float | None) -> dict[str, np.ndarray]:
        most = self.holes[1]
        sides = between(streams, self.side, strength, neutral=0.0, count=most)
        number = np.full(len(streams), most)
        if strength is None:
            number = self.holes[0] + streams.choices(1, most - self.holes[0] + 1)[:, 0]
        present = np.arange(most) < number[:, None]
        boxes = np.repeat((sides * present)[..., None], len(shape), axis=-1)
        starts, stops = _placed(streams, boxes, shape)
        return {"starts": starts, "stops": stops}


def _placed(streams: Streams, sides: Floats, shape: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Boxes of whole voxels anywhere in the image, from their sides as fractions of its sides, (B, boxes, D)."""
    # In a volume with few slices, a small box would vanish by rounding.
    lengths = np.maximum(np.rint(sides * shape), sides > 0).astype(np.int64)
    places = streams.uniforms(lengths.shape[1] * lengths.shape[2]).reshape(lengths.shape)
    starts = (places * (np.array(shape) - lengths + 1)).astype(np.int64)
    return starts, starts + lengths


def _inside(images: Tensor, starts: np.ndarray, stops: np.ndarray) -> Tensor:
    """Whether a voxel is inside of the box of its image, bool (B, 1, *spatial); starts and stops are (B, D)."""
    inside: Tensor | None = None
    for axis, length in enumerate(images.shape[2:]):
        places = np.arange(length)
        within = (places >= starts[:, axis, None]) & (places < stops[:, axis, None])
        along = along_axis(within, images, axis) > 0
        inside = along if inside is None else inside & along
    assert inside is not None
    return inside
