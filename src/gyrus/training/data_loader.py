"""Batches of a data subset, sampled in the order of the epoch, optionally loaded by worker processes."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader

from gyrus.datasets.torch_dataset import Batch
from gyrus.errors import ConfigError
from gyrus.training.random_state import generator

Order = Callable[[int], list[list[int]]]
"""From the epoch, counted from 0, to the positions of each batch."""


Sampler = Callable[[np.ndarray, int, int], np.ndarray]
"""From targets int64 (N,), seed and epoch to positions int64 (N,)."""


def shuffle(targets: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """Every image once, in random order."""
    return generator(seed, "order", epoch).permutation(len(targets))


def balanced(targets: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """As many draws as images, with replacement and all classes equally likely: weight 1 / count(class)."""
    weights = 1 / np.bincount(targets)[targets]
    return generator(seed, "order", epoch).choice(len(targets), len(targets), p=weights / weights.sum())


SAMPLERS: dict[str, Sampler] = {"shuffle": shuffle, "balanced": balanced}


def batches(order: np.ndarray, batch_size: int) -> list[list[int]]:
    """Divide an order into batches.

    A last batch of one image is merged with the previous batch, because batch normalisation needs two images.
    """
    result = [order[start : start + batch_size].tolist() for start in range(0, len(order), batch_size)]
    if len(result) > 1 and len(result[-1]) == 1 and batch_size > 1:
        single = result.pop()
        result[-1] += single
    return result


class BatchDataset(Protocol):
    """A dataset that returns batches. A training set may also have ``set_epoch(epoch)``."""

    targets: np.ndarray

    def __len__(self) -> int: ...

    def __getitem__(self, position: int) -> Batch: ...

    def __getitems__(self, positions: list[int]) -> Batch: ...


class Loader:
    """Yields every batch of one epoch whenever it is iterated.

    Attributes:
        epoch: The epoch, from 0, of the next iteration.
    """

    def __init__(self, dataset: BatchDataset, order: Order, *, workers: int = 0, pinned: bool = False) -> None:
        """Store the arguments.

        Args:
            dataset: The source of the batches.
            order: The batches of each epoch; their number is the same in every epoch.
            workers: Number of loader processes; 0 loads in this process.
            pinned: Whether to put batches into pinned memory, from which copies to a GPU are faster.
        """
        self.epoch = 0
        self._dataset = dataset
        self._order = order
        self._workers = workers
        self._pinned = pinned
        self._length = len(order(0))

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Batch]:
        # A generator: nothing runs before the first batch is requested, so the epoch may still be set.
        batches = self._order(self.epoch)
        set_epoch = getattr(self._dataset, "set_epoch", None)
        if set_epoch is not None:
            set_epoch(self.epoch)
        number_visits = getattr(self._dataset, "number_visits", None)
        if number_visits is not None:
            batches = number_visits(batches)
        if self._workers:
            yield from self._worker_batches(batches)
        else:
            for positions in batches:
                batch = self._dataset.__getitems__(positions)
                yield Batch(*(tensor.pin_memory() for tensor in batch)) if self._pinned else batch

    def _worker_batches(self, batches: list[list[int]]) -> DataLoader[Batch]:
        return DataLoader(
            self._dataset,  # type: ignore[arg-type]
            batch_sampler=batches,
            num_workers=self._workers,
            collate_fn=_unchanged,
            pin_memory=self._pinned,
            # A separate generator: otherwise the loader draws from PyTorch's, and results depend on `workers`.
            generator=torch.Generator(),
        )


def check_main_guard(workers: int) -> None:
    """Refuse worker processes that would run the user's script again.

    Unless processes are forked (as on Linux before Python 3.14), every worker imports the main script. A script
    without the usual guard would start the training again in each of them.

    Args:
        workers: Number of loader processes.

    Raises:
        ConfigError: The main script has no guard; the message says what to do.
    """
    script = getattr(sys.modules["__main__"], "__file__", None)
    # The default method, if none is set yet; get_start_method() without arguments would set it.
    method = multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]
    if not workers or not script or method == "fork":
        return
    path = Path(script)
    if path.suffix == ".py" and path.is_file() and "__main__" not in path.read_text(encoding="utf-8", errors="replace"):
        raise ConfigError(
            f"training.workers is {workers}, but {path.name} has no main guard, so every worker process would run it "
            'again. Put its code into a function and call that below `if __name__ == "__main__":`, or set '
            "training.workers to 0."
        )


def _unchanged(batch: Any) -> Any:
    return batch
