from __future__ import annotations

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, update_bn

from gyrus.training.config import EMA
from gyrus.training.weight_averaging import WeightAverage
from tests.support.toy import TinyNet, tiny_net


def walk(model: nn.Module, count: int) -> list[torch.Tensor]:
    """Random weights after random weights; the batches that the statistics saw."""
    numbers = torch.Generator().manual_seed(5)
    batches = [torch.randn(6, 1, 8, 8, generator=numbers) for _ in range(count)]
    for batch in batches:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=numbers))
        model.train()(batch)
        yield batch


def assert_same(one: nn.Module, other: nn.Module) -> None:
    for (name, mine), its in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(mine, its, msg=lambda text, name=name: f"{name}: {text}")


def test_swa_is_the_plain_mean_and_its_statistics_are_anew():
    model = tiny_net()
    average, peer = WeightAverage(model), AveragedModel(model)
    batches = []
    for batch in walk(model, 4):
        average.update_equally(model)
        peer.update_parameters(model)
        batches.append(batch)
    for mine, its in zip(average.model.parameters(), peer.module.parameters(), strict=True):
        torch.testing.assert_close(mine, its)
    average.refresh_statistics(batches)
    update_bn(batches, peer.module)
    assert_same(average.model, peer.module)
    assert not average.model.training
    assert average.model.features[1].momentum == 0.1


def test_ema_starts_quickly_and_then_decays():
    model = tiny_net()
    weight = model.head[1].weight
    average = WeightAverage(model)
    expected = weight.detach().clone()
    for number, _ in enumerate(walk(model, 30), start=1):
        decay = min(0.5, (1 + number) / (10 + number))
        expected = decay * expected + (1 - decay) * weight.detach()
        average.update_exponentially(model, EMA(decay=0.5))
    torch.testing.assert_close(average.model.head[1].weight, expected)
    assert average.count == 30


def test_averages_do_not_touch_the_model_and_can_be_restored():
    model = tiny_net()
    average = WeightAverage(model)
    for _ in walk(model, 3):
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        average.update_equally(model)
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    again = WeightAverage(tiny_net(seed=1))
    again.load_state_dict(average.state_dict())
    average.update_equally(model)
    again.update_equally(model)
    assert_same(average.model, again.model)


class FrozenNet(TinyNet):
    def train(self, mode: bool = True) -> FrozenNet:
        super().train(mode)
        self.features[1].eval()
        return self


def test_frozen_statistics_stay_frozen():
    model = FrozenNet()
    model.features[1].running_mean.fill_(7.0)
    average = WeightAverage(model)
    average.refresh_statistics([torch.randn(4, 1, 8, 8)])
    assert average.model.features[1].running_mean.tolist() == [7.0] * 4
