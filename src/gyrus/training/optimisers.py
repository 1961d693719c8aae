"""From a model and the settings to a PyTorch optimiser."""

from __future__ import annotations

from typing import Any

from torch import nn, optim

from gyrus.training.config import SGD, Adam, AdamW, Optimiser, RMSprop

BASE = "base_lr"
"""The key of a parameter group under which its peak learning rate is kept."""


def build_optimiser(model: nn.Module, config: Optimiser) -> optim.Optimizer:
    """The optimiser over all parameters, frozen ones included, so that they may be unfrozen later."""
    groups = [{"params": list(model.parameters()), BASE: config.lr}]
    common: dict[str, Any] = {"lr": config.lr, "weight_decay": config.weight_decay}
    match config:
        case Adam():
            return optim.Adam(groups, betas=(config.beta1, config.beta2), **common)
        case AdamW():
            return optim.AdamW(groups, betas=(config.beta1, config.beta2), **common)
        case SGD():
            return optim.SGD(groups, momentum=config.momentum, nesterov=config.nesterov, **common)
        case RMSprop():
            return optim.RMSprop(groups, momentum=config.momentum, alpha=config.alpha, **common)


def set_learning_rates(optimiser: optim.Optimizer, factor: float) -> None:
    """Scale every group's peak learning rate by ``factor``."""
    for group in optimiser.param_groups:
        group["lr"] = group[BASE] * factor
