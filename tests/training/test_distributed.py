"""Training by several processes: the same as by one, and no process waits for one that has ended."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gyrus.errors import ConfigError, RunError
from gyrus.processes import ALONE, Process, launched
from gyrus.training import distributed
from gyrus.training.checkpointing import load_checkpoint
from gyrus.training.config import TrainingConfig
from tests.support.toy import ActingDataset, ToyDataset, tiny_net
from tests.support.toy_training import changed, rows, train

# SGD: Adam turns the rounding of a gradient that is zero, as of a bias before a batch norm, into steps of full length.
CONFIG = TrainingConfig(
    epochs=3, batch_size=8, device="cpu", precision="32-true", optimiser={"name": "sgd", "lr": 0.05}
)

TOLERANCE = 2e-5
"""Largest difference of losses between numbers of processes, relative; float32 sums in another order."""


@contextmanager
def started(count: int) -> Iterator[distributed.Team]:
    """Processes for several trainings, because their start takes seconds."""
    with distributed._started_here(Process(0, count, 0, count), "cpu") as team:
        yield team


@contextmanager
def led(team: distributed.Team | None) -> Iterator[None]:
    """Train with these processes; None: with one."""
    before, distributed._team = distributed._team, team
    try:
        yield
    finally:
        distributed._team = before


@pytest.fixture(scope="module")
def team_of_two() -> Iterator[distributed.Team]:
    with started(2) as team:
        yield team


@pytest.fixture
def two(team_of_two: distributed.Team) -> Iterator[None]:
    """All trainings of the test are by two processes, except ``with led(None)``."""
    with led(team_of_two):
        yield


class SkippingNet(nn.Module):
    """Stochastic depth, dropout of channels, and a norm that has no statistics of the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 6, 3), nn.GroupNorm(2, 6), nn.ReLU())
        self.block = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.Dropout2d(0.3))
        self.head = nn.Linear(6, 3)

    def forward(self, images: Tensor) -> Tensor:
        features = self.stem(images)
        branch = self.block(features)
        if self.training:
            branch = branch * branch.new_empty((len(branch), 1, 1, 1)).bernoulli_(0.7)
        return self.head((features + branch).mean(dim=(2, 3)))


def skipping_net() -> nn.Module:
    with torch.random.fork_rng(()):
        torch.manual_seed(1)
        return SkippingNet()


def thaw_later(epoch: int, model: nn.Module) -> None:
    """Train the head only, and everything from the second epoch on."""
    for parameter in next(model.children()).parameters():
        parameter.requires_grad = epoch > 0


def assert_same_curves(folder: Path, config: TrainingConfig, network=tiny_net, tolerance=TOLERANCE, **more) -> None:
    """Train with one process and with all of the team; every score of every epoch agrees."""
    with led(None):
        train(folder / "one", config, network(), **more)
    train(folder / "all", config, network(), **more)
    for one, other in zip(rows(folder / "one"), rows(folder / "all"), strict=True):
        for name in one:
            assert float(one[name] or 0) == pytest.approx(float(other[name] or 0), rel=tolerance, abs=1e-6), name


