"""The chain of random steps of training images, as a config.

The augmentation of an image depends only on the seed, the epoch, the position of the image in its subset and the number
of its visits in the epoch. It does not depend on its batch, the number of workers, or an interruption.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from gyrus.configuration import Section
from gyrus.transforms.augmentation import erasing, geometry, intensity, mri_artefacts, randaugment
from gyrus.transforms.augmentation.random_step import Draw, RandomStep
from gyrus.transforms.augmentation.random_streams import Streams
from gyrus.transforms.image_steps import steps_by_name

if TYPE_CHECKING:
    from torch import Tensor

AnyAugmentation = Annotated[
    geometry.RandomFlip
    | geometry.RandomRotation
    | geometry.RandomTranslation
    | geometry.RandomScale
    | geometry.RandomShear
    | geometry.RandomAffine
    | geometry.RandomResizedCrop
    | intensity.RandomGamma
    | intensity.RandomBrightness
    | intensity.RandomContrast
    | intensity.RandomIntensityShift
    | intensity.RandomNoise
    | intensity.RandomBlur
    | intensity.RandomSharpness
    | erasing.RandomErasing
    | erasing.RandomCoarseDropout
    | randaugment.RandAugment
    | mri_artefacts.RandomBiasField
    | mri_artefacts.RandomGibbs
    | mri_artefacts.RandomGhosting
    | mri_artefacts.RandomSpikes,
    Field(discriminator="step"),
]

AUGMENTATIONS: dict[str, type[RandomStep]] = steps_by_name(AnyAugmentation)
"""The random steps by name."""


class AugmentationConfig(Section):
    """Random steps in order, on training images in 0..1, before normalisation; by default none."""

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
        changed, shape = images, images.shape[2:]
        pairs = zip(self.steps, draws, strict=True)
        for is_geometric, run in groupby(pairs, lambda pair: isinstance(pair[0], geometry.GeometricStep)):
            if is_geometric:
                # A later step samples the image of the earlier one, so its matrix is applied first.
                matrices = [
                    step.matrices(draw, shape) for step, draw in run if isinstance(step, geometry.GeometricStep)
                ]
                changed = geometry.resample(changed, reduce(np.matmul, matrices))
            else:
                for step, draw in run:
                    changed = step.apply(changed, draw)
        return changed.clamp(0, 1) if self.clamp and self.steps else changed

    def cautions(self) -> tuple[str, ...]:
        """Why steps may change the meaning of an image, one line for each such step."""
        return tuple(f"{step.step}: {step.may_change_meaning}" for step in self.steps if step.may_change_meaning)
