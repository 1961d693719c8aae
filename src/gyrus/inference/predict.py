"""Run a trained network over a data set, optionally with test-time augmentation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import scipy  # loads its submodules on first use
import torch
from torch import nn

from gyrus.datasets.torch_dataset import PixelDataset
from gyrus.errors import ConfigError
from gyrus.transforms.augmentation.config import AugmentationConfig
from gyrus.transforms.augmentation.geometry import RandomFlip, RandomTranslation

IMAGES_AT_ONCE = 64
VOXELS_AT_ONCE = 1 << 21
"""As float32 these take 8 MiB, and one layer of 32 channels at full size 256 MiB."""


def images_at_once(image_shape: Sequence[int], most: int = IMAGES_AT_ONCE) -> int:
    """How many images of a shape are predicted in one batch: fewer of large volumes, at least one."""
    return max(1, min(most, VOXELS_AT_ONCE // math.prod(image_shape)))


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


@torch.inference_mode()
def predict_logits(
    model: nn.Module,
    dataset: PixelDataset,
    *,
    batch_size: int = IMAGES_AT_ONCE,
    device: torch.device | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Run a network over a data set, in order.

    Args:
        model: From images to logits (B, K); set to evaluation mode and moved to ``device``.
        dataset: N images.
        batch_size: Images per batch, fewer of large volumes; changes the result by rounding only.
        device: By default that of the model.
        progress: Called with the number of images done and in total.

    Returns:
        float32 (N, K).
    """
    device = device or next(model.parameters()).device
    model = model.to(device).eval()
    batch_size = images_at_once(dataset[0].images.shape, batch_size)
    batches = []
    for start in range(0, len(dataset), batch_size):
        positions = list(range(start, min(start + batch_size, len(dataset))))
        images = dataset.__getitems__(positions).images
        batches.append(model(images.to(device)).float().cpu().numpy())
        if progress:
            progress(positions[-1] + 1, len(dataset))
    return np.concatenate(batches)


def tta_augmentation(training: AugmentationConfig) -> AugmentationConfig:
    """The augmentation of test-time copies: that of training, or flips and small shifts if training had none."""
    return training if training.steps else AugmentationConfig(steps=(RandomFlip(), RandomTranslation(share=0.03)))


def keys_from_digests(digests: Sequence[str]) -> np.ndarray:
    """Random keys of images by their content, int64 (N,), so that an augmentation does not depend on other images."""
    return np.array([int(str(digest)[:15], 16) for digest in digests], dtype=np.int64)


def predict_with_tta(
    model: nn.Module,
    plain: PixelDataset,
    augmented: PixelDataset,
    *,
    copies: int,
    device: torch.device | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Test-time augmentation: the mean probability over an image and augmented copies of it.

    Args:
        model: As for :func:`predict_logits`.
        plain: N images.
        augmented: The same images with random augmentation, which its seed and ``keys`` determine; copy k is its
            epoch k.
        copies: The number of augmented copies; with 0 the result is that of :func:`predict_logits`.
        device: By default that of the model.
        progress: Called with the number of images done and in total, including copies.

    Returns:
        float32 (N, K), the logarithm of the mean probability, so that the softmax returns the mean.
    """
    if not copies:
        return predict_logits(model, plain, device=device, progress=progress)
    probabilities = []
    for copy in range(copies + 1):
        augmented.set_epoch(copy)
        logits = predict_logits(model, augmented if copy else plain, device=device)
        probabilities.append(scipy.special.softmax(logits.astype(np.float64), axis=1))
        if progress:
            progress(len(plain) * (copy + 1), len(plain) * (copies + 1))
    mean = np.mean(probabilities, axis=0)
    return np.log(np.maximum(mean, np.finfo(np.float32).tiny)).astype(np.float32)
