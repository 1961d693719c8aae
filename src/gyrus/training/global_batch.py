"""A batch that is divided among processes, and computed as if one process had it whole.

``batch_size`` is that of the global batch. Each process computes its share of every global batch; losses, hard example
mining, mixing, batch normalisation and random numbers refer to the global batch, so that a training is the same for any
number of processes, up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import Tensor, distributed
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.overrides import TorchFunctionMode


@dataclass(frozen=True)
class Share:
    """The images of a global batch that one process computes.

    Attributes:
        total: Images of the global batch.
        start: The first image.
        stop: The image after the last. A batch smaller than the number of processes leaves some shares empty.
    """

    total: int
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def of(self, batch: Sequence[int]) -> list[int]:
        """The positions of this share; of an empty share one position, because networks need an image."""
        return list(batch[self.start : max(self.stop, self.start + 1)])


def share(total: int, rank: int, world: int) -> Share:
    """The share of process ``rank`` of ``world`` in a batch of ``total`` images; sizes differ by one at most."""
    return Share(total, total * rank // world, total * (rank + 1) // world)


class WholeBatch:
    """A batch that this process computes alone; the interface of :class:`PartOfBatch`."""

    total: int | None = None
    """Images of the global batch; None if all are in this process."""

    def computing(self) -> AbstractContextManager[Any]:
        """A block in which a network is applied to the images in training."""
        return nullcontext()

    def used(self, rows: Tensor) -> Tensor:
        """The rows that count: all except the one that fills an empty share."""
        return rows

    def gathered(self, rows: Tensor) -> Tensor:
        """The rows (B, ...) of the global batch, without gradient, from those of this process (n, ...)."""
        return rows

    def own(self, rows: Tensor) -> Tensor:
        """The rows of this process (n, ...) among those of the global batch (B, ...)."""
        return rows

    def selected(self, positions: Tensor) -> tuple[Tensor, WholeBatch]:
        """Rows of this process that are at these positions (S,) of the global batch, and the batch that they form."""
        return positions, self

    def mean(self, values: Tensor, weights: Tensor | None) -> Tensor:
        """The weighted mean over the global batch.

        Args:
            values: float (n,), already multiplied by the weights.
            weights: float (n,); None: all 1.
        """
        return values.mean() if weights is None else values.sum() / weights.sum()


class PartOfBatch(WholeBatch):
    """The share of this process in a global batch, during a training by several processes."""

    total: int

    def __init__(self, total: int, rows: Tensor, sizes: Sequence[int], *, sync_batch_norm: bool) -> None:
        """Store the arguments.

        Args:
            total: Images of the global batch.
            rows: int64 (n,), which of them this process has. If there are none, it has one image that does not count.
            sizes: The number of images of every process.
            sync_batch_norm: Whether batch norms use the statistics of the global batch.
        """
        self.total = total
        self._rows = rows
        self._sizes = sizes
        self._sync_batch_norm = sync_batch_norm

    @classmethod
    def of_share(cls, own: Share, world: int, device: torch.device, *, sync_batch_norm: bool) -> PartOfBatch:
        """The batch of a contiguous share."""
        rows = torch.arange(own.start, own.stop, device=device)
        sizes = [len(share(own.total, rank, world)) for rank in range(world)]
        return cls(own.total, rows, sizes, sync_batch_norm=sync_batch_norm)

    def computing(self) -> AbstractContextManager[Any]:
        """A block in which batch norms and random numbers are those of the global batch."""
        return _GlobalOperations(self.total, self._rows, sync_batch_norm=self._sync_batch_norm)

    def used(self, rows: Tensor) -> Tensor:
        """The rows that count: all except the one that fills an empty share."""
        return rows[: len(self._rows)]

    def gathered(self, rows: Tensor) -> Tensor:
        """The rows of all processes; shares of other sizes are filled up for the transfer."""
        longest = max(self._sizes)
        filled = rows.new_zeros((longest, *rows.shape[1:]))
        filled[: len(self._rows)] = self.used(rows.detach())
        parts = [torch.empty_like(filled) for _ in self._sizes]
        distributed.all_gather(parts, filled)
        return torch.cat([part[:size] for part, size in zip(parts, self._sizes, strict=True)])

    def own(self, rows: Tensor) -> Tensor:
        """The rows of this process; one that does not count if its share is empty."""
        return rows[_filled(self._rows)]

    def selected(self, positions: Tensor) -> tuple[Tensor, WholeBatch]:
        """As above; the new batch has the order of ``positions``."""
        first, stop = (int(self._rows[0]), int(self._rows[-1]) + 1) if len(self._rows) else (0, 0)
        mine = torch.nonzero((positions >= first) & (positions < stop)).flatten()
        # Selected rows are never gathered, so the sizes of the others are not needed.
        batch = PartOfBatch(len(positions), mine, (), sync_batch_norm=self._sync_batch_norm)
        return _filled(positions[mine] - first), batch

    def mean(self, values: Tensor, weights: Tensor | None) -> Tensor:
        """The mean over the global batch, whose gradients, averaged over the processes, are those of the whole batch.

        Rows that do not count must have been left out.
        """
        own = values.sum()
        count = own.new_tensor(len(values)) if weights is None else weights.sum()
        sums = torch.stack([own.detach(), count.to(own.dtype)])
        distributed.all_reduce(sums)
        scaled = own * (distributed.get_world_size() / sums[1])
        return scaled + (sums[0] / sums[1] - scaled).detach()


def _filled(rows: Tensor) -> Tensor:
    """The rows, or row 0 if there are none."""
    return rows if len(rows) else rows.new_zeros(1)


_DROPOUTS: frozenset[Callable[..., Any]] = frozenset(
    {
        functional.dropout,
        functional.dropout1d,
        functional.dropout2d,
        functional.dropout3d,
    }
)


class _GlobalOperations(TorchFunctionMode):
    """Within the block, operations over a batch act as on the global batch.

    - Batch norms (also those that libraries fuse with an activation) use the statistics of all processes.
    - Dropout and stochastic depth draw for all images of the global batch, and use the numbers of their own images. All
      processes have the same seed, so an image is treated as by one process.

    Other random operations, for example dropout inside fused attention, draw the same numbers in every process.
    """

    def __init__(self, total: int, rows: Tensor, *, sync_batch_norm: bool) -> None:
        super().__init__()
        self._total = total
        self._rows = rows
        self._sync_batch_norm = sync_batch_norm

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is functional.batch_norm and self._sync_batch_norm:
            given = _BATCH_NORM.bind(*args, **kwargs)
            given.apply_defaults()
            if given.arguments["training"]:
                return self._batch_norm(**given.arguments)
        elif func in _DROPOUTS:
            given = _DROPOUT.bind(*args, **kwargs)
            given.apply_defaults()
            images, p, training, _ = given.arguments.values()
            if training and p > 0:
                noise = self._drawn(images, lambda empty: func(torch.ones_like(empty), p, True, False))
                return func(*args, **kwargs) if noise is None else images * noise
        elif func is Tensor.bernoulli_:
            noise = self._drawn(args[0], lambda empty: func(empty, *args[1:], **kwargs))
            if noise is not None:
                return args[0].copy_(noise)
        return func(*args, **kwargs)

    def _batch_norm(
        self,
        input: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None,
        bias: Tensor | None,
        training: bool,  # noqa: ARG002, an argument of PyTorch's function
        momentum: float,
        eps: float,
    ) -> Tensor:
        repeats = len(input) // max(1, len(self._rows))
        mean, sums, count = _statistics(input[: len(self._rows) * repeats].detach())
        if count < 2:
            raise ValueError("Expected more than 1 value per channel when training")  # as PyTorch
        with torch.no_grad():
            if running_mean is not None and running_var is not None:
                running_mean.lerp_(mean.to(running_mean.dtype), momentum)
                running_var.lerp_((sums / (count - 1)).to(running_var.dtype), momentum)
        scale = (sums / count + eps).rsqrt()
        used = len(self._rows) * repeats
        normalised: Tensor = _Normalised.apply(input, mean.float(), scale.float(), count, used)
        shape = (1, -1, *[1] * (input.ndim - 2))
        if weight is not None:
            normalised = normalised * weight.view(shape)
        if bias is not None:
            normalised = normalised + bias.view(shape)
        return normalised.to(input.dtype)

    def _drawn(self, like: Tensor, draw: Callable[[Tensor], Tensor]) -> Tensor | None:
        """What ``draw`` gives for the global batch, for the rows of this process; None if rows are not images."""
        images = max(1, len(self._rows))
        repeats, rest = divmod(len(like) if like.ndim else 0, images)
        if rest or not repeats:
            return None
        empty = like.new_empty((self._total * repeats, *like.shape[1:]))
        if like.ndim == 4 and like.is_contiguous(memory_format=torch.channels_last):
            empty = empty.contiguous(memory_format=torch.channels_last)
        rows = _filled(self._rows)[:, None] * repeats + torch.arange(repeats, device=self._rows.device)
        return draw(empty)[rows.flatten()]


_BATCH_NORM = signature(functional.batch_norm)
_DROPOUT = signature(functional.dropout)


def _statistics(values: Tensor) -> tuple[Tensor, Tensor, int]:
    """Mean and sum of squared differences of each channel over all processes, float64 (C,), and the number of values.

    The statistics of the processes are merged as by Chan et al. (1983), without cancellation.
    """
    dims = [0, *range(2, values.ndim)]
    number = values.numel() // max(1, values.shape[1])
    wide = values.float()
    mean = wide.mean(dims) if number else wide.new_zeros(values.shape[1])
    squares = (wide - mean.view(1, -1, *[1] * (values.ndim - 2))).square().sum(dims)
    own = torch.cat([mean, squares, mean.new_tensor([number])]).double()
    every = [torch.empty_like(own) for _ in range(distributed.get_world_size())]
    distributed.all_gather(every, own)
    table = torch.stack(every)
    numbers, (means, sums) = table[:, -1:], table[:, :-1].chunk(2, dim=1)
    count = numbers.sum()
    total = (numbers * means).sum(0) / count
    return total, (sums + numbers * (means - total).square()).sum(0), int(count)


class _Normalised(torch.autograd.Function):
    """``(x - mean) * scale`` with the gradient of batch normalisation over all processes."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, mean: Tensor, scale: Tensor, count: int, used: int) -> Tensor:
        shape = (1, -1, *[1] * (values.ndim - 2))
        ctx.count, ctx.used = count, used
        normalised = (values.float() - mean.view(shape)) * scale.view(shape)
        ctx.save_for_backward(normalised, scale)
        ctx.dtype = values.dtype
        return normalised

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        normalised, scale = ctx.saved_tensors
        dims = [0, *range(2, gradient.ndim)]
        shape = (1, -1, *[1] * (gradient.ndim - 2))
        sums = torch.stack([gradient.sum(dims), (gradient * normalised).sum(dims)])
        distributed.all_reduce(sums)
        first, second = (sums / ctx.count).unbind()
        result = (gradient - first.view(shape) - normalised * second.view(shape)) * scale.view(shape)
        result[ctx.used :] = 0  # a row that does not count
        return result.to(ctx.dtype), None, None, None, None
