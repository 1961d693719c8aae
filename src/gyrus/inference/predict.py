"""From pixels to logits: a trained network on one part of a store, on images as they are or on altered copies too."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.special import softmax
from torch import nn

from gyrus.datasets.torch_dataset import PixelDataset
from gyrus.errors import ConfigError
from gyrus.transforms.augmentation.config import AugmentationConfig
from gyrus.transforms.augmentation.geometry import Flip, Translation

VOXELS_AT_ONCE = 1 << 26
"""As float32 these take 256 MiB."""


def pick_device(name: str = "auto") -> torch.device:
    """The device of a name.

    Args:
        name: "auto" (CUDA, else Apple's MPS, else the CPU), or any name that torch knows.

    Raises:
        ConfigError: There is no such device here.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, present in available.items() if present))
    kind = name.partition(":")[0]
    if not available.get(kind):
        present = ", ".join(kind for kind, present in available.items() if present)
        raise ConfigError(f"There is no device '{name}' here. Available: auto, {present}.")
    return torch.device(name)


@torch.inference_mode()
def predict_logits(
    model: nn.Module,
    dataset: PixelDataset,
    *,
    batch_size: int = 64,
    device: torch.device | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Run a network over a data set, in order.

    Args:
        model: Gives logits (B, K); put into evaluation mode and onto ``device``.
        dataset: N images.
        batch_size: Images at a time, fewer of large volumes; does not change the result beyond rounding.
        device: Where to compute; by default where the model is.
        progress: Called with the number of images done and of all.

    Returns:
        float32 (N, K).
    """
    device = device or next(model.parameters()).device
    model = model.to(device).eval()
    batch_size = max(1, min(batch_size, VOXELS_AT_ONCE // dataset[0].images.numel()))
    parts = []
    for start in range(0, len(dataset), batch_size):
        positions = list(range(start, min(start + batch_size, len(dataset))))
        images = dataset.__getitems__(positions).images
        parts.append(model(images.to(device)).float().cpu().numpy())
        if progress:
            progress(positions[-1] + 1, len(dataset))
    return np.concatenate(parts)


def steps_for_copies(own: AugmentationConfig) -> AugmentationConfig:
    """How the copies of test-time augmentation are altered: as in training, or a little where it altered nothing."""
    return own if own.steps else AugmentationConfig(steps=(Flip(), Translation(share=0.03)))


def image_keys(digests: Sequence[str]) -> np.ndarray:
    """Numbers that stand for images by their content, int64 (N,), so that an answer does not depend on its company."""
    return np.array([int(str(digest)[:15], 16) for digest in digests], dtype=np.int64)


def predict_with_copies(
    model: nn.Module,
    plain: PixelDataset,
    altered: PixelDataset,
    *,
    copies: int,
    device: torch.device | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Test-time augmentation: the mean probability over an image as it is and altered copies of it.

    Args:
        model: As for :func:`predict_logits`.
        plain: N images.
        altered: The same images through random steps, which its seed and ``keys`` decide; copy k is epoch k of it.
        copies: How many altered copies; with 0 the result is that of :func:`predict_logits`.
        device: Where to compute.
        progress: Called with the number of images done and of all, copies counted.

    Returns:
        float32 (N, K), the logarithm of the mean probability, so that the softmax gives the mean back.
    """
    if not copies:
        return predict_logits(model, plain, device=device, progress=progress)
    answers = []
    for copy in range(copies + 1):
        altered.set_epoch(copy)
        logits = predict_logits(model, altered if copy else plain, device=device)
        answers.append(softmax(logits.astype(np.float64), axis=1))
        if progress:
            progress(len(plain) * (copy + 1), len(plain) * (copies + 1))
    mean = np.mean(answers, axis=0)
    return np.log(np.maximum(mean, np.finfo(np.float32).tiny)).astype(np.float32)
