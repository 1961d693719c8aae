"""Every way of training can be resumed, has an effect, and computes what it should."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from gyrus.errors import RunError
from gyrus.models.build import build
from gyrus.models.config import ModelConfig
from gyrus.models.freezing import FreezeConfig, apply_freezing
from gyrus.training.checkpointing import load_checkpoint
from gyrus.training.data_loader import batches, shuffle
from tests.support.toy import ActingDataset, ToyDataset, tiny_net
from tests.support.toy_training import SEED, assert_same_training, changed, interrupt, rows, subsets, train


def test_equals_a_hand_written_loop(tmp_path):
    config = changed(
        epochs=2,
        optimiser={"name": "sgd", "lr": 0.1, "momentum": 0.9},
        schedule={"name": "constant"},
        gradient_clip=0.5,
        channels_last=False,
    )
    train(tmp_path, config, model=without_dropout())
    model = without_dropout().train()
    subset, _ = subsets()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, fused=True)
    for epoch in range(2):
        for positions in batches(shuffle(subset.targets, SEED, epoch), 8):
            batch = subset.__getitems__(positions)
            optimiser.zero_grad()
            functional.cross_entropy(model(batch.images), batch.targets).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimiser.step()
    weights = load_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["model"]
    for name, tensor in model.state_dict().items():
        assert torch.equal(weights[name], tensor), name


def test_accumulating_equals_larger_batches(tmp_path):
    small = changed(epochs=2, batch_size=10, accumulate=2, optimiser={"name": "sgd", "lr": 0.1})
    large = changed(small, batch_size=20, accumulate=1)
    weights = [
        train(tmp_path / str(number), config, model=without_normalisation())[1]
        for number, config in enumerate((small, large))
    ]
    for name in weights[0]:
        torch.testing.assert_close(weights[0][name], weights[1][name], rtol=1e-5, atol=1e-6)


def test_infinite_loss_names_epoch_and_step(tmp_path):
    subset, _ = subsets()
    subset.images[shuffle(subset.targets, SEED, 0)[20]] = math.inf
    with pytest.raises(RunError, match=r"training loss became NaN or infinite in epoch 1 at step 3\. .*learning rate"):
        train(tmp_path, train=subset)
    assert not (tmp_path / "checkpoints").exists()


def test_bad_validation_loss(tmp_path):
    _, subset = subsets()
    subset.images[3] = math.nan
    with pytest.raises(RunError, match="output for the validation set became NaN or infinite after epoch 1"):
        train(tmp_path, val=subset)


def without_dropout() -> nn.Module:
    model = tiny_net()
    model.head[0] = nn.Identity()
    return model


def without_normalisation() -> nn.Module:
    model = without_dropout()
    model.features[1] = nn.Identity()
    return model


WAYS = {
    "adam": {"optimiser": {"name": "adam"}},
    "nesterov": {"optimiser": {"name": "sgd", "nesterov": True, "weight_decay": 0.01}},
    "rmsprop": {"optimiser": {"name": "rmsprop", "momentum": 0.5}},
    "no decay of norms": {"optimiser": {"name": "adamw", "weight_decay": 0.5, "decay_norms_and_biases": False}},
    "constant": {"schedule": {"name": "constant", "warmup_epochs": 0.5}},
    "one cycle": {"schedule": {"name": "one_cycle"}},
    "plateau": {"schedule": {"name": "plateau", "patience": 0, "threshold": 0.5}},
    "smoothing and weights": {
        "loss": {"name": "cross_entropy", "label_smoothing": 0.1, "class_weights": [1, 2, 3]},
    },
    "focal": {"loss": {"name": "focal", "class_weights": "balanced"}},
    "hard examples in one pass": {"mining": {"share": 0.4}},
    "hard examples in two passes": {"mining": {"share": 0.4, "passes": 2}},
    "balanced": {"sampler": "balanced"},
    "mixing": {"mixing": {"probability": 0.7}},
    "ema": {"averaging": {"name": "ema", "decay": 0.8}},
    "swa": {"averaging": {"name": "swa", "start": 0.3, "anneal_epochs": 2}},
    "accumulation": {"accumulate": 3},
    "clipping": {"gradient_clip": 0.01},
    "bfloat16": {"precision": "bf16-mixed"},
    "clipping in bfloat16": {"gradient_clip": 0.01, "precision": "bf16-mixed"},
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_interrupted_and_resumed_is_the_same_as_unbroken(tmp_path, way):
    config = changed(**way)
    fitted, weights = train(tmp_path / "unbroken", config)
    subset, _ = subsets()
    halted, _ = train(tmp_path / "broken", config, train=ActingDataset(subset, epoch=2, batch=3, action=interrupt))
    resumed, again = train(tmp_path / "broken", config, resume=True)
    assert (halted.stopped, resumed.stopped) == ("interrupted", "finished")
    assert_same_training(tmp_path / "broken", tmp_path / "unbroken")
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    assert (fitted.best_epoch, fitted.best_score, fitted.weights) == (
        resumed.best_epoch,
        resumed.best_score,
        resumed.weights,
    )


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_each_setting_has_an_effect(tmp_path, way):
    train(tmp_path / "plain", changed(epochs=2))
    train(tmp_path / "other", changed(epochs=2, **way))
    plain, other = (load_checkpoint(tmp_path / name / "checkpoints" / "last.ckpt") for name in ("plain", "other"))
    if "averaging" in way:
        assert plain["average"] is None
        assert other["average"]["count"] > 0
    else:
        assert not torch.equal(plain["model"]["head.1.weight"], other["model"]["head.1.weight"])


def test_train_accuracy_is_empty_if_labels_are_mixed(tmp_path):
    train(tmp_path, changed(mixing={"first_epoch": 3}))
    assert [row["train_accuracy"] != "" for row in rows(tmp_path)] == [True, True, False, False]
    assert all(math.isfinite(float(row["train_loss"])) for row in rows(tmp_path))


def test_gradual_unfreezing(tmp_path):
    """The first two stages are trained from the third epoch; the statistics of frozen norms stay until then too."""
    model = build(ModelConfig(name="convnext-48-bn"), in_channels=1, num_classes=3, image_size=(32, 32))
    freezing = FreezeConfig(stages=2, statistics=True, thaw={2: 0})
    seen = []

    def thaw(epoch: int, model: nn.Module) -> None:
        apply_freezing(model, freezing, epoch)
        seen.append([tensor.clone() for tensor in model.stages()[0].state_dict().values()])

    sides = {"train": ToyDataset(12, seed=1, side=32), "val": ToyDataset(6, seed=2, side=32)}
    config = changed(batch_size=6, optimiser={"name": "adamw", "lr": 0.01, "layer_decay": 0.8})
    train(tmp_path, config, model=model, before_epoch=thaw, **sides)
    assert all(torch.equal(before, after) for before, after in zip(seen[0], seen[2], strict=True))
    assert not any(torch.equal(before, after) for before, after in zip(seen[2][:2], seen[3][:2], strict=True))


@pytest.mark.slow
def test_compiled_training_is_close_to_the_plain_one(tmp_path):
    train(tmp_path / "plain", changed(epochs=2))
    train(tmp_path / "compiled", changed(epochs=2, compile=True))
    plain, compiled = (
        load_checkpoint(tmp_path / name / "checkpoints" / "last.ckpt")["model"] for name in ("plain", "compiled")
    )
    assert list(plain) == list(compiled)
    torch.testing.assert_close(plain["features.0.weight"], compiled["features.0.weight"], rtol=1e-2, atol=1e-3)
