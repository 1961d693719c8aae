"""Small networks that all methods and all reference libraries support."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from gyrus.explanation.targets import ClassContrast

CONVOLUTIONS = {2: nn.Conv2d, 3: nn.Conv3d}
NORMS = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
POOLS = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
SIZES = {2: (20, 24), 3: (10, 12, 16)}
CLASSES = 3


class Network(nn.Module):
    """Two convolutions with ReLU, a pooling between, and two dense layers after the flattened map."""

    def __init__(self, dims: int, *, channels: int = 2, inplace: bool = False, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        convolution, pool = CONVOLUTIONS[dims], POOLS[dims]
        # MONAI finds a ReLU by the name of its module.
        layers = {"convolution": convolution(channels, 4, 3, padding=1), "norm": NORMS[dims](4)}
        self.first = nn.Sequential(OrderedDict(layers | {"relu": nn.ReLU(inplace=inplace), "pool": pool(2)}))
        self.convolution = convolution(4, 6, 3, padding=1)
        self.relu = nn.ReLU(inplace=inplace)
        voxels = 1
        for length in SIZES[dims]:
            voxels *= length // 2
        head = {"flatten": nn.Flatten(), "hidden": nn.Linear(6 * voxels, 8), "relu": nn.ReLU()}
        self.dense = nn.Sequential(OrderedDict(head | {"last": nn.Linear(8, CLASSES)}))
        # Ablation-CAM of pytorch-grad-cam divides by the logit, so its sign flips where the logit is negative.
        nn.init.constant_(self.dense[-1].bias, 3.0)

    def forward(self, images: Tensor) -> Tensor:
        return self.dense(self.relu(self.convolution(self.first(images))))


def images(dims: int, batch: int = 3, channels: int = 2) -> Tensor:
    return torch.randn(batch, channels, *SIZES[dims], generator=torch.Generator().manual_seed(1))


def about(*classes: int, minus: tuple[int, ...] | None = None) -> ClassContrast:
    return ClassContrast(torch.tensor(classes), None if minus is None else torch.tensor(minus))


@contextmanager
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
