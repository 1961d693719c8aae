from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, update_bn

from gyrus.training.checkpointing import load_checkpoint
from gyrus.training.config import EMA, TrainingConfig
from gyrus.training.metrics import validation_scores
from gyrus.training.weight_averaging import WeightAverage
from tests.support.toy import CLASSES, ActingDataset, TinyNet, tiny_net
from tests.support.toy_training import changed, interrupt, rows, subsets, train


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


def test_swa_is_the_arithmetic_mean_with_new_statistics():
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


def test_ema_is_validated_saved_and_used(tmp_path):
    model = tiny_net()
    config = changed(
        averaging={"name": "ema", "decay": 0.95}, monitor="val_loss", optimiser={"name": "adam", "lr": 0.02}
    )
    fitted, weights = train(tmp_path, config, model=model)
    snapshot = load_checkpoint(tmp_path / "checkpoints" / "last.ckpt")
    assert fitted.best_epoch == 4, "the toy must improve throughout for this test to mean anything"
    assert all(torch.equal(weights[name], snapshot["average"]["model"][name]) for name in weights)
    assert not torch.equal(weights["head.1.weight"], snapshot["model"]["head.1.weight"])
    _, val = subsets()
    with torch.no_grad():
        scores = validation_scores(model(val.images).numpy(), val.targets, CLASSES)
    assert scores["val_loss"] == pytest.approx(float(rows(tmp_path)[-1]["val_loss"]))


def with_swa(**fields) -> TrainingConfig:
    return changed(averaging={"name": "swa", "start": 0.5, "lr_share": 0.5}, monitor="val_loss", **fields)


def test_swa_averages_the_last_epochs_and_refreshes_statistics(tmp_path):
    seen = []
    train(tmp_path, with_swa(), before_epoch=lambda _, model: seen.append(copy_of(model)))
    last = load_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["model"]
    swa = load_checkpoint(tmp_path / "checkpoints" / "swa.ckpt")["model"]
    expected = (seen[3]["head.1.weight"] + last["head.1.weight"]) / 2
    torch.testing.assert_close(swa["head.1.weight"], expected)
    assert not torch.allclose(
        swa["features.1.running_mean"], (seen[3]["features.1.running_mean"] + last["features.1.running_mean"]) / 2
    )
    model = tiny_net()
    model.load_state_dict(swa)
    subset, _ = subsets()
    channels = model.features[0](subset.images).mean(dim=(0, 2, 3))
    # The mean over batches of 8 of 60 images: the last batch of 4 counts as much as the others.
    torch.testing.assert_close(swa["features.1.running_mean"], channels, atol=0.05, rtol=0.05)


def copy_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("source", ["swa", "epoch"])
def test_swa_is_used_only_if_its_score_is_at_least_as_good(tmp_path, source, monkeypatch):
    if source == "epoch":
        monkeypatch.setattr(
            WeightAverage, "refresh_statistics", lambda average, _: average.model.head[1].bias.fill_(50)
        )
    # At such a rate the weights oscillate, and their mean is better than any of them.
    averaging = {"name": "swa", "start": 0.5, "lr_share": 1.0}
    config = changed(epochs=8, averaging=averaging, monitor="val_loss", optimiser={"name": "sgd", "lr": 1.0})
    fitted, weights = train(tmp_path, config)
    swa = load_checkpoint(tmp_path / "checkpoints" / "swa.ckpt")
    best = load_checkpoint(tmp_path / "checkpoints" / "best.ckpt")
    chosen = swa if source == "swa" else best
    assert fitted.weights == source
    assert all(torch.equal(weights[name], chosen["model"][name]) for name in weights)
    assert fitted.best_score == (swa["scores"]["val_loss"] if source == "swa" else best["score"])


def test_swa_interrupted_while_it_is_finished(tmp_path):
    subset, _ = subsets()
    train(tmp_path / "unbroken", with_swa())
    halted, _ = train(tmp_path / "broken", with_swa(), train=ActingDataset(subset, epoch=4, batch=2, action=interrupt))
    assert (halted.stopped, halted.epochs) == ("interrupted", 4)
    train(tmp_path / "broken", with_swa(), resume=True)
    swa = [load_checkpoint(tmp_path / name / "checkpoints" / "swa.ckpt")["model"] for name in ("broken", "unbroken")]
    assert all(torch.equal(swa[0][name], swa[1][name]) for name in swa[0])


def test_stopping_before_swa_begins_leaves_the_best_epoch(tmp_path):
    config = with_swa(epochs=10, early_stopping={"patience": 1, "min_delta": 100.0})
    fitted, _ = train(tmp_path, config)
    assert (fitted.stopped, fitted.epochs, fitted.weights) == ("early", 2, "epoch")
