"""Steps that paint boxes over the image, so that a network cannot lean on one place alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from pydantic import AfterValidator, Field

from gyrus.transforms.augmentation.geometry import box_sides
from gyrus.transforms.augmentation.random_step import Draw, Factors, RandomStep, Share, Shares, between, in_order
from gyrus.transforms.augmentation.random_streams import Floats, Streams

if TYPE_CHECKING:
    from torch import Tensor

Holes = Annotated[int, Field(ge=1, le=1000)]


class _BoxStep(RandomStep):
    """Boxes of a constant value. A draw holds them as ``starts`` and ``stops``, (B, boxes, D), whole voxels."""

    may_change_meaning: ClassVar[str] = "what decides, such as a lesion or a hippocampus, may be painted over"

    value: float = Field(0.0, description="what the boxes are filled with; 0 is black")

    def _changed(self, images: Tensor, draw: Draw) -> Tensor:
        images = images.clone()
        for image, starts, stops in zip(images, draw["starts"].tolist(), draw["stops"].tolist(), strict=True):
            for start, stop in zip(starts, stops, strict=True):
                image[(..., *map(slice, start, stop))] = self.value
        return images


class Erasing(_BoxStep):
    """One box of random size and aspect (Zhong et al.: Random erasing data augmentation, 2020)."""

    step: Literal["erasing"] = "erasing"
    share: Shares = Field((0.02, 0.1), description="of the image's area, or volume, that is erased")
    ratio: Factors = Field((0.3, 3.3), description="rows to columns, and slices to both, of a square image")
    probability: Share = Field(0.25, description="share of the images that are changed")

    def _amounts(self, streams: Streams, shape: Sequence[int], strength: float | None) -> dict[str, np.ndarray]:
        sides, fits = box_sides(streams, self.share, self.ratio, strength, len(shape), neutral=0.0)
        starts, stops = _placed(streams, (sides * fits[:, None])[:, None], shape)
        return {"starts": starts, "stops": stops}


class CoarseDropout(_BoxStep):
    """Several small boxes (DeVries and Taylor: Improved regularization of CNNs with cutout, 2017)."""

    step: Literal["coarse-dropout"] = "coarse-dropout"
    holes: Annotated[tuple[Holes, Holes], AfterValidator(in_order)] = Field((4, 8), description="their number")
    side: Shares = Field((0.04, 0.1), description="side of a hole, of the image's side")
    probability: Share = Field(0.25, description="share of the images that are changed")

    def _amounts(self, streams: Streams, shape: Sequence[int], strength: float | None) -> dict[str, np.ndarray]:
        most = self.holes[1]
        sides = between(streams, self.side, strength, neutral=0.0, count=most)
        number = np.full(len(streams), most) if strength is not None else _numbers(streams, self.holes)
        present = np.arange(most) < number[:, None]
        boxes = np.repeat((sides * present)[..., None], len(shape), axis=-1)
        starts, stops = _placed(streams, boxes, shape)
        return {"starts": starts, "stops": stops}


def _numbers(streams: Streams, ends: tuple[int, int]) -> np.ndarray:
    return ends[0] + streams.choices(1, ends[1] - ends[0] + 1)[:, 0]


def _placed(streams: Streams, sides: Floats, shape: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Whole-voxel boxes anywhere within the image, from their sides of the image's side, (B, boxes, D)."""
    # In a volume of few slices a small box would vanish by rounding.
    lengths = np.maximum(np.rint(sides * shape), sides > 0).astype(np.int64)
    places = streams.uniforms(lengths.shape[1] * lengths.shape[2]).reshape(lengths.shape)
    starts = (places * (np.array(shape) - lengths + 1)).astype(np.int64)
    return starts, starts + lengths
