"""A small data set and a small network that train within a second."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from gyrus.datasets.torch_dataset import Batch

CLASSES = ("none", "mild", "severe")


class ToyDataset:
    """Images in memory whose mean brightness follows the class."""

    def __init__(self, count: int, seed: int, classes: int = 3, side: int = 8) -> None:
        numbers = np.random.default_rng(seed)
        self.targets = numbers.permutation(np.arange(count) % classes).astype(np.int64)
        noise = numbers.normal(size=(count, 1, side, side)).astype(np.float32)
        self.images = torch.from_numpy(noise + self.targets[:, None, None, None].astype(np.float32))
        self.epochs: list[int] = []

    def set_epoch(self, epoch: int) -> None:
        self.epochs.append(epoch)

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, position: int) -> Batch:
        return self.__getitems__([position])

    def __getitems__(self, positions: list[int]) -> Batch:
        index = torch.tensor(positions)
        return Batch(self.images[index], torch.from_numpy(self.targets)[index], index)


class TinyNet(nn.Module):
    """Convolution, batch normalisation, dropout: everything that makes training hard to reproduce."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(4, classes))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images).mean(dim=(2, 3)))


def tiny_net(seed: int = 0) -> TinyNet:
    with torch.random.fork_rng(()):
        torch.manual_seed(seed)
        return TinyNet()


class ActingDataset:
    """A dataset that performs an action before a certain batch of a certain epoch, both counted from 0."""

    def __init__(self, dataset: ToyDataset, *, epoch: int, batch: int, action: Callable[[], object]) -> None:
        self.dataset = dataset
        self.targets = dataset.targets
        self.when = (epoch, batch)
        self.action = action
        self.now = (0, 0)

    def set_epoch(self, epoch: int) -> None:
        self.now = (epoch, 0)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, position: int) -> Batch:
        return self.__getitems__([position])

    def __getitems__(self, positions: list[int]) -> Batch:
        if self.now == self.when:
            self.action()
        self.now = (self.now[0], self.now[1] + 1)
        return self.dataset.__getitems__(positions)
