"""Run a trained network over a data set, optionally with test-time augmentation."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import scipy  # loads its submodules on first use
import torch
from torch import nn

from gyrus.datasets.torch_dataset import PixelDataset
from gyrus.errors import ConfigError
from gyrus.inference.engines import IMAGES_AT_ONCE, Engine, images_at_once
from gyrus.malloc import FreedMemory
from gyrus.models.classifier import Classifier
from gyrus.transforms.augmentation.config import AugmentationConfig
from gyrus.transforms.augmentation.geometry import RandomFlip, RandomTranslation

Item = TypeVar("Item")


def pick_device(name: str = "auto") -> torch.device:
    """The torch device with a name.

    Args:
        name: "auto" (CUDA, else Apple's MPS, else the CPU), or any name of a torch device.

    Raises:
        ConfigError: This machine has no such device.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, present in available.items() if present))
    kind = name.partition(":")[0]
    if not available.get(kind):
        present = ", ".join(kind for kind, present in available.items() if present)
        raise ConfigError(f"This machine has no device '{name}'. Available: auto, {present}.")
    return torch.device(name)


def predict_logits(
    model: nn.Module | Engine,
    dataset: PixelDataset,
    *,
    batch_size: int = IMAGES_AT_ONCE,
    device: torch.device | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Run a network over a data set, in order. The next batch is read while the network runs.

    Args:
        model: From images to logits (B, K): a module, which is set to evaluation mode and moved to ``device``, or an
            engine.
        dataset: N images.
        batch_size: Images per batch, fewer of large volumes; changes the result by rounding only.
        device: By default that of the model. Engines have their own.
        progress: Called with the number of images done and in total.

    Returns:
        float32 (N, K).
    """
    run = _on_device(model, device) if isinstance(model, nn.Module) else _by_engine(model)
    total, batch_size = len(dataset), images_at_once(dataset[0].images.shape, batch_size)
    positions = (range(start, min(start + batch_size, total)) for start in range(0, total, batch_size))
    logits: list[np.ndarray] = []
    done = 0
    for batch in one_ahead(dataset.__getitems__(list(some)) for some in positions):
        logits.append(run(batch.images))
        done += len(batch.images)
        if progress:
            progress(done, total)
    return np.concatenate(logits)


def _on_device(model: nn.Module, device: torch.device | None) -> Callable[[torch.Tensor], np.ndarray]:
    place = device or next(model.parameters()).device
    model = model.to(place).eval()

    @torch.inference_mode()
    def run(images: torch.Tensor) -> np.ndarray:
        logits: np.ndarray = model(images.to(place)).float().cpu().numpy()
        return logits

    return run


def _by_engine(engine: Engine) -> Callable[[torch.Tensor], np.ndarray]:
    return lambda images: engine(images.cpu().numpy())


def one_ahead(items: Iterable[Item]) -> Generator[Item, None, None]:
    """The items, each computed in a thread while the caller uses the one before; memory does not grow with them."""
    iterator = iter(items)
    end = object()
    context = copy_context()  # where tasks run, for example
    freed = FreedMemory()
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(lambda: context.run(next, iterator, end))
        while (item := coming.result()) is not end:
            coming = pool.submit(lambda: context.run(next, iterator, end))
            yield item  # type: ignore[misc]
            freed.after_step()
    freed.give_back()


def tta_augmentation(training: AugmentationConfig) -> AugmentationConfig:
    """The augmentation of test-time copies: that of training, or flips and small shifts if training had none."""
    return training if training.steps else AugmentationConfig(steps=(RandomFlip(), RandomTranslation(share=0.03)))


def keys_from_digests(digests: Sequence[str]) -> np.ndarray:
    """Random keys of images by their content, int64 (N,), so that an augmentation does not depend on other images."""
    return np.array([int(str(digest)[:15], 16) for digest in digests], dtype=np.int64)


def predict_with_tta(
    model: nn.Module | Engine,
    plain: PixelDataset,
    augmented: PixelDataset,
    *,
    copies: int,
    device: torch.device | None = None,
    progress: Callable[[int, int], None] | None = None,
    numbers: bool = False,
) -> np.ndarray:
    """Test-time augmentation: the mean probability, or the mean number, over an image and augmented copies of it.

    Args:
        model: As for :func:`predict_logits`.
        plain: N images.
        augmented: The same images with random augmentation, which its seed and ``keys`` determine; copy k is its
            epoch k.
        copies: The number of augmented copies; with 0 the result is that of :func:`predict_logits`.
        device: By default that of the model.
        progress: Called with the number of images done and in total, including copies.
        numbers: Whether the outputs are numbers.

    Returns:
        float32 (N, K), the logarithm of the mean probability, so that the softmax returns the mean; or mean numbers.
    """
    if not copies:
        return predict_logits(model, plain, device=device, progress=progress)
    probabilities = []
    for copy in range(copies + 1):
        augmented.set_epoch(copy)
        logits = predict_logits(model, augmented if copy else plain, device=device)
        outputs = logits.astype(np.float64)
        probabilities.append(outputs if numbers else scipy.special.softmax(outputs, axis=1))
        if progress:
            progress(len(plain) * (copy + 1), len(plain) * (copies + 1))
    mean = np.mean(probabilities, axis=0)
    if numbers:
        return np.asarray(mean, dtype=np.float32)
    return np.log(np.maximum(mean, np.finfo(np.float32).tiny)).astype(np.float32)


class WithEmbedding(nn.Module):
    """A classifier that gives its logits and the input of its last layer in one pass, side by side (B, K + F)."""

    def __init__(self, model: Classifier) -> None:
        """Wrap a network, whose weights are shared."""
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits and embedding ``(B, K + F)`` of images ``(B, C, *spatial)``."""
        vectors = self.model.embedding(images)
        return torch.cat([self.model.head.classify(vectors), vectors], dim=1)


@dataclass(frozen=True)
class FirstOutputs:
    """An engine that drops all but the first outputs of another.

    Attributes:
        engine: The other engine.
        count: Number of outputs.
    """

    engine: Engine
    count: int

    @property
    def name(self) -> str:
        """The name of the other engine."""
        return self.engine.name

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """The first outputs (B, count) of images float32 (B, C, *spatial)."""
        return self.engine(images)[:, : self.count]


@torch.inference_mode()
def predict_embeddings(model: Classifier, dataset: PixelDataset, rows: np.ndarray) -> np.ndarray:
    """The inputs of the last layer for some images.

    Args:
        model: The network; set to evaluation mode.
        dataset: Images without random augmentation.
        rows: Positions in the data set (N,).

    Returns:
        float32 (N, F).
    """
    model.eval()
    device = next(model.parameters()).device
    batch_size = images_at_once(dataset[0].images.shape)
    blocks = np.array_split(rows, max(1, -(-len(rows) // batch_size)))
    vectors = [model.embedding(dataset.__getitems__(block.tolist()).images.to(device)) for block in blocks]
    return np.concatenate([each.float().cpu().numpy() for each in vectors])
