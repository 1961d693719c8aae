"""Lightning stays out of sight: its messages are suppressed, and its errors say what to do."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from gyrus.errors import RunError
from gyrus.training.lightning_trainer import NOISE, _quiet
from tests.support.toy_training import train


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
