"""The chain of random steps of training images, as a config.

The augmentation of an image depends only on the seed, the epoch, the position of the image in its subset and the number
of its visits in the epoch. It does not depend on its batch, the number of workers, or an interruption.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from gyrus.transforms.augmentation.erasing import RandomCoarseDropout, RandomErasing
from gyrus.transforms.augmentation.geometry import (
    GeometricStep,
    RandomAffine,
    RandomFlip,
    RandomResizedCrop,
    RandomRotation,
    RandomScale,
    RandomShear,
    RandomTranslation,
    resample,
)
from gyrus.transforms.augmentation.intensity import (
    RandomBlur,
    RandomBrightness,
    RandomContrast,
    RandomGamma,
    RandomIntensityShift,
    RandomNoise,
    RandomSharpness,
)
from gyrus.transforms.augmentation.mri_artefacts import RandomBiasField, RandomGhosting, RandomGibbs, RandomSpikes
from gyrus.transforms.augmentation.randaugment import RandAugment
from gyrus.transforms.augmentation.random_step import Draw, RandomStep
from gyrus.transforms.augmentation.random_streams import Floats, Streams

if TYPE_CHECKING:
    from torch import Tensor

AUGMENTATIONS: dict[str, type[RandomStep]] = {
    "flip": RandomFlip,
    "rotation": RandomRotation,
    "translation": RandomTranslation,
    "scale": RandomScale,
    "shear": RandomShear,
    "affine": RandomAffine,
    "resized-crop": RandomResizedCrop,
    "gamma": RandomGamma,
    "brightness": RandomBrightness,
    "contrast": RandomContrast,
    "intensity-shift": RandomIntensityShift,
    "noise": RandomNoise,
    "blur": RandomBlur,
    "sharpness": RandomSharpness,
    "erasing": RandomErasing,
    "coarse-dropout": RandomCoarseDropout,
    "randaugment": RandAugment,
    "bias-field": RandomBiasField,
    "gibbs": RandomGibbs,
    "ghosting": RandomGhosting,
    "spikes": RandomSpikes,
}

AnyAugmentation = Annotated[
    RandomFlip
    | RandomRotation
    | RandomTranslation
    | RandomScale
    | RandomShear
    | RandomAffine
    | RandomResizedCrop
    | RandomGamma
    | RandomBrightness
    | RandomContrast
    | RandomIntensityShift
    | RandomNoise
    | RandomBlur
    | RandomSharpness
    | RandomErasing
    | RandomCoarseDropout
    | RandAugment
    | RandomBiasField
    | RandomGibbs
    | RandomGhosting
    | RandomSpikes,
    Field(discriminator="step"),
]


class AugmentationConfig(BaseModel):
    """Random steps in order, on training images in 0..1, before normalisation; by default none."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: tuple[AnyAugmentation, ...] = Field((), description="the steps in order")
    clamp: bool = Field(True, description="clip values to 0..1 after the last step, as in the stored images")

    def draw(self, streams: Streams, shape: Sequence[int]) -> tuple[Draw, ...]:
        """Draw the parameters of every step for each image; see :meth:`RandomStep.draw`."""
        return tuple(step.draw(streams.child(number), shape) for number, step in enumerate(self.steps))

    def apply(self, images: Tensor, draws: Sequence[Draw]) -> Tensor:
        """Apply the draws to images. Consecutive geometric steps share one interpolation.

        Args:
            images: (B, C, *spatial) in 0..1; never modified.
            draws: One per step, with B rows.

        Returns:
            Images of the same shape and type; the argument itself if nothing changes.
        """
        changed = images
        for is_geometric, run in groupby(zip(self.steps, draws, strict=True), _is_geometric):
            if is_geometric:
                changed = resample(changed, _composed(run, images.shape[2:]))
            else:
                for step, draw in run:
                    changed = step.apply(changed, draw)
        return changed.clamp(0, 1) if self.clamp and self.steps else changed

    def cautions(self) -> tuple[str, ...]:
        """Why steps may change the meaning of an image, one line for each such step."""
        return tuple(f"{step.step}: {step.may_change_meaning}" for step in self.steps if step.may_change_meaning)


def _is_geometric(step_and_draw: tuple[RandomStep, Draw]) -> bool:
    return isinstance(step_and_draw[0], GeometricStep)


def _composed(run: Iterable[tuple[RandomStep, Draw]], shape: Sequence[int]) -> Floats:
    """The product of the matrices of several steps, (B, D + 1, D + 1)."""
    matrices = [step.matrices(draw, shape) for step, draw in run if isinstance(step, GeometricStep)]
    # A later step samples the image of the earlier one, so its matrix is applied first.
    return reduce(np.matmul, matrices)
