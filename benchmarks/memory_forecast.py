"""Peak memory of trainings against the forecast that ``gyrus train`` makes before it starts.

    python benchmarks/memory_forecast.py

Each network is trained for one epoch of three steps and predicts as many images, in a process of its own, on random
images. Measured is the growth of the peak resident memory from the moment of the forecast. The table has the ratio of
forecast to measurement: below 1 the forecast was too low.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import tempfile
from functools import partial
from pathlib import Path

import monai.networks.nets  # noqa: F401, imported once for all processes
import numpy as np
import psutil
import timm  # noqa: F401
import torch

from gyrus.datasets.torch_dataset import Batch
from gyrus.inference.predict import predict_logits
from gyrus.models.build import build
from gyrus.models.config import ModelConfig
from gyrus.training.config import TrainingConfig
from gyrus.training.fit import fit
from gyrus.training.forecast import forecast_memory

CASES: dict[str, tuple[str, tuple[int, ...], int, dict[str, object]]] = {
    "baseline-cnn": ("baseline-cnn", (1, 128, 128), 32, {}),
    "baseline-cnn, batch 128, SGD": ("baseline-cnn", (1, 128, 128), 128, {"optimiser": {"name": "sgd"}}),
    "baseline-cnn 3D": ("baseline-cnn", (1, 32, 64, 64), 8, {}),
    "keras-like-cnn": ("keras-like-cnn", (1, 128, 128), 32, {}),
    "neuroflux-cnn": ("neuroflux-cnn", (3, 224, 224), 16, {}),
    "convnext-stack 3D": ("convnext-stack", (1, 20, 112, 112), 8, {}),
    "resnet 3D": ("resnet", (1, 64, 64, 64), 4, {}),
    "densenet 3D": ("densenet", (1, 48, 48, 48), 4, {}),
    "timm:resnet18": ("timm:resnet18", (3, 160, 160), 32, {}),
    "timm:resnet50": ("timm:resnet50", (3, 128, 128), 32, {}),
    "timm:resnet50, bf16": ("timm:resnet50", (3, 128, 128), 32, {"precision": "bf16-mixed"}),
    "timm:resnet50, EMA": ("timm:resnet50", (3, 128, 128), 32, {"averaging": {"name": "ema"}}),
    "timm:efficientnet_b0": ("timm:efficientnet_b0", (3, 128, 128), 32, {}),
    "timm:convnext_tiny": ("timm:convnext_tiny", (3, 128, 128), 16, {}),
}
CLASSES = ("a", "b")


def measure(case: str) -> dict[str, float]:
    """Train one network in this process."""

    class Random:
        """Random images."""

        def __init__(self, count: int) -> None:
            self.targets = np.arange(count) % len(CLASSES)

        def __len__(self) -> int:
            return len(self.targets)

        def __getitem__(self, position: int) -> Batch:
            return self.__getitems__([position])

        def __getitems__(self, positions: list[int]) -> Batch:
            rows = np.asarray(positions)
            images = torch.randint(0, 256, (len(rows), *shape), dtype=torch.uint8).float().div_(255)
            return Batch(images, torch.from_numpy(self.targets[rows]), torch.from_numpy(rows))

    name, shape, batch_size, changes = CASES[case]
    config = TrainingConfig.model_validate({"epochs": 1, "batch_size": batch_size, "monitor": "val_loss", **changes})
    new = partial(build, ModelConfig(name=name), in_channels=shape[0], num_classes=2, image_size=shape[1:])
    forecast = forecast_memory(new, config, shape)
    before = psutil.Process().memory_info().rss
    model = new()
    with tempfile.TemporaryDirectory() as folder:
        train = Random(3 * batch_size)
        fit(model, train, Random(batch_size), config, Path(folder), classes=CLASSES, seed=0, progress=False)
    predict_logits(model, Random(64))  # type: ignore[arg-type]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {"forecast": forecast.total, "measured": peak - before, "counted": forecast.counted}


def main() -> None:
    """Measure all networks, each in its own process, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", default=list(CASES), help="cases; by default all")
    options = parser.parse_args()
    columns = ["network", "input, batch", "counted (MiB)", "forecast (MiB)", "measured (MiB)", "ratio"]
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|", flush=True)
    ratios = []
    for case in options.only:
        with multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1) as pool:
            found = {name: value / 2**20 for name, value in pool.apply(measure, (case,)).items()}
        ratios.append(found["forecast"] / found["measured"])
        _, shape, batch_size, _ = CASES[case]
        size = " x ".join(map(str, shape))
        numbers = " | ".join(f"{found[name]:,.0f}" for name in ("counted", "forecast", "measured"))
        print(f"| {case} | {size}, {batch_size} | {numbers} | {ratios[-1]:.2f} |", flush=True)
    print(f"\nRatio: {min(ratios):.2f} to {max(ratios):.2f}, median {sorted(ratios)[len(ratios) // 2]:.2f}")


if __name__ == "__main__":
    main()
