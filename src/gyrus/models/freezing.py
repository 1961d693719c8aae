"""Freezing: which parameters are not trained, until which epoch, and whether batch statistics are frozen too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field, model_validator

from gyrus.configuration import Section
from gyrus.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

    from gyrus.models.classifier import Classifier

Count = Annotated[int, Field(ge=0)]


class FreezeConfig(Section):
    """Which parameters of a backbone are not trained. The head is always trained.

    Attributes:
        stages: Number of first stages to freeze, the stem being the first; or a list of stage numbers, from 0.
        all_but_last: Freeze all but this number of last parameter tensors of the backbone; 0 freezes the backbone.
        statistics: Also freeze the running mean and variance of frozen batch norms while training.
        thaw: From epoch (counted from 0) to the number of first stages that stay frozen from then on;
            {5: 2, 10: 0} unfreezes all but two stages at epoch 5 and everything at epoch 10.
    """

    stages: Count | tuple[Count, ...] = 0
    all_but_last: Count | None = None
    statistics: bool = False
    thaw: dict[Annotated[int, Field(ge=1)], Count] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_rule(self) -> FreezeConfig:
        if self.stages and self.all_but_last is not None:
            raise ValueError("give `stages` or `all_but_last`, not both")
        return self

    def at_epoch(self, epoch: int) -> FreezeConfig:
        """The rule of one epoch, counted from 0."""
        begun = [start for start in self.thaw if start <= epoch]
        if not begun:
            return self.model_copy(update={"thaw": {}})
        return FreezeConfig(stages=self.thaw[max(begun)], statistics=self.statistics)


def apply_freezing(classifier: Classifier, config: FreezeConfig, epoch: int = 0) -> None:
    """Freeze what the config specifies for an epoch, and unfreeze everything else. May be called at every epoch.

    Args:
        classifier: Changed in place.
        config: Which parameters.
        epoch: Counted from 0.

    Raises:
        ConfigError: The model has fewer stages or parameter tensors.
    """
    rule = config.at_epoch(epoch)
    frozen = {id(parameter) for parameter in _frozen(classifier, rule)}
    for parameter in classifier.parameters():
        parameter.requires_grad_(id(parameter) not in frozen)
    classifier.frozen_norms = tuple(_frozen_norms(classifier)) if rule.statistics else ()
    classifier.train(classifier.training)


def _frozen(classifier: Classifier, rule: FreezeConfig) -> list[nn.Parameter]:
    if rule.all_but_last is not None:
        tensors = list(classifier.backbone.parameters())
        if rule.all_but_last > len(tensors):
            raise ConfigError(
                f"`all_but_last` must be at most {len(tensors)}, the number of parameter tensors in the backbone of "
                f"this model; got {rule.all_but_last}."
            )
        return tensors[: len(tensors) - rule.all_but_last]
    stages = classifier.stages()
    numbers = range(rule.stages) if isinstance(rule.stages, int) else rule.stages
    if numbers and max(numbers) >= len(stages):
        raise ConfigError(f"This model has {len(stages)} stages, including the stem; cannot freeze {rule.stages}.")
    return [parameter for number in numbers for parameter in stages[number].parameters()]


def _frozen_norms(classifier: Classifier) -> list[nn.Module]:
    from torch.nn.modules.batchnorm import _BatchNorm

    return [
        module
        for module in classifier.backbone.modules()
        if isinstance(module, _BatchNorm) and not any(value.requires_grad for value in module.parameters())
    ]
