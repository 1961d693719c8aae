"""A linear classifier on features: plain numbers, applied without PyTorch and without scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from gyrus.serialisation import Saved

Floats = npt.NDArray[np.float64]

ABSENT_LOGIT = -100.0
"""Logit of a class that the training set lacks."""


@dataclass(frozen=True)
class LinearModel(Saved):
    """A linear map from F features to K logits, whose softmax gives probabilities; or to one number.

    Attributes:
        weights: (K, F).
        intercept: (K,).
        features: Names of the features, (F,).
        C: Inverse strength of the L2 penalty it was fitted with.
    """

    SCHEMA: ClassVar[str] = "gyrus.linear_model/1"

    weights: tuple[tuple[float, ...], ...]
    intercept: tuple[float, ...]
    features: tuple[str, ...]
    C: float

    def logits(self, features: Floats) -> Floats:
        """Logits (N, K), or the number (N, 1), of features (N, F)."""
        weights = np.asarray(self.weights).reshape(len(self.intercept), len(self.features))
        return np.asarray(features @ weights.T + np.asarray(self.intercept))

    @property
    def parameters(self) -> int:
        """The number of fitted numbers."""
        return len(self.intercept) * (len(self.features) + 1)
