"""Averages of the weights of a model over time: EMA and SWA."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gyrus.training.config import EMA


class WeightAverage:
    """A running average of the weights and batch norm statistics of a model.

    Attributes:
        model: A model with the averaged weights, in evaluation mode.
        count: Updates so far.
    """

    def __init__(self, model: nn.Module) -> None:
        """Start with a copy of ``model``."""
        self.model = deepcopy(model).requires_grad_(False).eval()
        self.count = 0

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next update depends on."""
        return {"model": self.model.state_dict(), "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state."""
        self.model.load_state_dict(state["model"])
        self.count = state["count"]

    def update_exponentially(self, model: nn.Module, config: EMA) -> None:
        """Update the exponential moving average; the decay is lower at first, (1 + n) / (10 + n) at update n from 1."""
        number = self.count + 1
        self._move(model, 1 - min(config.decay, (1 + number) / (10 + number)))

    def update_equally(self, model: nn.Module) -> None:
        """Update the arithmetic mean."""
        self._move(model, 1 / (self.count + 1))

    @torch.no_grad()
    def refresh_statistics(self, batches: Iterable[Tensor]) -> None:
        """Estimate the batch norm statistics again, because they do not belong to the averaged weights.

        Batch norms that the model keeps frozen during training keep their statistics here too.
        """
        self.model.train()
        norms = [layer for layer in self.model.modules() if isinstance(layer, _BatchNorm) and layer.training]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the arithmetic mean over batches
        if norms:
            for images in batches:
                self.model(images)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        self.model.eval()

    @torch.no_grad()
    def _move(self, model: nn.Module, fraction: float) -> None:
        pairs = list(zip(self.model.state_dict().values(), model.state_dict().values(), strict=True))
        floats = [pair for pair in pairs if pair[0].is_floating_point()]
        if floats:
            averages, latest = zip(*floats, strict=True)
            torch._foreach_lerp_(averages, latest, fraction)  # a few calls for all weights instead of one for each
        for average, value in pairs:
            if not average.is_floating_point():
                average.copy_(value)
        self.count += 1
