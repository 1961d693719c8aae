"""The shape of a mask as features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gyrus.inference.features.base import UNSCALED, FeatureMaker, FitSettings, Floats, NetworkInput, Samples
from gyrus.inference.mask_shape import describe_mask, describe_masks
from gyrus.models.options import FeatureKind


@dataclass(frozen=True)
class Shape(FeatureMaker):
    """Size and shape of a mask, such as that of an organ: volume, surface, axes, thickness and profile.

    See :func:`gyrus.inference.mask_shape.describe_mask`. Nothing is fitted.

    Attributes:
        axes: Axes of an image.
        channels: Channels of an image; each is a mask.
    """

    kind: ClassVar[FeatureKind] = "shape"

    axes: int
    channels: int

    @property
    def spatial_dims(self) -> int:
        """Axes of an image."""
        return self.axes

    @classmethod
    def fit(cls, samples: Samples, settings: FitSettings) -> Shape:  # noqa: ARG003
        """Only the numbers of axes and channels are taken."""
        channels, *image = samples.shape
        return cls(len(image), channels)

    def features(self, samples: Samples) -> Floats:
        """The features of each mask; NaN for empty ones."""
        return describe_masks(samples.pixels)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the measures."""
        names = describe_mask(np.zeros((1,) * self.axes, dtype=bool))
        return tuple(
            f"{name}{f' in channel {number}' if number else ''}" for number in range(self.channels) for name in names
        )

    def network_input(self) -> NetworkInput:
        """The pixels as they are, which are measured."""
        return NetworkInput(UNSCALED, measure="shape")

    @property
    def text(self) -> str:
        """The number of measures."""
        return f"{len(self.names)} measures of size and shape"

    def document(self) -> dict[str, Any]:
        """The sizes."""
        return {"axes": self.axes, "channels": self.channels}

    @classmethod
    def from_saved(cls, saved: Mapping[str, Any]) -> Shape:
        """Load the sizes."""
        return cls(int(saved["axes"]), int(saved["channels"]))
