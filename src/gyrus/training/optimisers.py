"""Optimisers of PyTorch, with their parameter groups and learning rates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn, optim

from gyrus.errors import ConfigError
from gyrus.training.config import Optimiser

PEAK = "peak_lr"
"""The key of the peak learning rate in a parameter group."""

Groups = list[dict[str, Any]]

OPTIMISERS: dict[str, Callable[[Groups, Any], optim.Optimizer]] = {
    "adam": lambda groups, config: optim.Adam(groups, betas=(config.beta1, config.beta2)),
    "adamw": lambda groups, config: optim.AdamW(groups, betas=(config.beta1, config.beta2)),
    "sgd": lambda groups, config: optim.SGD(groups, momentum=config.momentum, nesterov=config.nesterov),
    "rmsprop": lambda groups, config: optim.RMSprop(groups, momentum=config.momentum, alpha=config.alpha),
}


def build_optimiser(model: nn.Module, config: Optimiser) -> optim.Optimizer:
    """The optimiser of all parameters, including frozen ones, so that they can be unfrozen later.

    Raises:
        ConfigError: Layer-wise learning rates are requested, but the model does not define its stages.
    """
    return OPTIMISERS[config.name](parameter_groups(model, config), config)


def parameter_groups(model: nn.Module, config: Optimiser) -> Groups:
    """Groups of parameters with the same learning rate and weight decay, from the stem to the head.

    With n stages, stage i (from 0) has ``layer_decay ** (n - i)`` of the peak and the head has the peak (as for BEiT,
    Bao et al. 2022). One-dimensional parameters (norms, biases, layer scales) can be excluded from weight decay.
    """
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for parameter, fraction in _lr_fractions(model, config.layer_decay):
        excluded = parameter.ndim <= 1 and not config.decay_norms_and_biases
        rate, decay = config.lr * fraction, 0.0 if excluded else config.weight_decay
        empty = {"params": [], "lr": rate, PEAK: rate, "weight_decay": decay}
        groups.setdefault((rate, decay), empty)["params"].append(parameter)
    return list(groups.values())


def set_learning_rates(optimiser: optim.Optimizer, factor: float) -> None:
    """Scale every group's peak learning rate by ``factor``."""
    for group in optimiser.param_groups:
        group["lr"] = group[PEAK] * factor


def _lr_fractions(model: nn.Module, layer_decay: float) -> list[tuple[nn.Parameter, float]]:
    """Every parameter with its learning rate as a fraction of the peak."""
    if layer_decay == 1:
        return [(parameter, 1.0) for parameter in model.parameters()]
    stages = getattr(model, "stages", None)
    if stages is None:
        raise ConfigError(
            "training.optimiser.layer_decay needs a model with stages, such as those of `gyrus models`. Set it to 1."
        )
    modules = stages()
    fractions = {
        id(parameter): layer_decay ** (len(modules) - number)
        for number, module in enumerate(modules)
        for parameter in module.parameters()
    }
    return [(parameter, fractions.get(id(parameter), 1.0)) for parameter in model.parameters()]
