"""Time of Grad-CAM over many slices, against plain forward and backward passes over the same slices.

Both take turns in one process, so that whatever else the machine does hits both alike; the ratio is that of the fastest
turns. The plain passes are those of a training step without the optimiser: cross-entropy and its gradient by the
images and all weights. Grad-CAM's include bringing the maps to the images' size and onto the processor.

    python benchmarks/gradcam.py [--images 100] [--size 128] [--batch 32] [--turns 5] [--threads 2]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from gyrus.explanation.method_input import MethodSettings
from gyrus.explanation.methods import METHODS, compute_heat_maps
from gyrus.explanation.targets import ClassContrast
from gyrus.models.build import build
from gyrus.models.config import ModelConfig

NETWORKS = {
    "system D's CNN (baseline-cnn)": ModelConfig(name="baseline-cnn"),
    "timm:resnet18": ModelConfig(name="timm:resnet18", pretrained=False),
}


def passes(model: nn.Module, images: Tensor, targets: Tensor, batch: int) -> None:
    for some, wanted in zip(images.split(batch), targets.split(batch), strict=True):
        some.requires_grad_()
        functional.cross_entropy(model(some), wanted).backward()
        model.zero_grad(set_to_none=True)


def fastest(works: dict[str, Callable[[], object]], turns: int) -> dict[str, float]:
    """Seconds of the fastest of several turns of each, the first of which does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(turns + 1):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return {name: min(values) for name, values in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    images = torch.rand(options.images, 1, options.size, options.size)
    targets = torch.randint(4, (options.images,))
    settings = MethodSettings(batch=options.batch)
    methods = [name for name, spec in METHODS.items() if spec.needs_layer and name not in ("score-cam", "ablation-cam")]
    print(f"{options.images} slices of {options.size} x {options.size} pixels, {options.threads} threads")
    for title, config in NETWORKS.items():
        model = build(config, in_channels=1, num_classes=4, image_size=(options.size, options.size)).eval()

        def of(method: str, model: nn.Module = model) -> Callable[[], object]:
            return lambda: compute_heat_maps(model, images, ClassContrast(targets), method, settings=settings)

        plain = "plain passes"
        took = fastest(
            {plain: lambda model=model: passes(model, images, targets, options.batch)} | {m: of(m) for m in methods},
            options.turns,
        )
        print(f"\n{title:<32}{'seconds':>9}{'ratio':>8}")
        for name, seconds in took.items():
            print(f"{name:<32}{seconds:9.2f}{seconds / took[plain]:8.2f}")


if __name__ == "__main__":
    main()
