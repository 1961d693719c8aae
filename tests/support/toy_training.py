"""Trainings of the toy network, and their comparison."""

from __future__ import annotations

import csv
import signal
from pathlib import Path

import torch
from torch import nn

from gyrus.training.checkpointing import load_checkpoint
from gyrus.training.config import TrainingConfig
from gyrus.training.fit import Fitted, fit
from tests.support.toy import CLASSES, ToyDataset, tiny_net

CONFIG = TrainingConfig(epochs=4, batch_size=8, device="cpu", precision="32-true")
SEED = 3


def subsets() -> tuple[ToyDataset, ToyDataset]:
    return ToyDataset(60, seed=1), ToyDataset(30, seed=2)


def train(folder: Path, config: TrainingConfig = CONFIG, model: nn.Module | None = None, **more) -> tuple[Fitted, dict]:
    """Train the toy network; returns the result and the final weights of the model."""
    model = model or tiny_net()
    train_set, val_set = subsets()
    fitted = fit(
        model,
        more.pop("train", train_set),
        more.pop("val", val_set),
        config,
        folder,
        **{"classes": CLASSES, "seed": SEED, "progress": False, **more},
    )
    return fitted, {name: tensor.clone() for name, tensor in model.state_dict().items()}


def changed(config: TrainingConfig = CONFIG, **fields) -> TrainingConfig:
    return TrainingConfig.model_validate(config.model_dump() | fields)


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


def rows(folder: Path, *, without: str = "seconds") -> list[dict[str, str]]:
    with (folder / "history.csv").open() as file:
        return [{name: cell for name, cell in row.items() if name != without} for row in csv.DictReader(file)]


def assert_same_training(one: Path, other: Path) -> None:
    """All weights of the last epoch and the best epoch, and the histories, are equal, bit for bit."""
    for name in ("last.ckpt", "best.ckpt"):
        left, right = (load_checkpoint(folder / "checkpoints" / name)["model"] for folder in (one, other))
        for key in left:
            assert torch.equal(left[key], right[key]), (name, key)
    assert rows(one) == rows(other)
