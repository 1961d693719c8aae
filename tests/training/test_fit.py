from __future__ import annotations

import math
import os
import random
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from gyrus.errors import ConfigError, DataError, GyrusError, RunError
from gyrus.training.checkpoints import load_checkpoint
from gyrus.training.config import EarlyStopping
from gyrus.training.metrics import validation_scores
from gyrus.training.samplers import batches, shuffle
from tests.support.toy import CLASSES, HitPart, MemoryPart, TinyNet, tiny_net
from tests.support.toy_training import SEED, assert_same_training, changed, rows, subsets, train


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken")
    train(folder)
    return folder


@pytest.fixture(scope="module")
def hit(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess]:
    """Trainings in processes of their own that met a signal."""
    folder = tmp_path_factory.mktemp("hit")
    for name in ("kill", "interrupt", "terminate", "half"):
        (folder / name).mkdir()
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.support.killed_training", str(folder)],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return folder, done


def test_learns_the_toy(tmp_path):
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


def test_global_state_has_no_say_and_is_left_alone(tmp_path, unbroken):
    torch.manual_seed(99)
    np.random.seed(99)
    random.seed(99)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    train(tmp_path)
    assert_same_training(tmp_path, unbroken)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert random.getstate() == before[2]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert not torch.are_deterministic_algorithms_enabled()


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
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
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


@pytest.mark.parametrize("name", ["kill", "interrupt", "terminate", "half"])
def test_resumes_after_a_signal_to_the_same_weights(name, hit, unbroken):
    folder = hit[0] / name
    epochs = [epoch["epoch"] for epoch in load_checkpoint(folder / "checkpoints" / "last.ckpt")["history"]]
    assert epochs == [1, 2]
    fitted, _ = train(folder, resume=True)
    assert fitted.stopped == "finished"
    assert_same_training(folder, unbroken)
    assert sorted(path.name for path in folder.rglob("*.ckpt")) == ["best.ckpt", "last.ckpt"]


def test_signals_end_a_process_as_they_should(hit):
    folder, process = hit
    assert process.stdout.split() == ["kill", "-9", "interrupt", "0", "terminate", "0", "half", "-9"]
    assert process.stderr == ""
    assert [(folder / name / "stopped").read_text() for name in ("interrupt", "terminate")] == ["interrupted"] * 2


def test_interrupted_in_the_first_epoch_begins_again(tmp_path, unbroken):
    train_set, _ = subsets()
    hit_part = HitPart(train_set, epoch=0, batch=2, action=lambda: signal.raise_signal(signal.SIGINT))
    fitted, _ = train(tmp_path, train=hit_part)
    assert (fitted.stopped, fitted.best_epoch, fitted.best_score, fitted.epochs) == ("interrupted", None, None, 0)
    train(tmp_path, resume=True)
    assert_same_training(tmp_path, unbroken)


def test_interrupted_in_the_validation_part(tmp_path, unbroken):
    _, val_set = subsets()
    visits = []

    def interrupt_the_second_time() -> None:
        visits.append(1)
        if len(visits) == 2:
            signal.raise_signal(signal.SIGTERM)

    hit_part = HitPart(val_set, epoch=0, batch=1, action=interrupt_the_second_time)
    fitted, _ = train(tmp_path, val=hit_part)
    assert fitted.stopped == "interrupted"
    assert fitted.epochs == 1
    train(tmp_path, resume=True)
    assert_same_training(tmp_path, unbroken)


def test_a_kill_between_two_files_is_mended(tmp_path, unbroken):
    train(tmp_path)
    snapshot = load_checkpoint(tmp_path / "checkpoints" / "last.ckpt")
    (tmp_path / "history.csv").write_text("epoch\n1\n1\n7\n")
    train(tmp_path, resume=True)
    assert rows(tmp_path) == rows(unbroken)
    assert load_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["history"] == snapshot["history"]