CASES = {
    "plain": {},
    "class weights, accumulation, clipping": {
        "loss": {"name": "cross_entropy", "class_weights": "balanced", "label_smoothing": 0.1},
        "accumulate": 3,
        "gradient_clip": 0.5,
        "batch_size": 7,
    },
    "balanced sampler, focal, EMA": {
        "sampler": "balanced",
        "loss": {"name": "focal", "class_weights": (1.0, 2.0, 0.5)},
        "averaging": {"name": "ema"},
    },
    "mixing": {"mixing": {}, "loss": {"name": "cross_entropy", "class_weights": "inverse"}},
    "mining in one pass": {"mining": {"share": 0.3}},
    "mining in two passes, SWA": {"mining": {"share": 0.3, "passes": 2}, "averaging": {"name": "swa", "start": 0.4}},
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.usefixtures("two")
def test_two_processes_have_the_curves_of_one(tmp_path, name):
    assert_same_curves(tmp_path, changed(CONFIG, **CASES[name]))


@pytest.mark.usefixtures("two")
def test_without_synchronised_norms_a_net_without_batch_norms_has_the_same_curves(tmp_path):
    config = changed(CONFIG, sync_batch_norm=False, batch_size=7)
    assert_same_curves(tmp_path, config, skipping_net, before_epoch=thaw_later)
    # A net with batch norms learns something else, but all processes have the same weights and choose the same epoch.
    train(tmp_path / "norms", changed(CONFIG, sync_batch_norm=False, early_stopping={"patience": 1}))


@pytest.mark.usefixtures("two")
def test_half_precision_and_loader_processes(tmp_path):
    assert_same_curves(tmp_path, changed(CONFIG, precision="bf16-mixed", workers=1, epochs=1), tolerance=2e-2)


@pytest.mark.usefixtures("two")
def test_resumes_with_another_number_of_processes(tmp_path):
    """1 -> 2 -> 1 processes, each for one epoch: the curve of one process."""
    with led(None):
        train(tmp_path / "whole", CONFIG)

    def stop(_: object) -> None:
        raise KeyError("stop")

    with led(None), pytest.raises(KeyError):
        train(tmp_path / "parts", CONFIG, after_epoch=stop)
    with pytest.raises(KeyError):  # ends the training in both processes, and neither of them
        train(tmp_path / "parts", changed(CONFIG, devices=2), resume=True, after_epoch=stop)
    with led(None):
        fitted, _ = train(tmp_path / "parts", CONFIG, resume=True)
    assert fitted.epochs == 3
    for one, other in zip(rows(tmp_path / "whole"), rows(tmp_path / "parts"), strict=True):
        assert float(one["train_loss"]) == pytest.approx(float(other["train_loss"]), rel=TOLERANCE)
        assert float(one["val_loss"]) == pytest.approx(float(other["val_loss"]), rel=TOLERANCE)


@pytest.mark.usefixtures("two")
def test_each_validation_image_counts_once(tmp_path, monkeypatch):
    """29 images in batches of 8: the last batch has 5, and the shares differ."""
    seen = []
    monkeypatch.setattr(
        "gyrus.training.lightning_module.validation_scores",
        lambda _, targets, __, **___: seen.append(targets) or {"val_loss": 1.0, "val_balanced_accuracy": 0.5},
    )
    val = ToyDataset(29, seed=2)
    train(tmp_path, changed(CONFIG, epochs=1), val=val)
    assert np.array_equal(seen[0], val.targets)


@pytest.mark.usefixtures("two")
def test_a_loss_that_is_not_finite_is_reported_once(tmp_path):
    bad = ToyDataset(60, seed=1)
    bad.images[:] = float("nan")
    with pytest.raises(RunError, match="loss became NaN"):
        train(tmp_path, CONFIG, train=bad)
    train(tmp_path / "next", changed(CONFIG, epochs=1))  # the other process is there still


class SignallingDataset(ActingDataset):
    """In the first epoch, before the third batch, the process with this rank sends itself a signal."""

    def __init__(self, rank: int, number: int) -> None:
        super().__init__(ToyDataset(60, seed=1), epoch=1, batch=2, action=self.send)
        self.rank = rank
        self.number = number

    def send(self) -> None:
        if torch.distributed.get_rank() == self.rank:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.usefixtures("two")
def test_a_signal_to_either_process_ends_both_resumably(tmp_path, rank):
    fitted, _ = train(tmp_path, CONFIG, train=SignallingDataset(rank, signal.SIGTERM))
    assert (fitted.stopped, fitted.epochs) == ("interrupted", 1)
    assert train(tmp_path, CONFIG, resume=True)[0].epochs == 3


@pytest.mark.usefixtures("two")
def test_process_0_alone_writes(tmp_path):
    train(tmp_path / "run", changed(CONFIG, epochs=1))
    assert sorted(path.name for path in (tmp_path / "run").rglob("*") if path.is_file()) == [
        "best.ckpt",
        "history.csv",
        "history.txt",
        "last.ckpt",
    ]


def test_a_killed_process_ends_all_with_words(tmp_path):
    """Started by Gyrus for this training alone; after it, the run continues with one process."""
    config = changed(CONFIG, devices=2)
    with pytest.raises(RunError, match=r"process 1 .* ended unexpectedly by signal SIGKILL.*gyrus train --resume"):
        train(tmp_path, config, train=SignallingDataset(1, signal.SIGKILL))
    assert train(tmp_path, CONFIG, resume=True)[0].epochs == 3


@pytest.mark.slow
def test_four_processes_have_the_curves_of_one(tmp_path):
    """Some batches have fewer images than there are processes."""
    with started(4) as team, led(team):
        for number, name in enumerate(CASES):
            # 60 images in batches of 19: the last has 3
            assert_same_curves(tmp_path / str(number), changed(CONFIG, **{**CASES[name], "batch_size": 19}))
        assert_same_curves(tmp_path / "skipping", changed(CONFIG, batch_size=19), skipping_net, before_epoch=thaw_later)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"nodes": 2}, "srun or torchrun"),
        ({"devices": 16}, "batch_size is 8"),
        ({"devices": 2, "compile": True}, "training.compile"),
        ({"devices": 4, "sync_batch_norm": False}, "smallest batch leaves 1"),
    ],
)
def test_what_cannot_be_divided_is_refused_in_words(tmp_path, fields, words):
    with pytest.raises(ConfigError, match=words):
        train(tmp_path, changed(CONFIG, **fields))
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("two")
def test_a_number_that_differs_from_that_of_the_launcher_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="2 processes"):
        train(tmp_path, changed(CONFIG, devices=3))


@pytest.mark.usefixtures("two")
def test_the_snapshot_does_not_depend_on_the_number_of_processes(tmp_path):
    with led(None):
        train(tmp_path / "one", changed(CONFIG, epochs=1))
    train(tmp_path / "two", changed(CONFIG, epochs=1, devices=2))
    one, other = (load_checkpoint(tmp_path / name / "checkpoints" / "last.ckpt") for name in ("one", "two"))
    assert one["settings"] == other["settings"]
    assert one["model"].keys() == other["model"].keys()


SRUN = {"SLURM_JOB_ID": "71", "SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_NTASKS": "4", "SLURM_NODEID": "1"}


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, ALONE),
        (SRUN | {"SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_TASKS_PER_NODE": "2(x2)"}, Process(3, 4, 1, 2)),
        (SRUN | {"SLURM_STEP_NUM_TASKS": "1"}, ALONE),
        # the batch script of a job with four tasks
        (SRUN | {"ENVIRONMENT": "BATCH", "SLURM_PROCID": "0", "SLURM_NODEID": "0"}, ALONE),
        # a shell on the login node with an allocation
        ({"SLURM_JOB_ID": "71", "SLURM_NTASKS": "4"}, ALONE),
        (
            {"RANK": "5", "WORLD_SIZE": "6", "LOCAL_RANK": "2", "LOCAL_WORLD_SIZE": "3", "MASTER_ADDR": "a"}
            | {"MASTER_PORT": "1"},
            Process(5, 6, 2, 3),
        ),
        ({"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "a", "MASTER_PORT": "1"}, ALONE),
    ],
)
def test_the_place_of_a_process(variables, expected):
    assert launched(variables) == expected
