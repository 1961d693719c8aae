"""Whole images by an engine for patches: the mean of its logits, without PyTorch.

The same as :class:`gyrus.inference.patchwise.PatchwiseClassifier` within rounding: the last layer is linear, so the
mean of the logits is the logit of the mean embedding. Embeddings, where the engine gives them, are averaged likewise.
"""

from __future__ import annotations

from itertools import islice

import numpy as np

from gyrus.datasets.patches import BODY_FRACTION, PatchConfig, patch_index
from gyrus.errors import ConfigError, DataError
from gyrus.inference.engines import Engine

PATCHES_AT_ONCE = 32
"""Patches per batch, so that memory does not grow with the image."""


class PatchEngine:
    """The engine of a network for patches, applied to a grid of patches of each image. Patches of air do not count."""

    def __init__(self, engine: Engine, patches: PatchConfig) -> None:
        """Wrap an engine for images of ``patches.size``."""
        self.name = engine.name
        self._engine = engine
        self._patches = patches

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """The logits float32 (B, K) of images float32 (B, C, *spatial), at least as large as a patch.

        Raises:
            DataError: The images are smaller than a patch, or have another number of axes.
        """
        return np.stack([self._classify(image) for image in images])

    def _classify(self, image: np.ndarray) -> np.ndarray:
        try:
            corners = self._patches.corners(image.shape[1:])
        except ConfigError as error:
            raise DataError(str(error)) from error
        places = [patch_index(corner, self._patches.size) for corner in corners]
        black = image.min()
        gray = np.array([image[place].mean() for place in places], dtype=np.float32) - black
        weights = (gray >= min(BODY_FRACTION * (image.mean() - black), gray.max())).astype(np.float32)
        rest = iter(places)
        logits = []
        while some := list(islice(rest, PATCHES_AT_ONCE)):
            logits.append(self._engine(np.stack([image[place] for place in some])))
        return np.asarray(weights @ np.concatenate(logits) / weights.sum(), dtype=np.float32)
