"""Whether predictions depend on the brain or on the background: a check of the network that needs no heat map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from gyrus.explanation.methods import predict_probabilities
from gyrus.inference.engines import Engine


@dataclass(frozen=True)
class BackgroundReliance:
    """How the prediction changes when brain or background are those of an image with another prediction.

    Attributes:
        brain: Mean decrease of the probability of the predicted class when the brain is exchanged.
        outside: The same when everything outside the brain is exchanged.
        brain_changed: Fraction of predictions that become those of the other image when the brain is exchanged.
        outside_changed: The same when everything outside the brain is exchanged.
        pairs: Number of pairs of images.
    """

    brain: float
    outside: float
    brain_changed: float
    outside_changed: float
    pairs: int

    @property
    def outside_fraction(self) -> float:
        """Fraction of the decrease that is due to the background, 0 to 1; NaN if nothing decreases."""
        total = max(self.brain, 0.0) + max(self.outside, 0.0)
        return max(self.outside, 0.0) / total if total > 0 else float("nan")


def swap_backgrounds(
    model: nn.Module | Engine, images: Tensor, masks: np.ndarray, *, seed: int = 0, batch: int = 64
) -> BackgroundReliance | None:
    """Combine the brain of each image with the background of another one, and the reverse.

    Nothing is erased, so the network sees plausible content only. Pixels that are brain in either image count as brain.

    Args:
        model: Gives logits (B, K).
        images: float32 (N, C, *spatial).
        masks: bool (N, *spatial), the brain.
        seed: Seed of the pairs.
        batch: Images per forward pass.

    Returns:
        None if all images have the same prediction, so that there are no pairs.
    """
    original = predict_probabilities(model, images, batch).numpy()
    predicted = original.argmax(1)
    if len(np.unique(predicted)) < 2:
        return None
    generator = np.random.default_rng(seed)
    partners = np.array([generator.choice(np.flatnonzero(predicted != k)) for k in predicted])
    brains = torch.from_numpy(masks | masks[partners])[:, None].to(images.device)
    other = images[torch.from_numpy(partners)]
    decreases, changed = [], []
    for hybrid in (torch.where(brains, other, images), torch.where(brains, images, other)):
        probabilities = predict_probabilities(model, hybrid, batch).numpy()
        rows = np.arange(len(predicted))
        decreases.append(float((original[rows, predicted] - probabilities[rows, predicted]).mean()))
        changed.append(float((probabilities.argmax(1) == predicted[partners]).mean()))
    return BackgroundReliance(decreases[0], decreases[1], changed[0], changed[1], len(predicted))
