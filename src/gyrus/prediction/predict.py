"""From pixels to logits: a trained network on one part of a store."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from gyrus.data.dataset import PixelDataset
from gyrus.errors import ConfigError


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
        batch_size: Images at a time; does not change the result beyond rounding.
        device: Where to compute; by default where the model is.
        progress: Called with the number of images done and of all.

    Returns:
        float32 (N, K).
    """
    device = device or next(model.parameters()).device
    model = model.to(device).eval()
    parts = []
    for start in range(0, len(dataset), batch_size):
        positions = list(range(start, min(start + batch_size, len(dataset))))
        images = dataset.__getitems__(positions).images
        parts.append(model(images.to(device)).float().cpu().numpy())
        if progress:
            progress(positions[-1] + 1, len(dataset))
    return np.concatenate(parts)
