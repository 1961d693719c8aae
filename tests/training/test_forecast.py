"""The forecast of memory counts what exists together, without computing anything."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gyrus.inference.engines import images_at_once
from gyrus.processes import Process
from gyrus.training.config import TrainingConfig
from gyrus.training.forecast import LIBRARIES, MemoryForecast, forecast_memory, time_of_step
from gyrus.training.optimisers import OPTIMISERS, build_optimiser
from tests.support.toy import ToyDataset, tiny_net

WEIGHTS = 1000 * 1000 * 4


def forecast(**settings: object) -> MemoryForecast:
    """For one linear layer of a million weights."""
    config = TrainingConfig.model_validate({"batch_size": 8, "monitor": "val_loss", "precision": "32-true", **settings})
    return forecast_memory(lambda: nn.Linear(1000, 1000, bias=False), config, (1000,))


@pytest.mark.parametrize(
    ("settings", "states"),
    [
        ({}, 2),
        ({"optimiser": {"name": "sgd", "momentum": 0}}, 0),
        ({"optimiser": {"name": "sgd"}}, 1),
        ({"optimiser": {"name": "rmsprop"}}, 1),
        ({"optimiser": {"name": "rmsprop", "momentum": 0.9}}, 2),
    ],
)
def test_weights_gradients_optimiser_and_averages_are_counted(settings, states):
    found = forecast(**settings)
    assert (found.parameters, found.weights, found.gradients) == (1_000_000, WEIGHTS, WEIGHTS)
    assert found.optimiser == states * WEIGHTS
    assert found.averaging == 0
    assert forecast(averaging={"name": "ema"}).averaging == WEIGHTS


def test_the_states_are_those_of_the_optimisers():
    for name in OPTIMISERS:
        layer = nn.Linear(1000, 1000, bias=False)
        optimiser = build_optimiser(layer, TrainingConfig.model_validate({"optimiser": {"name": name}}).optimiser)
        layer(torch.ones(1, 1000)).sum().backward()
        optimiser.step()
        kept = sum(value.nbytes for value in optimiser.state[layer.weight].values() if value.ndim)
        assert forecast(optimiser={"name": name}).optimiser == kept, name


def test_activations_grow_with_the_batch_and_with_the_layers_that_keep_theirs():
    def network() -> nn.Module:
        return nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.Flatten())

    def of(batch_size: int) -> MemoryForecast:
        config = TrainingConfig(batch_size=batch_size, monitor="val_loss", precision="32-true")
        return forecast_memory(network, config, (1, 64, 64))

    layer = 8 * 16 * 64 * 64 * 4
    assert 2 * layer <= of(8).activations <= 5 * layer
    assert of(16).activations == pytest.approx(2 * of(8).activations, rel=0.02)
    assert of(256).total > of(8).total > of(8).counted


def test_frozen_weights_have_neither_gradients_nor_states():
    def network() -> nn.Module:
        return nn.Sequential(nn.Linear(1000, 1000, bias=False).requires_grad_(False), nn.Linear(1000, 2))

    found = forecast_memory(network, TrainingConfig(batch_size=2), (1000,))
    assert found.gradients < WEIGHTS / 100
    assert found.optimiser == 2 * found.gradients


def test_processes_on_the_cpu_share_its_memory_and_the_batch():
    def network() -> nn.Module:
        return nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.Flatten())

    config = TrainingConfig(batch_size=8, monitor="val_loss", device="cpu")
    alone = forecast_memory(network, config, (1, 64, 64))
    four = forecast_memory(network, config, (1, 64, 64), process=Process(0, 4, 0, 4))
    assert (four.batch_size, four.processes) == (2, 4)
    assert four.activations == pytest.approx(alone.activations / 4, rel=0.02)
    assert four.total > 4 * LIBRARIES
    assert "in each of 4 processes" in four.text()
    assert "processes" not in alone.text()
    two_machines = forecast_memory(network, config, (1, 64, 64), process=Process(0, 4, 0, 2))
    assert (two_machines.batch_size, two_machines.processes) == (2, 2)


def test_large_volumes_are_predicted_one_by_one():
    assert images_at_once((1, 128, 128)) == 64
    assert images_at_once((1, 128, 128, 64)) == 2
    assert images_at_once((1, 300, 300, 300)) == 1


def test_a_step_is_timed_on_real_batches_and_may_be_larger_than_the_set():
    train = ToyDataset(12, seed=0)
    assert time_of_step(tiny_net(), train, TrainingConfig(batch_size=16), "cpu") > 0
