"""The chain of random steps that training images go through, as a config and as a function of where it is used.

What happens to an image is decided by the seed, the epoch, the image's position in its part and how often the epoch
has visited it, and by nothing else: not by its batch, the number of workers, or an interruption.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from gyrus.transforms.augmentation.erasing import CoarseDropout, Erasing
from gyrus.transforms.augmentation.geometry import (
    Affine,
    Flip,
    GeometricStep,
    ResizedCrop,
    Rotation,
    Scale,
    Shear,
    Translation,
    resample,
)
from gyrus.transforms.augmentation.intensity import (
    Blur,
    Brightness,
    Contrast,
    Gamma,
    IntensityShift,
    Noise,
    Sharpness,
)
from gyrus.transforms.augmentation.mri_artefacts import BiasField, Ghosting, Gibbs, Spikes
from gyrus.transforms.augmentation.randaugment import RandAugment
from gyrus.transforms.augmentation.random_step import Draw, RandomStep
from gyrus.transforms.augmentation.random_streams import Floats, Streams

if TYPE_CHECKING:
    from torch import Tensor

AUGMENTATIONS: dict[str, type[RandomStep]] = {
    "flip": Flip,
    "rotation": Rotation,
    "translation": Translation,
    "scale": Scale,
    "shear": Shear,
    "affine": Affine,
    "resized-crop": ResizedCrop,
    "gamma": Gamma,
    "brightness": Brightness,
    "contrast": Contrast,
    "intensity-shift": IntensityShift,
    "noise": Noise,
    "blur": Blur,
    "sharpness": Sharpness,
    "erasing": Erasing,
    "coarse-dropout": CoarseDropout,
    "randaugment": RandAugment,
    "bias-field": BiasField,
    "gibbs": Gibbs,
    "ghosting": Ghosting,
    "spikes": Spikes,
}

AnyAugmentation = Annotated[
    Flip
    | Rotation
    | Translation
    | Scale
    | Shear
    | Affine
    | ResizedCrop
    | Gamma
    | Brightness
    | Contrast
    | IntensityShift
    | Noise
    | Blur
    | Sharpness
    | Erasing
    | CoarseDropout
    | RandAugment
    | BiasField
    | Gibbs
    | Ghosting
    | Spikes,
    Field(discriminator="step"),
]


class AugmentationConfig(BaseModel):
    """Random steps in order, on training images in 0..1, before normalisation. None by default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: tuple[AnyAugmentation, ...] = Field((), description="in order")
    clamp: bool = Field(True, description="whether values are limited to 0..1 at the end, as in the stored images")

    def draw(self, streams: Streams, shape: Sequence[int]) -> tuple[Draw, ...]:
        """Draw what every step does to each image; see :meth:`RandomStep.draw`."""
        return tuple(step.draw(streams.child(number), shape) for number, step in enumerate(self.steps))

    def apply(self, images: Tensor, draws: Sequence[Draw]) -> Tensor:
        """Change images as drawn. Neighbouring geometric steps become one interpolation.

        Args:
            images: (B, C, *spatial) in 0..1; never written to.
            draws: One a step, of B rows.

        Returns:
            Images of the same shape and type; the argument itself where nothing was to be done.
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
        """Why images may not show the same any more, a line a step that may do so."""
        return tuple(f"{step.step}: {step.may_change_meaning}" for step in self.steps if step.may_change_meaning)


def _is_geometric(step_and_draw: tuple[RandomStep, Draw]) -> bool:
    return isinstance(step_and_draw[0], GeometricStep)


def _composed(run: Iterable[tuple[RandomStep, Draw]], shape: Sequence[int]) -> Floats:
    """The matrices of several steps as one, (B, D + 1, D + 1)."""
    matrices = [step.matrices(draw, shape) for step, draw in run if isinstance(step, GeometricStep)]
    # A later step looks up its values in the image of the earlier one, so its matrix works first.
    return reduce(np.matmul, matrices)
