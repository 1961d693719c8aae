"""Lightning's messages are suppressed, its errors say what to do, and signals end a training that can be resumed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

from gyrus.errors import RunError
from gyrus.training.checkpointing import load_checkpoint
from gyrus.training.lightning_trainer import NOISE, _quiet
from tests.support.toy import ActingDataset
from tests.support.toy_training import assert_same_training, interrupt, subsets, train


def test_operations_without_a_deterministic_implementation_are_refused(tmp_path):
    class Random(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(64, 3)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            raise RuntimeError(f"{images.dim()}D put_ does not have a deterministic implementation")

    with pytest.raises(RunError, match=r"Set training\.deterministic to false"):
        train(tmp_path, model=Random())


def test_an_unused_gpu_is_not_reported():
    """The config names the device, so a warning that a GPU is available is unwanted (and an error in these tests)."""
    with _quiet():
        warnings.warn("GPU available but not used. You can set it by ...", stacklevel=1)
    assert len(NOISE) == 4


def test_nothing_is_printed(tmp_path, capfd):
    train(tmp_path)
    assert capfd.readouterr() == ("", "")


CASES = {"kill": -9, "interrupt": 0, "terminate": 0, "hang-up": 0, "half": -9}
"""Case of tests.support.killed_training to exit code."""


@pytest.fixture(scope="module")
def killed(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess]:
    """Trainings in processes of their own that receive a signal."""
    if not hasattr(os, "fork"):
        pytest.skip("this system cannot fork")
    folder = tmp_path_factory.mktemp("killed")
    for case in CASES:
        (folder / case).mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.killed_training", str(folder)],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    return folder, done


@pytest.mark.parametrize("case", CASES)
def test_resumes_after_a_signal_to_the_same_weights(case, killed, unbroken):
    folder = killed[0] / case
    epochs = [epoch["epoch"] for epoch in load_checkpoint(folder / "checkpoints" / "last.ckpt")["history"]]
    assert epochs == [1, 2]
    fitted, _ = train(folder, resume=True)
    assert fitted.stopped == "finished"
    assert_same_training(folder, unbroken)
    assert sorted(path.name for path in folder.rglob("*.ckpt")) == ["best.ckpt", "last.ckpt"]


def test_exit_codes_after_a_signal(killed):
    folder, process = killed
    assert process.stdout.split() == [str(word) for case in CASES.items() for word in case], process.stderr
    # Other versions of the libraries may warn here, so only errors count.
    assert "Traceback" not in process.stderr
    signalled = ("interrupt", "terminate", "hang-up")
    assert [(folder / case / "stopped").read_text() for case in signalled] == ["interrupted"] * 3


def test_interrupted_in_the_first_epoch_starts_again(tmp_path, unbroken):
    train_set, _ = subsets()
    acting = ActingDataset(train_set, epoch=0, batch=2, action=interrupt)
    fitted, _ = train(tmp_path, train=acting)
    assert (fitted.stopped, fitted.best_epoch, fitted.best_score, fitted.epochs) == ("interrupted", None, None, 0)
    train(tmp_path, resume=True)
    assert_same_training(tmp_path, unbroken)


def test_interrupted_in_the_validation_set(tmp_path, unbroken):
    _, val_set = subsets()
    visits = []

    def interrupt_the_second_time() -> None:
        visits.append(1)
        if len(visits) == 2:
            signal.raise_signal(signal.SIGTERM)

    acting = ActingDataset(val_set, epoch=0, batch=1, action=interrupt_the_second_time)
    fitted, _ = train(tmp_path, val=acting)
    assert fitted.stopped == "interrupted"
    assert fitted.epochs == 1
    train(tmp_path, resume=True)
    assert_same_training(tmp_path, unbroken)
