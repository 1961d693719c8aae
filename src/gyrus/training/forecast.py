"""What a training will need, before it starts: memory, without any computation, and time, from a few steps."""

from __future__ import annotations

import math
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gyrus.inference.engines import images_at_once
from gyrus.inference.predict import pick_device
from gyrus.memory import memory_text
from gyrus.processes import ALONE, Process
from gyrus.training.config import SGD, Adam, AdamW, RMSprop, TrainingConfig
from gyrus.training.data_loader import BatchDataset, read
from gyrus.training.losses import Objective
from gyrus.training.optimisers import build_optimiser
from gyrus.training.precision import device_settings

LIBRARIES = 400 << 20
"""Bytes of libraries that are loaded during training and evaluation."""

MARGIN = 1.15
"""Factor on tensors: workspaces of the libraries and gaps between blocks. See ``benchmarks/memory_forecast.py``."""

COPIES_OF_BATCH = 3
"""A batch as read, augmented, and normalised."""

STEPS_TIMED = 3
LONG_STEP = 20.0
"""Seconds; a longer step is not repeated."""


@dataclass(frozen=True)
class MemoryForecast:
    """Peak memory of a training on one device, in bytes.

    Attributes:
        batch_size: Images per step and process.
        parameters: Number of weights.
        weights: Weights and buffers of the network.
        gradients: Their gradients.
        optimiser: The state of the optimiser.
        averaging: The averaged copy of the weights.
        batch: The images of a batch.
        activations: The largest sum of all other tensors that exist together in a step.
        prediction: All tensors that exist together when the test set is predicted, without the weights.
        processes: Processes that share the device, each with all of this but the prediction, which is one's alone.
    """

    batch_size: int
    parameters: int
    weights: int
    gradients: int
    optimiser: int
    averaging: int
    batch: int
    activations: int
    prediction: int
    processes: int = 1

    @property
    def counted(self) -> int:
        """The peak of all tensors: in a step, or in prediction."""
        constant = self.weights + self.averaging + self.optimiser
        step = self.processes * (constant + self.gradients + self.batch + self.activations)
        return max(step, constant + self.prediction)

    @property
    def total(self) -> int:
        """The peak, with libraries and a margin for what cannot be counted."""
        return round(self.processes * LIBRARIES + MARGIN * self.counted)

    def text(self) -> str:
        """The total and its parts."""
        parts = {
            "weights": self.weights,
            "gradients": self.gradients,
            "optimiser": self.optimiser,
            "averaged weights": self.averaging,
            f"activations of a batch of {self.batch_size}": self.activations + self.batch,
            "prediction": self.prediction,
            "libraries": LIBRARIES,
        }
        each = f"in each of {self.processes} processes " if self.processes > 1 else ""
        listed = ", ".join(f"{name} {memory_text(size)}" for name, size in parts.items() if size)
        return f"about {memory_text(self.total)} ({each}{listed})"


def forecast_memory(
    build: Callable[[], nn.Module],
    config: TrainingConfig,
    image_shape: Sequence[int],
    *,
    predicts: bool = True,
    process: Process = ALONE,
) -> MemoryForecast:
    """Forecast the peak memory of a training from two steps on tensors without content, which take none.

    Args:
        build: Builds the network, from images (B, C, *spatial) to logits (B, K).
        config: The settings.
        image_shape: Shape of an image of a training batch: channels, then voxels along each axis.
        predicts: Whether images of this shape are also predicted, as they are without patches.
        process: One of those that train together, each with its share of a batch. On the CPU all processes of a machine
            share its memory; every other device belongs to one process.
    """
    device, share = pick_device(config.device).type, math.ceil(config.batch_size / process.world)
    with torch.device("meta"):
        model = build().train()
        images = torch.zeros(share, *image_shape)
        weights = sum(_bytes(value) for value in [*model.parameters(), *model.buffers()])
        trained = sum(_bytes(value) for value in model.parameters() if value.requires_grad)
        step = _peak_of_steps(model, images) - trained
        prediction = _peak_of_prediction(model, image_shape) if predicts else 0
        config = device_settings(config, model, device).applied_to(config)
    copies = 0
    if config.precision != "32-true":  # activations are halved, and copies of the weights in half precision are kept
        step, prediction, copies = step // 2, prediction // 2, weights // 2
    return MemoryForecast(
        batch_size=share,
        parameters=sum(value.numel() for value in model.parameters()),
        weights=weights + copies,
        gradients=trained,
        optimiser=_states(config) * trained,
        averaging=weights if config.averaging else 0,
        batch=COPIES_OF_BATCH * _bytes(images),
        activations=step,
        prediction=prediction,
        processes=process.local_world if device == "cpu" else 1,
    )


def time_of_step(model: nn.Module, train: BatchDataset, config: TrainingConfig, device: str) -> float:
    """Seconds of a training step with the loading of its batch: the fastest of a few.

    Args:
        model: The network; its weights are changed.
        train: A training set.
        config: The settings.
        device: Type of the device.
    """
    config = device_settings(config, model, device).applied_to(config)
    model = model.to(device).train()
    optimiser = build_optimiser(model, config.optimiser, scaled=config.precision == "16-mixed")
    objective = Objective(config, None).to(device)
    half = torch.float16 if config.precision == "16-mixed" else torch.bfloat16
    seconds: list[float] = []
    while len(seconds) <= STEPS_TIMED and not (seconds and seconds[-1] > LONG_STEP):
        start = time.perf_counter()
        batch = read(train, [position % len(train) for position in range(config.batch_size)]).on(torch.device(device))
        with torch.autocast(device, dtype=half, enabled=config.precision != "32-true"):
            loss, _ = objective(model, model, batch.images, batch.targets, None)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        loss.item()  # waits for a GPU
        seconds.append(time.perf_counter() - start)
    return min(seconds)


class _Living(TorchDispatchMode):
    """Counts the bytes of all storages that operations create, and their peak."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._now = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, Tensor):
                self._add(value.untyped_storage())
        self.peak = max(self.peak, self._now)
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._sizes:
            self._sizes[key] = storage.nbytes()
            self._now += storage.nbytes()
            weakref.finalize(storage, self._remove, key)

    def _remove(self, key: int) -> None:
        self._now -= self._sizes.pop(key)


def _peak_of_steps(model: nn.Module, images: Tensor) -> int:
    """The peak of two steps: in the second, the gradients of the first exist until its own backward pass."""
    with _Living() as living:
        for _ in range(2):
            loss = model(images).float().logsumexp(dim=1).mean()
            model.zero_grad(set_to_none=True)
            loss.backward()
            del loss
    return living.peak


def _peak_of_prediction(model: nn.Module, image_shape: Sequence[int]) -> int:
    model.eval()
    with torch.no_grad(), _Living() as living:
        model(torch.zeros(images_at_once(image_shape), *image_shape))
    return living.peak


def _states(config: TrainingConfig) -> int:
    """Numbers that the optimiser keeps for each weight."""
    optimiser = config.optimiser
    match optimiser:
        case Adam() | AdamW():
            return 2
        case RMSprop():
            return 2 if optimiser.momentum else 1
        case SGD():
            return 1 if optimiser.momentum else 0


def _bytes(value: Tensor) -> int:
    return value.numel() * value.element_size()
