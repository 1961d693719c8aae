"""Time of system B's augmentation on a batch of slices, against torchvision's v2 transforms slice by slice.

Run: ``python benchmarks/augmentation_speed.py``; ``--batch``, ``--size`` and ``--rounds`` change the size. One thread.
The two take turns, and the quickest round of each counts, because machines are shared.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
import torchvision
from torchvision.transforms import v2

from gyrus.transforms.augmentation.config import AugmentationConfig
from gyrus.transforms.augmentation.random_streams import Streams

CHAIN = AugmentationConfig.model_validate(
    {
        "clamp": False,
        "steps": [
            {"step": "resized-crop", "share": [0.8, 1.0]},
            {"step": "flip", "axis": "left-right", "probability": 0.5},
            {"step": "flip", "axis": "up-down", "probability": 0.2},
            {"step": "rotation", "degrees": 15},
            {"step": "affine", "degrees": 0, "translation": 0.05, "scale": [0.9, 1.1], "shear": 5},
            {"step": "blur", "sigma": [0.1, 1.0], "taps": 3},
            {"step": "noise", "std": [0.02, 0.02]},
            {"step": "erasing", "share": [0.02, 0.33], "ratio": [0.3, 3.3], "probability": 0.25},
        ],
    }
)


def peer(size: int) -> Callable[[torch.Tensor], torch.Tensor]:
    # Nearest neighbour where torchvision's default is that: quicker than the linear interpolation of Gyrus.
    return v2.Compose(
        [
            v2.RandomResizedCrop(size, scale=(0.8, 1.0)),
            v2.RandomHorizontalFlip(0.5),
            v2.RandomVerticalFlip(0.2),
            v2.RandomRotation(15),
            v2.RandomAffine(0, translate=(0.05, 0.05), scale=(0.9, 1.1), shear=5),
            v2.GaussianBlur(3, sigma=(0.1, 1.0)),
            v2.GaussianNoise(sigma=0.02, clip=False),
            v2.RandomErasing(0.25),
        ]
    )


def augmented(images: torch.Tensor, epoch: int) -> torch.Tensor:
    streams = Streams.at(0, epoch, np.arange(len(images)))
    return CHAIN.apply(images, CHAIN.draw(streams, images.shape[2:]))


def milliseconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=100)
    options = parser.parse_args()
    torch.set_num_threads(1)
    images = torch.rand(options.batch, 1, options.size, options.size, generator=torch.Generator().manual_seed(0))
    transform = peer(options.size)
    ours, theirs = [], []
    for epoch in range(options.rounds):
        ours.append(milliseconds(lambda epoch=epoch: augmented(images, epoch)))
        theirs.append(milliseconds(lambda: torch.stack([transform(image) for image in images])))
    print(f"torch {torch.__version__}, torchvision {torchvision.__version__}, 1 thread, {tuple(images.shape)}")
    for name, times in (("gyrus, whole batch", ours), ("torchvision v2, slice by slice", theirs)):
        print(f"{name:<32} quickest {min(times):6.1f} ms, median {np.median(times):6.1f} ms")
    print(
        f"ratio of the quickest {min(theirs) / min(ours):.1f}, of the medians {np.median(theirs) / np.median(ours):.1f}"
    )


if __name__ == "__main__":
    main()
