"""Every way of training keeps the promises, and does what it says."""

from __future__ import annotations

import math
import signal

import pytest
import torch
from torch import nn

from gyrus.errors import ConfigError, MissingDependencyError
from gyrus.models.build import ModelConfig, build
from gyrus.models.freezing import FreezeConfig, apply_freezing
from gyrus.training import loggers
from gyrus.training.checkpoints import load_checkpoint
from gyrus.training.config import TrainingConfig
from gyrus.training.metrics import validation_scores
from gyrus.training.weight_averaging import WeightAverage
from tests.support.toy import CLASSES, HitPart, MemoryPart, tiny_net
from tests.support.toy_training import assert_same_training, changed, rows, subsets, train

WAYS = {
    "adam": {"optimiser": {"name": "adam"}},
    "nesterov": {"optimiser": {"name": "sgd", "nesterov": True, "weight_decay": 0.01}},
    "rmsprop": {"optimiser": {"name": "rmsprop", "momentum": 0.5}},
    "spared norms": {"optimiser": {"name": "adamw", "weight_decay": 0.5, "decay_norms_and_biases": False}},
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
}


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_interrupted_and_resumed_is_the_same_as_unbroken(tmp_path, way):
    config = changed(**way)
    fitted, weights = train(tmp_path / "unbroken", config)
    subset, _ = subsets()
    halted, _ = train(tmp_path / "broken", config, train=HitPart(subset, epoch=2, batch=3, action=interrupt))
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
def test_each_way_makes_a_difference(tmp_path, way):
    train(tmp_path / "plain", changed(epochs=2))
    train(tmp_path / "other", changed(epochs=2, **way))
    plain, other = (load_checkpoint(tmp_path / name / "checkpoints" / "last.ckpt") for name in ("plain", "other"))
    if "averaging" in way:
        assert plain["average"] is None
        assert other["average"]["count"] > 0
    else:
        assert not torch.equal(plain["model"]["head.1.weight"], other["model"]["head.1.weight"])


def test_train_accuracy_is_left_open_where_labels_are_mixed(tmp_path):
    train(tmp_path, changed(mixing={"first_epoch": 3}))
    assert [row["train_accuracy"] != "" for row in rows(tmp_path)] == [True, True, False, False]
    assert all(math.isfinite(float(row["train_loss"])) for row in rows(tmp_path))


def test_ema_is_what_is_validated_kept_and_used(tmp_path):
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
def test_swa_is_used_only_if_it_validates_as_well(tmp_path, source, monkeypatch):
    if source == "epoch":
        monkeypatch.setattr(
            WeightAverage, "refresh_statistics", lambda average, _: average.model.head[1].bias.fill_(50)
        )
    # At such a rate the weights jump about, and their mean is better than any of them.
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
    halted, _ = train(tmp_path / "broken", with_swa(), train=HitPart(subset, epoch=4, batch=2, action=interrupt))
    assert (halted.stopped, halted.epochs) == ("interrupted", 4)
    train(tmp_path / "broken", with_swa(), resume=True)
    swa = [load_checkpoint(tmp_path / name / "checkpoints" / "swa.ckpt")["model"] for name in ("broken", "unbroken")]
    assert all(torch.equal(swa[0][name], swa[1][name]) for name in swa[0])


def test_stopping_before_swa_begins_leaves_the_best_epoch(tmp_path):
    config = with_swa(epochs=10, early_stopping={"patience": 1, "min_delta": 100.0})
    fitted, _ = train(tmp_path, config)
    assert (fitted.stopped, fitted.epochs, fitted.weights) == ("early", 2, "epoch")


def test_learning_rates_in_the_history_follow_the_schedule(tmp_path):
    train(tmp_path, changed(schedule={"name": "cosine", "warmup_epochs": 1, "every": "epoch"}, epochs=3))
    expected = [1e-3 * factor for factor in (0.1, 1.0, 0.5)]
    assert [float(row["lr"]) for row in rows(tmp_path)] == pytest.approx(expected)


def test_plateau_watches_the_validation_part(tmp_path):
    train(tmp_path, changed(schedule={"name": "plateau", "patience": 0, "factor": 0.5, "threshold": 100.0}))
    assert [float(row["lr"]) for row in rows(tmp_path)] == pytest.approx([1e-3, 1e-3, 5e-4, 2.5e-4])


def test_gradual_unfreezing(tmp_path):
    """The first two stages learn from the third epoch on; a frozen norm's statistics stay until then too."""
    model = build(ModelConfig(name="convnext-48-bn"), in_channels=1, num_classes=3, image_size=(32, 32))
    freezing = FreezeConfig(stages=2, statistics=True, thaw={2: 0})
    seen = []

    def thaw(epoch: int, model: nn.Module) -> None:
        apply_freezing(model, freezing, epoch)
        seen.append([tensor.clone() for tensor in model.stages()[0].state_dict().values()])

    sides = {"train": MemoryPart(12, seed=1, side=32), "val": MemoryPart(6, seed=2, side=32)}
    config = changed(batch_size=6, optimiser={"name": "adamw", "lr": 0.01, "layer_decay": 0.8})
    train(tmp_path, config, model=model, before_epoch=thaw, **sides)
    assert all(torch.equal(before, after) for before, after in zip(seen[0], seen[2], strict=True))
    assert not any(torch.equal(before, after) for before, after in zip(seen[2][:2], seen[3][:2], strict=True))


def test_correcting_twice_is_said(tmp_path):
    config = changed(epochs=1, sampler="balanced", loss={"name": "cross_entropy", "class_weights": "balanced"})
    fitted, _ = train(tmp_path, config)
    assert "corrected twice" in fitted.warnings[0]


def test_class_weights_that_do_not_fit_are_refused_first(tmp_path):
    with pytest.raises(ConfigError, match="class_weights must be 3 numbers"):
        train(tmp_path, changed(loss={"name": "focal", "class_weights": [1, 2]}))
    assert list(tmp_path.iterdir()) == []


def test_tensorboard_has_every_epoch_once(tmp_path):
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    subset, _ = subsets()
    config = changed(loggers=["tensorboard"])
    train(tmp_path, config, train=HitPart(subset, epoch=2, batch=3, action=interrupt))
    train(tmp_path, config, resume=True)
    events = accumulators.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    scalars = events.Scalars("val_loss")
    assert [scalar.step for scalar in scalars] == [1, 2, 3, 4]
    assert [scalar.value for scalar in scalars] == pytest.approx([float(row["val_loss"]) for row in rows(tmp_path)])
    assert not (tmp_path / "lightning_logs").exists()


def test_a_logger_that_is_not_installed_is_said_first(tmp_path, monkeypatch):
    monkeypatch.setattr(loggers, "find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError, match="pip install tensorboard"):
        train(tmp_path, changed(loggers=["tensorboard"]))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_compiled_training_is_close_to_the_plain_one(tmp_path):
    train(tmp_path / "plain", changed(epochs=2))
    train(tmp_path / "compiled", changed(epochs=2, compile=True))
    plain, compiled = (
        load_checkpoint(tmp_path / name / "checkpoints" / "last.ckpt")["model"] for name in ("plain", "compiled")
    )
    assert list(plain) == list(compiled)
    torch.testing.assert_close(plain["features.0.weight"], compiled["features.0.weight"], rtol=1e-2, atol=1e-3)
