"""How close training comes to the bare loop: the same network and optimiser, tensors in memory, no framework.

Both take turns in one process, epoch by epoch, so that whatever else the machine does hits both alike. Gyrus reads its
batches from a store on disk, normalises, shuffles, counts the training accuracy and looks at every loss; the bare loop
does none of this.

    python benchmarks/training_speed.py [--peer plain] [--steps 40] [--epochs 7] [--threads 2] [--batch 32]

``--peer plain`` is the loop as one writes it: layers in the order of the paper, PyTorch's default optimiser and memory
format. ``--peer same`` has what Gyrus has by default: fused optimiser, channels-last, ReLU after pooling; its ratio is
the cost of the framework.

A ratio is bare time over Gyrus's time for the same number of steps; 0.9 or more is the aim. What Gyrus does besides,
once an epoch, is told apart: the validation of 64 images and the checkpoint of 8.4 million weights and their
optimiser's state.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from gyrus.datasets.store import Store
from gyrus.datasets.torch_dataset import PixelDataset
from gyrus.models.build import build
from gyrus.models.config import ModelConfig
from gyrus.training.config import TrainingConfig
from gyrus.training.fit import fit
from gyrus.transforms.normalisation import Normalisation

SIDE = 128
CLASSES = ("none", "very mild", "mild", "moderate")


class BareLoop:
    """The peer."""

    def __init__(self, options: argparse.Namespace, device: torch.device) -> None:
        plain = options.peer == "plain"
        self.model = network(plain=plain).to(device, memory_format=memory_format(options))
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(), lr=1e-3, weight_decay=0.01, fused=None if plain else True
        )
        shape = (options.batch, 1, SIDE, SIDE)
        self.images = [torch.rand(shape, device=device) for _ in range(options.steps)]
        self.targets = [torch.randint(4, (options.batch,), device=device) for _ in range(options.steps)]

    def epoch(self) -> None:
        """Train an epoch."""
        for images, targets in zip(self.images, self.targets, strict=True):
            self.optimiser.zero_grad()
            functional.cross_entropy(self.model(images), targets).backward()
            self.optimiser.step()


def network(*, plain: bool = False) -> nn.Module:
    """The network; ``plain``: as it is written down, with ReLU before pooling."""
    model = build(ModelConfig(name="baseline-cnn"), in_channels=1, num_classes=4, image_size=(SIDE, SIDE))
    for unit in model.backbone.units if plain else ():
        layers = list(unit)
        relu = next(number for number, layer in enumerate(layers) if isinstance(layer, nn.ReLU))
        layers[relu - 1 : relu + 1] = layers[relu], layers[relu - 1]
        for number, layer in enumerate(layers):
            unit[number] = layer
    return model


def memory_format(options: argparse.Namespace) -> torch.memory_format:
    same = options.channels_last and options.peer == "same"
    return torch.channels_last if same else torch.contiguous_format


def clocks() -> np.ndarray:
    """Seconds on the wall, and of this process on all processors."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return np.array([time.perf_counter(), time.process_time()])


class Watched(PixelDataset):
    """A part that notes when its first batch is asked for: as the validation set, when the steps are over."""

    asked: list[np.ndarray]

    def set_epoch(self, epoch: int) -> None:
        """Note the time."""
        super().set_epoch(epoch)
        self.asked.append(clocks())


def part(folder: Path, count: int, seed: int, kind: type[PixelDataset] = PixelDataset) -> PixelDataset:
    """A part of a store that is filled with noise."""
    folder.mkdir()
    numbers = np.random.default_rng(seed)
    np.save(folder / "pixels.npy", numbers.integers(0, 256, (count, 1, SIDE, SIDE), dtype=np.uint8))
    np.save(folder / "statistics.npy", np.tile(np.float32([0.5, 0.29, 0.0, 1.0]), (count, 1, 1)))
    targets = numbers.permutation(np.arange(count) % 4)
    return kind(Store(folder), np.arange(count), targets, Normalisation("zscore", (0.0,), (1.0,)))


def measure(options: argparse.Namespace, folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Seconds (wall, processors) in each epoch: of the bare loop, of Gyrus's steps, of the rest of Gyrus's epoch."""
    bare = BareLoop(options, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    train = part(folder / "train", options.steps * options.batch, 1)
    val = part(folder / "val", 64, 2, Watched)
    begun, ended, val.asked = [], [], []

    def take_turns(_epoch: int, _model: nn.Module) -> None:
        begun.append(clocks())
        bare.epoch()
        ended.append(clocks())

    config = TrainingConfig(
        epochs=options.epochs + 2,
        batch_size=options.batch,
        workers=options.workers,
        channels_last=options.channels_last,
        deterministic=options.deterministic,
    )
    run = {"classes": CLASSES, "seed": 0, "progress": False, "before_epoch": take_turns}
    fit(network(), train, val, config, folder / "run", **run)
    # The first turn of each pays for memory and lazy imports; the last of Gyrus has no end that is seen here.
    begins, ends, asked = (np.array(times) for times in (begun, ended, val.asked))
    return ends[1:-1] - begins[1:-1], asked[1:-1] - ends[1:-1], begins[2:] - asked[1:-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", choices=("plain", "same"), default="plain")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=7)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--channels-last", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--deterministic", action=argparse.BooleanOptionalAction, default=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        bare, gyrus, rest = (1000 * seconds for seconds in measure(options, Path(folder)))
    print(f"ms a step of {options.batch} images; {options.steps} steps an epoch, {len(bare)} epochs in turn")
    for column, clock in enumerate(("wall", "processors")):
        one, other = bare[:, column] / options.steps, gyrus[:, column] / options.steps
        print(
            f"{clock:10}  bare: minimum {one.min():.2f}, median {np.median(one):.2f}"
            f"  gyrus: minimum {other.min():.2f}, median {np.median(other):.2f}"
            f"  ratio of minima {one.min() / other.min():.3f}, median of ratios {np.median(one / other):.3f}"
            f"  validation and checkpoint: median {np.median(rest[:, column]):.0f} ms an epoch"
        )


if __name__ == "__main__":
    main()
