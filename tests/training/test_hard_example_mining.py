"""Hard example mining, in one and in two passes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from gyrus.training.config import HardExamples, TrainingConfig
from gyrus.training.hard_example_mining import hardest
from gyrus.training.losses import Objective
from tests.support.toy import ToyDataset, tiny_net


@pytest.mark.parametrize(("size", "count"), [(32, 6), (16, 3), (64, 12), (9, 1), (4, 1), (1, 1)])
def test_hard_examples_are_a_fifth_but_at_least_one(size, count):
    values = torch.randperm(size, generator=torch.Generator().manual_seed(1)).float()
    chosen = hardest(values, HardExamples(share=0.2))
    assert sorted(values[chosen].tolist()) == sorted(values.tolist())[-count:]


BATCH = ToyDataset(20, seed=4).__getitems__(list(range(20)))


def net() -> nn.Module:
    model = tiny_net()
    model.head[0] = nn.Identity()
    return model.train()


def objective(**fields) -> Objective:
    return Objective(TrainingConfig(**fields), None)


def run(model: nn.Module, loss_module: Objective, images: Tensor = BATCH.images) -> Tensor:
    loss, logits = loss_module(model, model, images, BATCH.targets[: len(images)], None)
    assert logits.shape == (len(images), 3)
    model.zero_grad()
    loss.backward()
    return loss.detach()


def gradients(model: nn.Module) -> list[Tensor]:
    return [parameter.grad.clone() for parameter in model.parameters()]


def statistics(model: nn.Module) -> list[Tensor]:
    norm = model.features[1]
    return [norm.running_mean.clone(), norm.running_var.clone(), norm.num_batches_tracked.clone()]


def test_mining_in_one_pass_is_the_mean_of_the_largest_losses():
    model, other = net(), net()
    loss = run(model, objective(mining=HardExamples(share=0.2, passes=1)))
    values = functional.cross_entropy(other(BATCH.images), BATCH.targets, reduction="none")
    expected = values.sort(descending=True).values[:4].mean()
    torch.testing.assert_close(loss, expected.detach())
    other.zero_grad()
    expected.backward()
    for mine, its in zip(gradients(model), gradients(other), strict=True):
        torch.testing.assert_close(mine, its)


def test_mining_in_two_passes_normalises_the_selected_images_among_themselves():
    """The rule of MRI-Scans-Model: all images forward, the hardest fifth again, gradients of the second pass only."""
    model, other = net(), net()
    loss = run(model, objective(mining=HardExamples(share=0.2, passes=2)))
    values = functional.cross_entropy(other(BATCH.images), BATCH.targets, reduction="none")
    chosen = values.topk(4).indices
    again = functional.cross_entropy(other(BATCH.images[chosen]), BATCH.targets[chosen])
    torch.testing.assert_close(loss, again.detach())
    other.zero_grad()
    again.backward()
    for mine, its in zip(gradients(model), gradients(other), strict=True):
        torch.testing.assert_close(mine, its)


@pytest.mark.parametrize("passes", [1, 2])
def test_batch_statistics_are_updated_once(passes):
    model, other = net(), net()
    other(BATCH.images)
    run(model, objective(mining=HardExamples(passes=passes)))
    for mine, its in zip(statistics(model), statistics(other), strict=True):
        torch.testing.assert_close(mine, its)
    assert model.features[1].training
    assert model.features[1].track_running_stats


def test_frozen_statistics_stay_frozen_in_both_passes():
    model = net()
    model.features[1].eval()
    before = statistics(model)
    run(model, objective(mining=HardExamples(passes=2)))
    assert all(torch.equal(mine, its) for mine, its in zip(statistics(model), before, strict=True))
    assert not model.features[1].training


def test_one_hard_example_does_not_crash_batch_normalisation():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    assert run(model, objective(mining=HardExamples(passes=2)), images=BATCH.images[:4]).isfinite()
    assert model[2].training
