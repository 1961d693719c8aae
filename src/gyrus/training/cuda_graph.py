"""A network whose passes are CUDA graphs: a GPU repeats recorded operations without being asked for each of them.

Small networks on fast GPUs otherwise wait for the CPU, which launches hundreds of short operations in each step.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from gyrus.text import first_line

MEMORY_FRACTION = 0.25
"""A recording is kept if it takes no more than this fraction of the memory of the GPU, because it is never freed."""


Format = tuple[tuple[int, ...], tuple[int, ...]]
"""Shape and strides of a batch."""


class _Shell(nn.Module):
    """Holds a network, so that recording replaces the ``forward`` of this module and not that of the network."""

    def __init__(self, model: nn.Module, network: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.model = model
        self._network = [network]  # not registered a second time

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, K)."""
        return self._network[0](images)


class GraphedNetwork:
    """A network in training; batches of the recorded size take the recorded passes, all others the usual ones.

    The gradients of two steps share their memory, so they must not be accumulated.
    """

    def __init__(self, model: nn.Module, network: Callable[[Tensor], Tensor]) -> None:
        """Store the arguments.

        Args:
            model: The model; it lies on a GPU when :meth:`record` is called.
            network: The same, possibly compiled.
        """
        self._model = model
        self._network = network
        self._parameters = list(model.parameters())
        self._recorded: Callable[[Tensor], Tensor] | None = None
        self._format: Format | None = None
        self._trained: tuple[bool, ...] = ()
        self._refused = False

    def record(self, example: Callable[[], Tensor]) -> str:
        """Record the passes, if that was not done yet or weights were frozen or unfrozen since.

        They are recorded under the present autocast. Weights, running statistics and random numbers stay as they are.

        Args:
            example: Returns a batch of the usual size, float32 (B, C, *spatial); called only where it is needed.

        Returns:
            A sentence about the outcome of the first attempt; else "".
        """
        trained = self._which_are_trained()
        if self._refused or (self._format and trained == self._trained):
            return ""
        images = example()
        is_first, self._recorded = self._format is None, None
        self._format, self._trained = _format_of(images), trained
        reason = ""
        with _unchanged(self._model, images.device):
            free = _free_memory(images.device)
            try:
                self._recorded = _recorded(self._model, self._network, images)
            except RuntimeError as error:  # of an operation that waits for the GPU, or for lack of memory
                reason = first_line(error)
            if free - _free_memory(images.device) > MEMORY_FRACTION * torch.cuda.mem_get_info(images.device)[1]:
                self._recorded = None
                reason = f"that would take more than {MEMORY_FRACTION:.0%} of the memory of the GPU"
                _free_memory(images.device)
        self._refused = bool(reason)
        if self._refused:
            return f"The passes of the network are not recorded as CUDA graphs: {reason}"
        return "The passes of the network are recorded as CUDA graphs." if is_first else ""

    def __call__(self, images: Tensor) -> Tensor:
        """Logits (B, K). The next recorded pass overwrites those of a recorded one."""
        known = self._recorded is not None and self._model.training and _format_of(images) == self._format
        if self._recorded is not None and known and self._which_are_trained() == self._trained:
            return self._recorded(images)
        return self._network(images)

    def _which_are_trained(self) -> tuple[bool, ...]:
        return tuple(parameter.requires_grad for parameter in self._parameters)


def _recorded(model: nn.Module, network: Callable[[Tensor], Tensor], images: Tensor) -> Callable[[Tensor], Tensor]:
    kind = images.device.type
    dtype, enabled = torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind)
    with (
        warnings.catch_warnings(),
        torch.autocast(kind, dtype=dtype, enabled=enabled, cache_enabled=False),  # casts belong to the recording
    ):
        # PyTorch records on a stream of its own, also where the weights were used on another one before.
        warnings.filterwarnings("ignore", message="The AccumulateGrad node's stream does not match")
        return torch.cuda.make_graphed_callables(  # type: ignore[return-value]
            _Shell(model, network), (images,), allow_unused_input=True
        )


@contextmanager
def _unchanged(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Restore running statistics and random state at the end: the passes run a few times before they are recorded."""
    before = [buffer.clone() for buffer in model.buffers()]
    with torch.random.fork_rng([device]):
        yield
    with torch.no_grad():
        for buffer, value in zip(model.buffers(), before, strict=True):
            buffer.copy_(value)


def _free_memory(device: torch.device) -> int:
    """Bytes that are free on a GPU when PyTorch has given back what it does not use."""
    torch.cuda.empty_cache()
    return int(torch.cuda.mem_get_info(device)[0])


def _format_of(images: Tensor) -> Format:
    return tuple(images.shape), images.stride()
