"""Classifiers that take measures of a whole image, such as the shape of a mask, instead of its pixels; no PyTorch."""

from __future__ import annotations

from typing import get_args

import numpy as np
import numpy.typing as npt

from gyrus.inference.engines import Engine
from gyrus.models.options import Measure
from gyrus.registry import look_up


def measure_images(measure: Measure, images: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """The measures of each image, which depend on nothing else.

    Args:
        measure: What is measured.
        images: Prepared pixels in 0..1, multiples of 1/255, (B, C, *spatial).

    Returns:
        float32 (B, F); NaN where something cannot be measured.
    """
    look_up(measure, dict.fromkeys(get_args(Measure)), "measure")
    pixels = np.rint(images * 255).astype(np.uint8)
    if measure == "shape":
        from gyrus.inference.mask_shape import describe_masks

        return describe_masks(pixels).astype(np.float32)
    from gyrus.volumetry.tissue_mixture import pixel_features

    return np.stack([pixel_features(image[None]) for image in pixels]).astype(np.float32)


class MeasuringEngine:
    """The engine of a network that takes measures, applied to images."""

    def __init__(self, engine: Engine, measure: Measure) -> None:
        """Wrap an engine for measures (B, F, 1, ...)."""
        self.name = engine.name
        self._engine = engine
        self._measure: Measure = measure

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """The logits float32 (B, K) of images float32 (B, C, *spatial) in 0..1."""
        measured = measure_images(self._measure, images)
        return self._engine(measured.reshape(*measured.shape, *[1] * (images.ndim - 2)))
