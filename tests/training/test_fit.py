"""Trainings from the first to the last epoch: reproducible, resumable, and with the best weights."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from gyrus.errors import ConfigError, DataError, GyrusError, RunError
from gyrus.runs.run_folder import Run
from gyrus.training.checkpointing import load_checkpoint
from gyrus.training.config import EarlyStopping
from gyrus.training.metrics import validation_scores
from gyrus.workflows.train import train as train_run
from tests.conftest import SMALL
from tests.support.toy import CLASSES, ActingDataset, TinyNet, ToyDataset, tiny_net
from tests.support.toy_training import SEED, assert_same_training, changed, interrupt, rows, subsets, train


def test_fits_the_toy_data(tmp_path):
    config = changed(epochs=8, optimiser={"name": "adamw", "lr": 0.05}, channels_last=False)
    fitted, _ = train(tmp_path, config)
    assert fitted.stopped == "finished"
    assert fitted.best_score > 0.8


def test_same_seed_same_weights_other_seed_other_weights(tmp_path, unbroken):
    train(tmp_path / "again")
    assert_same_training(tmp_path / "again", unbroken)
    _, other = train(tmp_path / "other", seed=SEED + 1)
    assert not torch.equal(
        other["head.1.weight"], load_checkpoint(unbroken / "checkpoints" / "last.ckpt")["model"]["head.1.weight"]
    )


def test_workers_do_not_change_the_result(tmp_path, unbroken):
    train(tmp_path, changed(workers=1))
    assert_same_training(tmp_path, unbroken)


def test_files_missing_after_a_kill_are_written_again(tmp_path, unbroken):
    train(tmp_path)
    snapshot = load_checkpoint(tmp_path / "checkpoints" / "last.ckpt")
    (tmp_path / "history.csv").write_text("epoch\n1\n1\n7\n")
    train(tmp_path, resume=True)
    assert rows(tmp_path) == rows(unbroken)
    assert load_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["history"] == snapshot["history"]


def test_best_is_restored_from_last(tmp_path):
    config = changed(monitor="val_loss", optimiser={"name": "adamw", "lr": 0.01}, epochs=3)
    fitted, best = train(tmp_path, config)
    assert fitted.best_epoch == 3, "the toy must improve throughout for this test to mean anything"
    (tmp_path / "checkpoints" / "best.ckpt").unlink()
    _, again = train(tmp_path, config, resume=True)
    assert all(torch.equal(best[name], again[name]) for name in best)


def test_the_model_carries_the_best_weights(tmp_path):
    model = tiny_net()
    config = changed(epochs=6, monitor="val_accuracy", optimiser={"name": "sgd", "lr": 2.0, "momentum": 0.0})
    fitted, _ = train(tmp_path, config, model=model)
    _, val_set = subsets()
    assert not model.training
    with torch.no_grad():
        logits = model(val_set.images).numpy()
    assert validation_scores(logits, val_set.targets, CLASSES)["val_accuracy"] == pytest.approx(fitted.best_score)
    scores = [float(row["val_accuracy"]) for row in rows(tmp_path)]
    assert fitted.best_score == max(scores)
    assert len(set(scores)) > 1, "the epochs must differ for this test to mean anything"


def test_early_stopping_and_its_resumption(tmp_path):
    rule = EarlyStopping(monitor="val_loss", patience=2, min_delta=100.0)
    fitted, _ = train(tmp_path, changed(epochs=10, early_stopping=rule.model_dump()))
    assert (fitted.stopped, fitted.epochs) == ("early", 3)
    again, _ = train(tmp_path, changed(epochs=10, early_stopping=rule.model_dump()), resume=True)
    assert again == fitted


def test_hook_is_called_once_per_epoch(tmp_path):
    seen = []
    train(tmp_path, before_epoch=lambda epoch, model: seen.append((epoch, type(model))))
    assert seen == [(epoch, TinyNet) for epoch in range(4)]


def test_epoch_is_set_on_the_training_set_also_after_resuming(tmp_path):
    subset, _ = subsets()
    acting = ActingDataset(subset, epoch=2, batch=1, action=interrupt)
    train(tmp_path, train=acting)
    train(tmp_path, train=subset, resume=True)
    assert subset.epochs == [2, 3]


def test_history_is_complete(unbroken):
    table = rows(unbroken, without="")
    assert [row["epoch"] for row in table] == ["1", "2", "3", "4"]
    assert list(table[0]) == [
        "epoch", "lr", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "val_balanced_accuracy",
        "val_macro_f1", "val_auc", "val_f1_none", "val_f1_mild", "val_f1_severe", "seconds",
    ]  # fmt: skip
    assert all(math.isfinite(float(cell)) for row in table for cell in row.values())


def test_nothing_else_is_written(unbroken):
    found = sorted(str(path.relative_to(unbroken)) for path in unbroken.rglob("*"))
    assert found == ["checkpoints", "checkpoints/best.ckpt", "checkpoints/last.ckpt", "history.csv", "history.txt"]


@pytest.mark.parametrize("precision", ["bf16-mixed"])
def test_mixed_precision_on_the_cpu(tmp_path, precision):
    fitted, weights = train(tmp_path, changed(precision=precision))
    assert fitted.stopped == "finished"
    assert all(tensor.dtype != torch.bfloat16 for tensor in weights.values())


def test_a_last_batch_of_one_does_not_crash_batch_normalisation(tmp_path):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    fitted, _ = train(tmp_path, train=ToyDataset(33, seed=1), model=model)
    assert fitted.stopped == "finished"


def test_a_used_folder_is_refused(tmp_path):
    train(tmp_path)
    with pytest.raises(RunError, match="already contains a training"):
        train(tmp_path)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"config": changed(epochs=9)}, "training.epochs was 4, is 9"),
        ({"config": changed(batch_size=9)}, "training.batch_size was 8, is 9"),
        ({"seed": 8}, "seed was 3, is 8"),
        ({"classes": ("none", "mild", "bad")}, "classes was"),
        ({"train": ToyDataset(60, seed=5)}, "train labels was"),
    ],
)
def test_resuming_with_other_settings_is_refused(unbroken, other, message):
    with pytest.raises(RunError, match=message):
        train(unbroken, resume=True, **other)


def test_resuming_a_finished_training_does_nothing(unbroken):
    before = (unbroken / "checkpoints" / "last.ckpt").stat().st_mtime_ns
    fitted, _ = train(unbroken, changed(workers=1), resume=True)
    assert fitted.stopped == "finished"
    assert (unbroken / "checkpoints" / "last.ckpt").stat().st_mtime_ns == before


def test_result_is_a_value(unbroken):
    fitted, _ = train(unbroken, resume=True)
    assert replace(fitted) == fitted
    assert issubclass(RunError, GyrusError)


def test_a_run_keeps_the_weights_of_its_last_epoch(phantom_folder, tmp_path):
    overrides = {**SMALL, "training.monitor": "epoch", "training.early_stopping": None, "evaluation.baselines": False}
    run = train_run("dementia-baseline", data=phantom_folder, out=tmp_path / "run", overrides=overrides)
    assert run.status == "finished"
    assert '"best_epoch": 2' in (Run(run.folder).folder / "run.json").read_text()


def one_class(subset: ToyDataset) -> ToyDataset:
    subset.targets = np.full_like(subset.targets, 1)
    return subset


@pytest.mark.parametrize(
    ("problem", "error", "message"),
    [
        ({"val": ToyDataset(0, seed=1)}, DataError, "validation set is empty"),
        ({"train": ToyDataset(0, seed=1)}, DataError, "training set is empty"),
        (
            {"val": one_class(ToyDataset(9, seed=1))},
            DataError,
            "All 9 images of the validation set are of class 'mild'",
        ),
        ({"classes": ("none", "mild")}, DataError, "without a label"),
        ({"config": changed(batch_size=1)}, ConfigError, "batch normalisation"),
        ({"config": changed(precision="16-mixed")}, ConfigError, "needs a GPU"),
    ],
)
def test_unusable_data_and_settings_are_refused(tmp_path, problem, error, message):
    with pytest.raises(error, match=message):
        train(tmp_path, **problem)
    assert list(tmp_path.iterdir()) == []


def test_absent_device_is_refused(tmp_path):
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    absent = next(name for name, present in available.items() if not present)
    with pytest.raises(ConfigError, match=f"no device '{absent}'"):
        train(tmp_path, changed(device=absent))


def test_missing_classes_are_named(tmp_path):
    val = ToyDataset(20, seed=2, classes=2)
    fitted, _ = train(tmp_path, val=val)
    assert fitted.warnings == ("The validation set has no image of severe; its scores exclude these classes.",)
    assert {row["val_f1_severe"] for row in rows(tmp_path)} == {""}
