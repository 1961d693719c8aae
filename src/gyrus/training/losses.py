"""Losses of single images, class weights, and the choice of hard examples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from gyrus.errors import ConfigError
from gyrus.training.config import ClassWeights, CrossEntropy, Focal, HardExamples

Loss = Callable[[Any, Tensor, Tensor, Tensor | None], Tensor]
"""From settings, logits (B, K), targets (B,) and class weights (K,) to the weighted loss of each image (B,)."""


def cross_entropy(config: CrossEntropy, logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    """As PyTorch's, label smoothing and class weights included."""
    smoothing = config.label_smoothing
    return functional.cross_entropy(logits, targets, weights, reduction="none", label_smoothing=smoothing)


def focal(config: Focal, logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    """``-w (1 - p)^gamma log p`` with p the probability of the true class (Lin et al. 2017, equation 5)."""
    plain = functional.cross_entropy(logits.float(), targets, reduction="none")
    # 1 - p by expm1, which is exact where p is near 1; the clamp keeps the gradient finite where p is 1.
    doubt = (-torch.expm1(-plain)).clamp_min(torch.finfo(plain.dtype).tiny)
    values = doubt**config.gamma * plain
    return values if weights is None else values * weights[targets]


LOSSES: dict[str, Loss] = {"cross_entropy": cross_entropy, "focal": focal}


def reduce(values: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    """The mean loss, by weight: images of a heavy class also count more in the divisor, as in PyTorch."""
    return values.mean() if weights is None else values.sum() / weights[targets].sum()


def class_weights(setting: ClassWeights, targets: np.ndarray, classes: Sequence[str]) -> np.ndarray | None:
    """The weight of each class, from its number of images in the training set.

    Args:
        setting: "none" (gives None); "balanced", n / (K count) with K the classes that occur (King and Zeng 2001);
            "inverse", 1 / count scaled to sum 1; or one weight a class.
        targets: int (N,), the class index.
        classes: The class names.

    Returns:
        float32 (K,); 0 for a class that does not occur.

    Raises:
        ConfigError: The given weights are not as many as the classes, or all 0.
    """
    if setting == "none":
        return None
    counts = np.bincount(targets, minlength=len(classes))
    if not isinstance(setting, str):
        if len(setting) != len(classes) or not any(setting):
            raise ConfigError(
                f"training.loss.class_weights must be {len(classes)} numbers, not all 0, for the classes "
                f"{list(classes)}; got {list(setting)}."
            )
        return np.array(setting, dtype=np.float32)
    shares = np.divide(1.0, counts, out=np.zeros(len(counts)), where=counts > 0)
    scale = counts.sum() / (counts > 0).sum() if setting == "balanced" else 1 / shares.sum()
    return (shares * scale).astype(np.float32)


def hardest(values: Tensor, mining: HardExamples) -> Tensor:
    """Positions of the images with the largest loss, at least one."""
    return values.topk(max(1, int(mining.share * len(values)))).indices
