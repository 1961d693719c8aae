"""Whole batches from a part, in the order of the epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader

from gyrus.datasets.torch_dataset import Batch

Order = Callable[[int], list[list[int]]]
"""From the epoch, counted from 0, to the positions of each batch."""


class PartDataset(Protocol):
    """A part of the data that gives whole batches. A training set may also have ``set_epoch(epoch)``."""

    targets: np.ndarray

    def __len__(self) -> int: ...

    def __getitem__(self, position: int) -> Batch: ...

    def __getitems__(self, positions: list[int]) -> Batch: ...


class Loader:
    """Goes through a part once whenever it is iterated.

    Attributes:
        epoch: The epoch, from 0, that the next iteration is for.
    """

    def __init__(self, subset: PartDataset, order: Order, *, workers: int = 0, pinned: bool = False) -> None:
        """Store the arguments.

        Args:
            subset: Where the batches come from.
            order: The batches of each epoch, always as many.
            workers: Processes that load; 0 loads in this process, without any overhead.
            pinned: Whether to put batches into pinned memory, from which copies to a GPU are quicker.
        """
        self.epoch = 0
        self._subset = subset
        self._order = order
        self._workers = workers
        self._pinned = pinned
        self._length = len(order(0))

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Batch]:
        # A generator: nothing runs before the first batch is asked for, so that the epoch may still be set.
        batches = self._order(self.epoch)
        set_epoch = getattr(self._subset, "set_epoch", None)
        if set_epoch is not None:
            set_epoch(self.epoch)
        number_visits = getattr(self._subset, "number_visits", None)
        if number_visits is not None:
            batches = number_visits(batches)
        if self._workers:
            yield from self._worker_batches(batches)
        else:
            for positions in batches:
                yield self._placed(self._subset.__getitems__(positions))

    def _worker_batches(self, batches: list[list[int]]) -> DataLoader[Batch]:
        return DataLoader(
            self._subset,  # type: ignore[arg-type]
            batch_sampler=batches,
            num_workers=self._workers,
            collate_fn=_as_it_is,
            pin_memory=self._pinned,
            # A generator of its own: otherwise the loader draws from PyTorch's, and results depend on `workers`.
            generator=torch.Generator(),
        )

    def _placed(self, batch: Batch) -> Batch:
        return Batch(*(tensor.pin_memory() for tensor in batch)) if self._pinned else batch


def _as_it_is(batch: Any) -> Any:
    return batch
