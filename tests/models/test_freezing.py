"""Freezing: frozen parameters do not change, and all others do."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from gyrus.errors import ConfigError
from gyrus.models.build import build
from gyrus.models.classifier import Classifier
from gyrus.models.config import ModelConfig
from gyrus.models.freezing import FreezeConfig, apply_freezing

SHAPES = {"timm:resnet18": (32, 32), "convnext-48-bn": (16, 16), "baseline-cnn-deep": (16, 16)}
OPTIONS: dict[str, dict[str, Any]] = {"convnext-48-bn": {"depths": [1, 1, 1], "dims": [6, 8, 10], "kernel": 3}}
models = pytest.mark.parametrize("name", SHAPES)


def make(name: str, **freezing: Any) -> Classifier:
    torch.manual_seed(0)
    config = ModelConfig(name=name, options=OPTIONS.get(name, {}), freezing=FreezeConfig(**freezing))
    return build(config, in_channels=1, num_classes=2, image_size=SHAPES[name])


def moved_by_a_step(classifier: Classifier) -> set[str]:
    """Names of the tensors, running statistics among them, that one step of training changes."""
    before = copy.deepcopy(classifier.state_dict())
    classifier.train()
    images = torch.randn(8, 1, *classifier.signature.image_size)
    optimiser = torch.optim.SGD(classifier.parameters(), lr=1.0, momentum=0.9)
    nn.functional.cross_entropy(classifier(images), torch.arange(8) % 2).backward()
    optimiser.step()
    return {name for name, value in classifier.state_dict().items() if not torch.equal(value, before[name])}


def names_of(classifier: Classifier, stage: int) -> set[str]:
    held = {id(value) for value in classifier.stages()[stage].parameters()}
    return {name for name, value in classifier.named_parameters() if id(value) in held}


def statistics(names: set[str]) -> set[str]:
    return {name for name in names if "running_" in name or "num_batches" in name}


@models
def test_frozen_stages_stay_and_everything_else_moves(name: str) -> None:
    classifier = make(name, stages=2)
    frozen = names_of(classifier, 0) | names_of(classifier, 1)
    moved = moved_by_a_step(classifier)
    parameters = {key for key, _ in classifier.named_parameters()}
    assert moved & frozen == set()
    assert moved & parameters
    assert {key for key, value in classifier.named_parameters() if value.grad is not None} == parameters - frozen
    assert len(statistics(moved)) == len(statistics(set(classifier.state_dict())))


@models
def test_statistics_of_frozen_norms_stay_also_while_training(name: str) -> None:
    classifier = make(name, stages=2, statistics=True)
    frozen_prefixes = {key.rpartition(".")[0] for stage in (0, 1) for key in names_of(classifier, stage)}
    classifier.eval()
    moved = statistics(moved_by_a_step(classifier))
    everything = statistics(set(classifier.state_dict()))
    assert moved == {key for key in everything if key.rpartition(".")[0] not in frozen_prefixes}
    assert len(moved) < len(everything)


def test_frozen_statistics_hold_in_a_copy_and_end_when_thawed() -> None:
    classifier = make("baseline-cnn-deep", all_but_last=0, statistics=True)
    twin = copy.deepcopy(classifier)
    assert statistics(moved_by_a_step(twin)) == set()
    assert statistics(moved_by_a_step(classifier)) == set()
    apply_freezing(classifier, FreezeConfig())
    assert len(statistics(moved_by_a_step(classifier))) == 9


@pytest.mark.parametrize("last", [0, 1, 5])
def test_all_but_the_last_tensors(last: int) -> None:
    classifier = make("timm:resnet18", all_but_last=last)
    free = [name for name, value in classifier.backbone.named_parameters() if value.requires_grad]
    assert free == [name for name, _ in classifier.backbone.named_parameters()][60 - last :]
    assert all(value.requires_grad for value in classifier.head.parameters())


def test_stages_by_number_leave_the_stem_free() -> None:
    classifier = make("convnext-48-bn", stages=[1, 2])
    free = [all(value.requires_grad for value in stage.parameters()) for stage in classifier.stages()]
    assert free == [True, False, False, True]


def test_gradual_unfreezing_and_freezing_again() -> None:
    rule = FreezeConfig(all_but_last=0, thaw={2: 2, 5: 0})
    classifier = make("convnext-48-bn")
    frozen = []
    for epoch in (0, 1, 2, 4, 5, 9, 0):
        apply_freezing(classifier, rule, epoch)
        frozen.append(
            sum(not any(value.requires_grad for value in stage.parameters()) for stage in classifier.stages())
        )
    assert frozen == [4, 4, 2, 2, 0, 0, 4]


def test_a_new_head_is_trained() -> None:
    classifier = make("baseline-cnn-deep", all_but_last=0)
    classifier.reset_head(2)
    assert {"head.classify.weight", "head.classify.bias"} <= moved_by_a_step(classifier)


def test_invalid_rules_are_refused() -> None:
    with pytest.raises(ConfigError, match="3 stages"):
        make("baseline-cnn-deep", stages=4)
    with pytest.raises(ConfigError, match="3 stages"):
        make("baseline-cnn-deep", stages=[3])
    with pytest.raises(ConfigError, match="at most 12"):
        make("baseline-cnn-deep", all_but_last=13)
    with pytest.raises(ValidationError, match="not both"):
        FreezeConfig(stages=1, all_but_last=2)


def test_thawing_survives_json() -> None:
    rule = FreezeConfig(stages=3, thaw={4: 1})
    assert FreezeConfig.model_validate_json(rule.model_dump_json()) == rule