def test_best_is_written_again_from_last(tmp_path):
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


def test_hook_sees_each_epoch_once(tmp_path):
    seen = []
    train(tmp_path, before_epoch=lambda epoch, model: seen.append((epoch, type(model))))
    assert seen == [(epoch, TinyNet) for epoch in range(4)]


def test_training_part_is_told_the_epoch_also_after_resuming(tmp_path):
    subset, _ = subsets()
    hit_part = HitPart(subset, epoch=2, batch=1, action=lambda: signal.raise_signal(signal.SIGINT))
    train(tmp_path, train=hit_part)
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
    fitted, _ = train(tmp_path, train=MemoryPart(33, seed=1), model=model)
    assert fitted.stopped == "finished"


def test_bad_loss_names_epoch_and_step(tmp_path):
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


def one_class(subset: MemoryPart) -> MemoryPart:
    subset.targets = np.full_like(subset.targets, 1)
    return subset


@pytest.mark.parametrize(
    ("problem", "error", "message"),
    [
        ({"val": MemoryPart(0, seed=1)}, DataError, "validation set is empty"),
        ({"train": MemoryPart(0, seed=1)}, DataError, "training set is empty"),
        (
            {"val": one_class(MemoryPart(9, seed=1))},
            DataError,
            "All 9 images of the validation set are of class 'mild'",
        ),
        ({"classes": ("none", "mild")}, DataError, "without a label"),
        ({"config": changed(batch_size=1)}, ConfigError, "batch normalisation"),
        ({"config": changed(precision="16-mixed")}, ConfigError, "needs a GPU"),
    ],
)
def test_what_cannot_work_is_refused_in_words(tmp_path, problem, error, message):
    with pytest.raises(error, match=message):
        train(tmp_path, **problem)
    assert list(tmp_path.iterdir()) == []


def test_absent_device_is_refused(tmp_path):
    absent = next(name for name, there in DEVICES.items() if not there)
    with pytest.raises(ConfigError, match=f"no device '{absent}' here"):
        train(tmp_path, changed(device=absent))


DEVICES = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}


def test_lacking_classes_are_named(tmp_path):
    val = MemoryPart(20, seed=2, classes=2)
    fitted, _ = train(tmp_path, val=val)
    assert fitted.warnings == ("The validation set has no image of severe; its scores leave them out.",)
    assert {row["val_f1_severe"] for row in rows(tmp_path)} == {""}


def test_a_folder_in_use_is_refused(tmp_path):
    train(tmp_path)
    with pytest.raises(RunError, match="holds a training already"):
        train(tmp_path)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"config": changed(epochs=9)}, "training.epochs was 4, is 9"),
        ({"config": changed(batch_size=9)}, "training.batch_size was 8, is 9"),
        ({"seed": 8}, "seed was 3, is 8"),
        ({"classes": ("none", "mild", "bad")}, "classes was"),
        ({"train": MemoryPart(60, seed=5)}, "train labels was"),
    ],
)
def test_resuming_with_other_settings_is_refused(unbroken, other, message):
    with pytest.raises(RunError, match=message):
        train(unbroken, resume=True, **other)


def test_resuming_a_finished_training_trains_no_more(unbroken):
    before = (unbroken / "checkpoints" / "last.ckpt").stat().st_mtime_ns
    fitted, _ = train(unbroken, changed(workers=1), resume=True)
    assert fitted.stopped == "finished"
    assert (unbroken / "checkpoints" / "last.ckpt").stat().st_mtime_ns == before


def test_result_is_a_value(unbroken):
    fitted, _ = train(unbroken, resume=True)
    assert replace(fitted) == fitted
    assert issubclass(RunError, GyrusError)


def without_dropout() -> nn.Module:
    model = tiny_net()
    model.head[0] = nn.Identity()
    return model


def without_normalisation() -> nn.Module:
    model = without_dropout()
    model.features[1] = nn.Identity()
    return model
