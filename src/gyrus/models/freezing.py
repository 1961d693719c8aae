"""Freezing: which parameters stay as they are, from which epoch on, and whether batch statistics stay too."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from gyrus.errors import ConfigError
from gyrus.models.classifier import Classifier

Count = Annotated[int, Field(ge=0)]


class FreezeConfig(BaseModel):
    """Which part of a backbone is not trained. The head always is.

    Attributes:
        stages: The first so many stages, the stem being the first; or the stages of these numbers, from 0.
        all_but_last: All but the last so many parameter tensors of the backbone; 0 freezes it whole.
        statistics: Frozen batch norms keep their running mean and variance too, also while training.
        thaw: Epoch (from 0) to how many of the first stages stay frozen from then on; {5: 2, 10: 0} frees all but
            two stages at epoch 5 and everything at epoch 10.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

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
        """What holds in one epoch, counted from 0."""
        begun = [start for start in self.thaw if start <= epoch]
        if not begun:
            return self.model_copy(update={"thaw": {}})
        return FreezeConfig(stages=self.thaw[max(begun)], statistics=self.statistics)


def apply_freezing(classifier: Classifier, config: FreezeConfig, epoch: int = 0) -> None:
    """Freeze what the config says for an epoch, and free everything else. May be called at every epoch.

    Args:
        classifier: Changed in place.
        config: Which part.
        epoch: Counted from 0.

    Raises:
        ConfigError: There are not so many stages or parameter tensors.
    """
    rule = config.at_epoch(epoch)
    frozen = {id(parameter) for parameter in _frozen(classifier, rule)}
    for parameter in classifier.parameters():
        parameter.requires_grad_(id(parameter) not in frozen)
    classifier.frozen_norms = tuple(_still_norms(classifier)) if rule.statistics else ()
    classifier.train(classifier.training)


def _frozen(classifier: Classifier, rule: FreezeConfig) -> list[nn.Parameter]:
    if rule.all_but_last is not None:
        tensors = list(classifier.backbone.parameters())
        if rule.all_but_last > len(tensors):
            raise ConfigError(
                f"`all_but_last` must be {len(tensors)} at most for this model, which has so many parameter "
                f"tensors before its head; got {rule.all_but_last}."
            )
        return tensors[: len(tensors) - rule.all_but_last]
    stages = classifier.stages()
    numbers = range(rule.stages) if isinstance(rule.stages, int) else rule.stages
    if numbers and max(numbers) >= len(stages):
        raise ConfigError(f"This model has {len(stages)} stages, the stem among them; cannot freeze {rule.stages}.")
    return [parameter for number in numbers for parameter in stages[number].parameters()]


def _still_norms(classifier: Classifier) -> list[nn.Module]:
    return [
        module
        for module in classifier.backbone.modules()
        if isinstance(module, _BatchNorm) and not any(value.requires_grad for value in module.parameters())
    ]
