"""Averages of a model's weights over time."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gyrus.training.config import EMA


class WeightAverage:
    """A running average of the weights and statistics of a model.

    Attributes:
        model: Carries the average; in evaluation mode.
        count: Updates so far.
    """

    def __init__(self, model: nn.Module) -> None:
        """Begin with a copy of ``model``."""
        self.model = deepcopy(model).requires_grad_(False).eval()
        self.count = 0

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next update depends on."""
        return {"model": self.model.state_dict(), "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a state."""
        self.model.load_state_dict(state["model"])
        self.count = state["count"]

    def update_exponentially(self, model: nn.Module, config: EMA) -> None:
        """Move a little towards ``model``; the decay is lower at first, (1 + n) / (10 + n) at update n from 1."""
        number = self.count + 1
        self._move(model, 1 - min(config.decay, (1 + number) / (10 + number)))

    def update_equally(self, model: nn.Module) -> None:
        """Take ``model`` into the plain mean."""
        self._move(model, 1 / (self.count + 1))

    @torch.no_grad()
    def refresh_statistics(self, batches: Iterable[Tensor]) -> None:
        """Estimate the batch norms' statistics anew, for averaged weights have never seen an image.

        Batch norms that the model keeps frozen while it trains keep their statistics here too.
        """
        self.model.train()
        norms = [layer for layer in self.model.modules() if isinstance(layer, _BatchNorm) and layer.training]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the plain mean over batches
        if norms:
            for images in batches:
                self.model(images)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        self.model.eval()

    @torch.no_grad()
    def _move(self, model: nn.Module, share: float) -> None:
        for mine, its in zip(self.model.state_dict().values(), model.state_dict().values(), strict=True):
            if mine.is_floating_point():
                mine.lerp_(its, share)
            else:
                mine.copy_(its)
        self.count += 1
