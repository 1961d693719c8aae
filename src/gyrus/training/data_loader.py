"""Batches of a data subset on the device that trains, in the order of the epoch; optionally read by worker processes.

On a GPU, batches are prepared one ahead of the step that uses them, by a thread and on a CUDA stream of their own: the
copy from pinned memory, the random steps and the normalisation run beside the step before. Elsewhere the CPU prepares
each batch.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader

from gyrus.datasets.torch_dataset import Batch, StoredBatch
from gyrus.errors import ConfigError
from gyrus.processes import ALONE, Process
from gyrus.training.global_batch import Share, share
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


STEPS_QUEUED = 2
"""Steps of which a GPU may be behind before the CPU waits, so that it does not fill the memory with batches."""


class BatchDataset(Protocol):
    """A dataset that returns batches. A training set may also have ``set_epoch(epoch)``.

    A dataset with ``read(positions)`` returns a :class:`StoredBatch` there, which the device prepares.
    """

    targets: np.ndarray

    def __len__(self) -> int: ...

    def __getitem__(self, position: int) -> Batch: ...

    def __getitems__(self, positions: list[int]) -> Batch: ...


def read(dataset: BatchDataset, positions: list[int]) -> StoredBatch | Batch:
    """A batch as it is stored, if the dataset can give it; else a finished one."""
    reader: Callable[[list[int]], StoredBatch | Batch] = getattr(dataset, "read", dataset.__getitems__)
    return reader(positions)


class Loader:
    """Yields every batch of one epoch, on the device, whenever it is iterated.

    Attributes:
        epoch: The epoch, from 0, of the next iteration.
    """

    def __init__(
        self,
        dataset: BatchDataset,
        order: Order,
        *,
        workers: int = 0,
        device: torch.device | None = None,
        process: Process = ALONE,
    ) -> None:
        """Store the arguments.

        Args:
            dataset: The source of the batches.
            order: The batches of each epoch; their number and sizes are the same in every epoch.
            workers: Number of loader processes; 0 loads in this process. Not used by a subset that fits into the memory
                of the GPU.
            device: Where the batches are needed; by default the CPU.
            process: Yield the share of this process in every batch.
        """
        self.epoch = 0
        self._dataset = dataset
        self._order = order
        self._workers = workers
        self._device = device or torch.device("cpu")
        self._process = process
        self._sizes = [len(batch) for batch in order(0)]

    def __len__(self) -> int:
        return len(self._sizes)

    def share(self, number: int) -> Share:
        """The images of batch ``number`` that are in this process."""
        return share(self._sizes[number], self._process.rank, self._process.world)

    def example(self) -> Batch:
        """A batch of the epoch, of the size that most have."""
        return self._dataset.__getitems__(max(self._order(self.epoch)[:2], key=len)).on(self._device)

    def __iter__(self) -> Iterator[Batch]:
        # A generator: nothing runs before the first batch is requested, so the epoch may still be set.
        batches = self._order(self.epoch)
        set_epoch = getattr(self._dataset, "set_epoch", None)
        if set_epoch is not None:
            set_epoch(self.epoch)
        number_visits = getattr(self._dataset, "number_visits", None)
        if number_visits is not None:
            batches = number_visits(batches)
        batches = [self.share(number).of(batch) for number, batch in enumerate(batches)]
        if self._device.type == "cuda":
            yield from ahead(self._stored_batches(batches), self._device)
        elif self._workers:
            yield from (batch.on(self._device) for batch in self._worker_batches(self._dataset, batches))
        else:
            yield from (self._dataset.__getitems__(positions).on(self._device) for positions in batches)

    def _stored_batches(self, batches: list[list[int]]) -> Iterable[StoredBatch | Batch]:
        """Batches in pinned memory, or in that of the GPU."""
        keep_on = getattr(self._dataset, "keep_on", None)
        resident = keep_on is not None and keep_on(self._device)
        if self._workers and not resident:
            return self._worker_batches(_AsStored(self._dataset), batches)
        return (read(self._dataset, positions).pin_memory() for positions in batches)

    def _worker_batches(self, dataset: Any, batches: list[list[int]]) -> DataLoader[Any]:
        return DataLoader(
            dataset,
            batch_sampler=batches,
            num_workers=self._workers,
            collate_fn=_unchanged,
            pin_memory=self._device.type == "cuda",
            # A separate generator: otherwise the loader draws from PyTorch's, and results depend on `workers`.
            generator=torch.Generator(),
        )


class _AsStored:
    """A dataset of stored batches for worker processes."""

    def __init__(self, dataset: BatchDataset) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitems__(self, positions: list[int]) -> StoredBatch | Batch:
        batch = read(self._dataset, positions)
        return batch.gathered() if isinstance(batch, StoredBatch) else batch


def ahead(batches: Iterable[StoredBatch | Batch], device: torch.device) -> Iterator[Batch]:
    """Batches on a GPU, each prepared by a thread and on a stream of their own during the step on the batch before.

    The CPU waits only while the GPU is more than :data:`STEPS_QUEUED` steps behind.

    Args:
        batches: In pinned memory, or in that of the GPU.
        device: The GPU.
    """
    stream, steps = torch.cuda.Stream(device), torch.cuda.current_stream(device)
    begun: deque[torch.cuda.Event] = deque()

    source = iter(batches)

    def prepare() -> tuple[Batch, torch.cuda.Event] | None:
        with torch.cuda.stream(stream):
            batch = next(source, None)
            return None if batch is None else (batch.on(device), stream.record_event())

    def handed_over(batch: Batch, ready: torch.cuda.Event) -> Batch:
        steps.wait_event(ready)
        for tensor in batch:
            tensor.record_stream(steps)  # its memory is not given to the next batch before the step has used it
        begun.append(steps.record_event())
        if len(begun) > STEPS_QUEUED:
            begun.popleft().synchronize()
        return batch

    with ThreadPoolExecutor(1, "gyrus-batches") as thread:
        upcoming = thread.submit(prepare)
        while (prepared := upcoming.result()) is not None:
            upcoming = thread.submit(prepare)
            yield handed_over(*prepared)


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
