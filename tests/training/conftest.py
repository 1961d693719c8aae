"""Training tests run on one thread, and compare with one uninterrupted training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.support.toy_training import train


@pytest.fixture(scope="package", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="package")
def unbroken(tmp_path_factory) -> Path:
    """The folder of an uninterrupted training."""
    folder = tmp_path_factory.mktemp("unbroken")
    train(folder)
    return folder
