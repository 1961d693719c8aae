from __future__ import annotations

import pytest
import torch
from torch import nn

from gyrus.errors import ConfigError
from gyrus.models.build import build
from gyrus.models.config import ModelConfig
from gyrus.training.config import OPTIMISER_NAMES, SGD, Adam, AdamW, RMSprop
from gyrus.training.optimisers import OPTIMISERS, build_optimiser, parameter_groups, set_learning_rates


@pytest.fixture(scope="module")
def classifier() -> nn.Module:
    return build(ModelConfig(name="convnext-48-ln"), in_channels=1, num_classes=3, image_size=(64, 64))


def test_every_name_of_the_config_has_an_optimiser():
    assert set(OPTIMISERS) == set(OPTIMISER_NAMES)


@pytest.mark.parametrize(
    ("config", "kind", "expected"),
    [
        (Adam(lr=0.1, beta1=0.8, beta2=0.9, weight_decay=0.2), torch.optim.Adam, {"betas": (0.8, 0.9)}),
        (AdamW(lr=0.1, weight_decay=0.2), torch.optim.AdamW, {"betas": (0.9, 0.999)}),
        (SGD(lr=0.1, weight_decay=0.2, momentum=0.7, nesterov=True), torch.optim.SGD, {"momentum": 0.7}),
        (RMSprop(lr=0.1, weight_decay=0.2, alpha=0.8, momentum=0.3), torch.optim.RMSprop, {"alpha": 0.8}),
    ],
)
def test_settings_are_passed_on(config, kind, expected):
    optimiser = build_optimiser(nn.Linear(2, 2), config)
    assert type(optimiser) is kind
    group = optimiser.param_groups[0]
    assert (group["lr"], group["weight_decay"]) == (0.1, 0.2)
    assert {name: group[name] for name in expected} == expected


def ids(parameters) -> list[int]:
    return [id(parameter) for parameter in parameters]


def test_every_parameter_is_in_one_group(classifier):
    for config in (AdamW(), AdamW(layer_decay=0.7, decay_norms_and_biases=False)):
        groups = parameter_groups(classifier, config)
        assert sorted(ids(parameter for group in groups for parameter in group["params"])) == sorted(
            ids(classifier.parameters())
        )


def test_norms_and_biases_can_be_excluded_from_decay(classifier):
    groups = parameter_groups(classifier, AdamW(weight_decay=0.05, decay_norms_and_biases=False))
    spared = set(ids(parameter for group in groups if group["weight_decay"] == 0 for parameter in group["params"]))
    for module in classifier.modules():
        for name, parameter in module.named_parameters(recurse=False):
            assert (id(parameter) in spared) == (name == "bias" or parameter.ndim == 1), (type(module), name)


def test_rates_fall_from_the_head_to_the_stem(classifier):
    groups = parameter_groups(classifier, AdamW(lr=1.0, layer_decay=0.5))
    rates = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    stages = classifier.stages()
    for number, stage in enumerate(stages):
        assert {rates[id(parameter)] for parameter in stage.parameters()} == {0.5 ** (len(stages) - number)}
    assert {rates[id(parameter)] for parameter in classifier.head.parameters()} == {1.0}


def test_the_factor_scales_every_group(classifier):
    optimiser = build_optimiser(classifier, AdamW(lr=0.2, layer_decay=0.5))
    peaks = [group["lr"] for group in optimiser.param_groups]
    set_learning_rates(optimiser, 0.3)
    set_learning_rates(optimiser, 0.1)
    assert [group["lr"] for group in optimiser.param_groups] == pytest.approx([0.1 * peak for peak in peaks])


def test_layer_decay_needs_stages():
    with pytest.raises(ConfigError, match="needs a model with stages"):
        build_optimiser(nn.Linear(2, 2), AdamW(layer_decay=0.5))


@pytest.mark.parametrize("name", OPTIMISER_NAMES)
def test_weights_that_are_unfrozen_later_are_trained(name):
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    config = {"adam": Adam, "adamw": AdamW, "sgd": SGD, "rmsprop": RMSprop}[name]()
    optimiser = build_optimiser(model, config)
    for trained in (False, True):
        model[0].requires_grad_(trained)
        before = model[0].weight.clone()
        for _ in range(2):
            optimiser.zero_grad()
            model(torch.ones(3, 2)).sum().backward()
            optimiser.step()
        assert torch.equal(before, model[0].weight) is not trained
