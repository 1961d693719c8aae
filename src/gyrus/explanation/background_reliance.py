"""Does the answer follow the brain, or what is around it? A check of the network that needs no map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from gyrus.explanation.layers import still


@dataclass(frozen=True)
class BackgroundReliance:
    """What happens to the answer when a part of an image is that of another image, with another answer.

    Attributes:
        brain: Mean loss of the probability of the own answer when the brain is the other's.
        outside: The same when everything but the brain is the other's.
        brain_changed: Share of the answers that become the other's when the brain does.
        outside_changed: The same of everything but the brain.
        pairs: How many were tried.
    """

    brain: float
    outside: float
    brain_changed: float
    outside_changed: float
    pairs: int

    @property
    def outside_share(self) -> float:
        """How much of what moves the answer lies outside the brain, 0 to 1; NaN where nothing moves it."""
        total = max(self.brain, 0.0) + max(self.outside, 0.0)
        return max(self.outside, 0.0) / total if total > 0 else float("nan")


def swap_backgrounds(
    model: nn.Module, images: Tensor, masks: np.ndarray, *, seed: int = 0, batch: int = 64
) -> BackgroundReliance | None:
    """Put the brain of each image before the background of another one, and the other way round.

    Nothing is painted over, so that what the network sees is as it may come; what is the brain of either image counts
    as brain.

    Args:
        model: Gives logits (B, K).
        images: float32 (N, C, *spatial).
        masks: bool (N, *spatial), where the brain is.
        seed: Decides who is paired.
        batch: Images that go through the network at a time.

    Returns:
        None where all images get the same answer, so that no pair tells anything.
    """
    own = _probabilities(model, images, batch)
    answers = own.argmax(1)
    partners = _partners(answers, np.random.default_rng(seed))
    if partners is None:
        return None
    brains = torch.from_numpy(masks | masks[partners])[:, None].to(images.device)
    other = images[torch.from_numpy(partners)]
    losses, changed = [], []
    for hybrid in (torch.where(brains, other, images), torch.where(brains, images, other)):
        now = _probabilities(model, hybrid, batch)
        rows = np.arange(len(answers))
        losses.append(float((own[rows, answers] - now[rows, answers]).mean()))
        changed.append(float((now.argmax(1) == answers[partners]).mean()))
    return BackgroundReliance(losses[0], losses[1], changed[0], changed[1], len(answers))


def _partners(answers: np.ndarray, generator: np.random.Generator) -> np.ndarray | None:
    """For each image one with another answer."""
    if len(np.unique(answers)) < 2:
        return None
    return np.array([generator.choice(np.flatnonzero(answers != answer)) for answer in answers])


def _probabilities(model: nn.Module, images: Tensor, batch: int) -> np.ndarray:
    device = next(iter(model.parameters()), images).device
    with still(model), torch.no_grad():
        return torch.cat([model(part.to(device)).softmax(1).double().cpu() for part in images.split(batch)]).numpy()
