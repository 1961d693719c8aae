"""From a batch to the number that is minimised: mixing, the choice of hard examples, and the loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gyrus.training.config import TrainingConfig
from gyrus.training.losses import LOSSES, hardest, reduce
from gyrus.training.mixup import Mix, mix_images


class Objective(nn.Module):
    """What a training minimises. It is a module so that its class weights follow to the device."""

    def __init__(self, config: TrainingConfig, class_weights: np.ndarray | None) -> None:
        """Store the arguments.

        Args:
            config: Its ``loss`` and ``mining``.
            class_weights: float32 (K,) or None.
        """
        super().__init__()
        self._config = config.loss
        self._mining = config.mining
        self._loss = LOSSES[config.loss.name]
        weights = None if class_weights is None else torch.from_numpy(class_weights)
        self.register_buffer("weights", weights, persistent=False)
        self.weights: Tensor | None

    def forward(
        self, network: Callable[[Tensor], Tensor], model: nn.Module, images: Tensor, targets: Tensor, mix: Mix | None
    ) -> tuple[Tensor, Tensor]:
        """The loss of a batch and the logits (B, K).

        Args:
            network: The model, perhaps compiled.
            model: The model itself, whose batch norms are known.
            images: float32 (B, C, *spatial).
            targets: int64 (B,).
            mix: How the batch is mixed, if at all.
        """
        if mix is not None:
            return self._mixed(network, images, targets, mix)
        if self._mining is not None and self._mining.passes == 2:
            return self._in_two_passes(network, model, images, targets)
        logits = network(images)
        values = self._values(logits, targets)
        chosen = slice(None) if self._mining is None else hardest(values, self._mining)
        return reduce(values[chosen], targets[chosen], self.weights), logits

    def _values(self, logits: Tensor, targets: Tensor) -> Tensor:
        return self._loss(self._config, logits, targets, self.weights)

    def _mixed(
        self, network: Callable[[Tensor], Tensor], images: Tensor, targets: Tensor, mix: Mix
    ) -> tuple[Tensor, Tensor]:
        logits = network(mix_images(images, mix))
        others = targets[torch.tensor(mix.order, device=targets.device)]
        own, other = (reduce(self._values(logits, labels), labels, self.weights) for labels in (targets, others))
        return mix.share * own + (1 - mix.share) * other, logits

    def _in_two_passes(
        self, network: Callable[[Tensor], Tensor], model: nn.Module, images: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Choose by one forward pass, learn from the chosen by another; batch statistics learn from the first only."""
        assert self._mining is not None
        with torch.no_grad():
            logits = network(images)
        chosen = hardest(self._values(logits, targets), self._mining)
        with _still_statistics(model, single=len(chosen) == 1):
            values = self._values(network(images[chosen]), targets[chosen])
        return reduce(values, targets[chosen], self.weights), logits


@contextmanager
def _still_statistics(model: nn.Module, *, single: bool) -> Iterator[None]:
    """Batch norms that do not update their running statistics while the block runs.

    Args:
        model: Whose batch norms are meant.
        single: The batch has one image, which has no batch statistics: normalise by the running ones.
    """
    norms = [layer for layer in model.modules() if isinstance(layer, _BatchNorm)]
    before = [(norm.training, norm.track_running_stats) for norm in norms]
    for norm in norms:
        if single:
            norm.eval()
        elif norm.training:
            norm.track_running_stats = False
    try:
        yield
    finally:
        for norm, (training, tracks) in zip(norms, before, strict=True):
            norm.train(training)
            norm.track_running_stats = tracks
