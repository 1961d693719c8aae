"""Optimisers of PyTorch, with their parameter groups and learning rates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn, optim

from gyrus.errors import ConfigError
from gyrus.training.config import Optimiser

PEAK = "peak_lr"
"""The key of the peak learning rate in a parameter group."""

Groups = list[dict[str, Any]]

OPTIMISERS: dict[str, Callable[[Groups, Any, bool], optim.Optimizer]] = {
    "adam": lambda groups, config, fused: optim.Adam(groups, betas=(config.beta1, config.beta2), fused=fused),
    "adamw": lambda groups, config, fused: optim.AdamW(groups, betas=(config.beta1, config.beta2), fused=fused),
    "sgd": lambda groups, config, fused: optim.SGD(
        groups, momentum=config.momentum, nesterov=config.nesterov, fused=fused
    ),
    "rmsprop": lambda groups, config, _: optim.RMSprop(groups, momentum=config.momentum, alpha=config.alpha),
}
"""By name: from groups, settings, and whether all arithmetic of a step is done in one pass over memory."""

FUSED_ON = frozenset({"cpu", "cuda"})


def build_optimiser(model: nn.Module, config: Optimiser, *, scaled: bool = False) -> optim.Optimizer:
    """The optimiser of all parameters, including frozen ones, so that they can be unfrozen later.

    Args:
        model: On the device on which it is trained.
        config: The settings.
        scaled: Whether gradients are scaled for float16, which excludes the fused form if gradients are also clipped.

    Raises:
        ConfigError: Layer-wise learning rates are requested, but the model does not define its stages.
    """
    fused = not scaled and all(parameter.device.type in FUSED_ON for parameter in model.parameters())
    optimiser = OPTIMISERS[config.name](parameter_groups(model, config), config, fused)
    if fused and isinstance(optimiser, optim.SGD):
        optimiser.register_step_pre_hook(_begin_momentum)
    return optimiser


def _begin_momentum(optimiser: optim.Optimizer, *_: Any) -> None:
    """Give unfrozen weights a momentum of zero: the fused form of SGD needs that of all weights or of none.

    Lightning computes the gradients after this, within the step.
    """
    for group in optimiser.param_groups:
        for parameter in group["params"] if group["momentum"] else ():
            if parameter.requires_grad and optimiser.state[parameter].get("momentum_buffer") is None:
                optimiser.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


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
