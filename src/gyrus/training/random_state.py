"""Random numbers that depend only on the seed and the position in the training.

No random state has to be saved: an interrupted epoch is repeated with the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch
from torch.utils import deterministic as fill_settings

Purpose = Literal["order", "torch", "mixing"]
_PURPOSES: dict[Purpose, int] = {"order": 0, "torch": 1, "mixing": 2}


def generator(seed: int, purpose: Purpose, *position: int) -> np.random.Generator:
    """A generator for one purpose at one position, for example an epoch, or an epoch and a step."""
    return np.random.default_rng([seed, _PURPOSES[purpose], *position])


def seed_torch(seed: int, epoch: int) -> None:
    """Seed PyTorch on every device (dropout, stochastic depth) for one epoch."""
    torch.manual_seed(int(generator(seed, "torch", epoch).integers(2**63)))


@contextmanager
def restored_torch_state(*, cuda: bool) -> Iterator[None]:
    """Restore PyTorch's random state and its choice of algorithms at the end of the block.

    Args:
        cuda: Training on a GPU: products of float32 matrices are rounded to TF32 within the block, as convolutions are
            by default. Faster on GPUs that have it; others ignore it.
    """
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    fill = fill_settings.fill_uninitialized_memory  # type: ignore[attr-defined]
    benchmark = torch.backends.cudnn.benchmark
    matrices = torch.get_float32_matmul_precision()
    if cuda:
        torch.set_float32_matmul_precision("high")
    # Deterministic mode would also fill every new tensor with NaN, which takes time.
    fill_settings.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    with torch.random.fork_rng(range(torch.cuda.device_count()) if cuda else ()):
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
            fill_settings.fill_uninitialized_memory = fill  # type: ignore[attr-defined]
            torch.backends.cudnn.benchmark = benchmark
            torch.set_float32_matmul_precision(matrices)
