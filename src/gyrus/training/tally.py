"""Losses and hits of an epoch in progress."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


class EpochMetrics:
    """Keeps losses and hits on the device until they are asked for, so that no step waits for them."""

    def __init__(self, *, counts_hits: bool = True) -> None:
        """Store the argument.

        Args:
            counts_hits: Whether accuracy has a meaning; under MixUp and CutMix an image has no one label.
        """
        self._counts_hits = counts_hits
        self._losses: list[Tensor] = []
        self._hits: list[Tensor] = []
        self._sizes: list[int] = []

    @property
    def batches(self) -> int:
        """Batches so far."""
        return len(self._sizes)

    def add(self, loss: Tensor, logits: Tensor, targets: Tensor) -> None:
        """Add a batch: its loss, logits (B, K) and targets (B,)."""
        self._losses.append(loss.detach())
        if self._counts_hits:
            self._hits.append((logits.detach().argmax(dim=1) == targets).sum())
        self._sizes.append(len(targets))

    def latest_losses(self, count: int) -> np.ndarray:
        """The losses of the latest ``count`` batches, float64."""
        return torch.stack(self._losses[-count:]).double().cpu().numpy()

    def means(self) -> dict[str, float]:
        """Loss and accuracy, each image counting once; an accuracy without meaning is NaN."""
        sizes = np.array(self._sizes)
        losses = self.latest_losses(self.batches)
        hits = int(torch.stack(self._hits).sum()) if self._counts_hits else float("nan")
        return {
            "train_loss": float((losses * sizes).sum() / sizes.sum()),
            "train_accuracy": hits / int(sizes.sum()),
        }
