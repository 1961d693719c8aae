"""The deterministic steps from a decoded image to the network's input, as one config.

The **steps** (colour, size, crop, enhancement) run once on 8-bit pixels, and their result is stored. The **intensity**
scaling follows when images are read from the store; see :mod:`gyrus.transforms.normalisation`.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field, model_validator

from gyrus.configuration import Section
from gyrus.transforms.bias_field import ImageN4
from gyrus.transforms.contrast_enhancement import Clahe, Equalise, MinMax, NonLocalMeans
from gyrus.transforms.image_steps import Crop, Grayscale, Pad, Resize, Rgb, steps_by_name
from gyrus.transforms.normalisation import IntensityScaling
from gyrus.transforms.tissue_maps import Tissue
from gyrus.transforms.volume_steps import AnyVolumeStep, Percentiles, require_intensity

AnyImageStep = Annotated[
    Grayscale | Rgb | Resize | Pad | Crop | MinMax | Equalise | Clahe | NonLocalMeans | ImageN4 | Tissue,
    Field(discriminator="step"),
]

IMAGE_STEPS = steps_by_name(AnyImageStep)
"""The steps by name."""


class PreprocessingConfig(Section):
    """All deterministic steps in order, and the intensity scaling after them."""

    volume: tuple[AnyVolumeStep, ...] = Field(
        (Percentiles(),), description="steps on volumes in mm, before they become 8-bit slices"
    )
    steps: tuple[AnyImageStep, ...] = (Grayscale(), Resize(size=(128, 128)))
    intensity: IntensityScaling = IntensityScaling()

    @model_validator(mode="after")
    def _volumes_become_pixels(self) -> PreprocessingConfig:
        require_intensity(self.volume)
        return self

    def apply(self, image: np.ndarray, *, sequences: bool = False) -> np.ndarray:
        """Apply the steps to (C, rows, columns) or to a stack (C, slices, rows, columns), mostly slice by slice.

        Args:
            image: The pixels.
            sequences: Whether the channels are sequences of a session, each of them gray, and not colours. Steps of
                colour are left out then.
        """
        for step in self.steps:
            if sequences and isinstance(step, Grayscale | Rgb):
                continue
            if image.ndim == 3 or step.whole_stack:
                image = step(image)
            else:
                image = np.stack([step(image[:, number]) for number in range(image.shape[1])], axis=1)
        return np.ascontiguousarray(image)

    def showing_the_head(self) -> PreprocessingConfig:
        """The same config without steps that hide the head; itself if there are none."""
        steps = tuple(step for step in self.steps if step.shows_head)
        return self if steps == self.steps else self.model_copy(update={"steps": steps})
