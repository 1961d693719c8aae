"""Fractions of fluid, gray and white matter in the stored pixels as features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gyrus.inference.features.base import UNSCALED, FeatureMaker, FitSettings, Floats, NetworkInput, Samples
from gyrus.models.options import FeatureKind
from gyrus.volumetry.tissue_mixture import PIXEL_FEATURES, pixel_features


@dataclass(frozen=True)
class TissueFractions(FeatureMaker):
    """The fractions of the tissues in all images of a subject, by a mixture, and of pixels that are not background.

    The same numbers as those of the baseline on tissue volumes, without registration. Nothing is fitted on other
    subjects.
    """

    kind: ClassVar[FeatureKind] = "tissue-fractions"

    @property
    def spatial_dims(self) -> None:
        """It takes slices, stacks and volumes alike."""

    @classmethod
    def fit(cls, samples: Samples, settings: FitSettings) -> TissueFractions:  # noqa: ARG003
        """Nothing is fitted."""
        return cls()

    def features(self, samples: Samples) -> Floats:
        """The fractions in each image alone."""
        return np.stack([pixel_features(image[None]) for image in samples.pixels])

    def of_units(self, samples: Samples) -> Floats:
        """The fractions in all images of each unit together."""
        names, codes = np.unique(samples.units, return_inverse=True)
        places = [np.flatnonzero(codes == code) for code in range(len(names))]
        return np.stack([pixel_features(samples.take(each).pixels) for each in places])

    def network_input(self) -> NetworkInput:
        """The pixels as they are, which are measured."""
        return NetworkInput(UNSCALED, measure="volumes")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the fractions."""
        return PIXEL_FEATURES

    @property
    def text(self) -> str:
        """What they are."""
        return "fractions of fluid, gray and white matter in the pixels"

    def document(self) -> dict[str, Any]:
        """Nothing is fitted."""
        return {}

    @classmethod
    def from_saved(cls, saved: Mapping[str, Any]) -> TissueFractions:  # noqa: ARG003
        """Nothing is fitted."""
        return cls()
