"""RandAugment: a few random operations per image, all of one magnitude.

Cubuk et al.: RandAugment: Practical automated data augmentation with a reduced search space, 2020. The
operations are those of the paper that suit gray images of a head, with its strongest forms; gamma, scale, blur and
noise replace equalise, posterise, solarise and colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, get_args

import numpy as np
from pydantic import Field

from gyrus.transforms.augmentation import geometry, intensity
from gyrus.transforms.augmentation.random_step import Draw, RandomStep, rows_of, with_rows
from gyrus.transforms.augmentation.random_streams import Streams

if TYPE_CHECKING:
    from torch import Tensor

Operation = Literal[
    "identity",
    "rotation",
    "translation",
    "scale",
    "shear",
    "brightness",
    "contrast",
    "gamma",
    "sharpness",
    "blur",
    "noise",
]

STRONGEST: dict[str, RandomStep] = {
    "rotation": geometry.RandomRotation(degrees=30),
    "translation": geometry.RandomTranslation(share=0.45),
    "scale": geometry.RandomScale(factor=(0.7, 1.3)),
    "shear": geometry.RandomShear(degrees=16.7),
    "brightness": intensity.RandomBrightness(factor=(0.1, 1.9)),
    "contrast": intensity.RandomContrast(factor=(0.1, 1.9)),
    "gamma": intensity.RandomGamma(exponent=(0.5, 2.0)),
    "sharpness": intensity.RandomSharpness(factor=(0.1, 1.9)),
    "blur": intensity.RandomBlur(sigma=(0, 2)),
    "noise": intensity.RandomNoise(std=(0, 0.2)),
}
"""Each operation at magnitude 30; "identity" has no entry."""

HIGHEST_MAGNITUDE = 30


class RandAugment(RandomStep):
    """A number of operations drawn with replacement for every image, all of one magnitude."""

    may_change_meaning: ClassVar[str] = "the operations scale and shear may"

    step: Literal["randaugment"] = "randaugment"
    operations_per_image: Annotated[int, Field(ge=1, le=20)] = Field(
        2, description="number of operations (N in the paper)"
    )
    magnitude: Annotated[float, Field(ge=0, le=HIGHEST_MAGNITUDE)] = Field(
        9, description="magnitude (M in the paper), up to 30"
    )
    operations: Annotated[tuple[Operation, ...], Field(min_length=1)] = Field(
        get_args(Operation), description="operations to draw from"
    )

    def _amounts(self, streams: Streams, shape: Sequence[int], strength: float | None) -> dict[str, np.ndarray]:  # noqa: ARG002
        rounds = self.operations_per_image
        fraction = 1.0 if strength is None else strength
        return {
            "operation": streams.choices(rounds, len(self.operations)),
            "strength": np.full((len(streams), rounds), fraction * self.magnitude / HIGHEST_MAGNITUDE),
            "key": np.stack([streams.seeds() for _ in range(rounds)], axis=1),
        }

    def _changed(self, images: Tensor, draw: Draw) -> Tensor:
        for number in range(self.operations_per_image):
            images = self._one_round(images, *(draw[name][:, number] for name in ("operation", "strength", "key")))
        return images

    def _one_round(self, images: Tensor, operation: np.ndarray, strength: np.ndarray, key: np.ndarray) -> Tensor:
        changed = images.new_empty(images.shape)
        for chosen in np.unique(operation).tolist():
            rows = np.flatnonzero(operation == chosen)
            step = STRONGEST.get(self.operations[chosen])
            if step is None:
                with_rows(changed, rows, rows_of(images, rows))
                continue
            amounts = step.draw(Streams(key[rows]), images.shape[2:], float(strength[rows[0]]))
            with_rows(changed, rows, step.apply(rows_of(images, rows), amounts))
        return changed
