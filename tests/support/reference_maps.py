"""Helpers to compare attribution methods with reference libraries."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gyrus.explanation.layers import evaluation_mode
from gyrus.explanation.method_input import MethodInput, MethodSettings
from gyrus.explanation.methods import METHODS
from tests.support.networks import CONVOLUTIONS, about, images

CLASSES = (0, 2, 1)
"""The class of each map."""

LAYER = "relu"


def close(ours: Any, theirs: Any) -> None:
    """Equal to 1e-5 of the largest value."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape
    assert np.abs(theirs).max() > 0
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())


def method_input(network: nn.Module, dims: int, **settings: Any) -> MethodInput:
    return MethodInput(network.eval(), images(dims), about(*CLASSES), LAYER, MethodSettings(**settings))


def each(dims: int) -> list[tuple[Tensor, int]]:
    """Images (1, C, *spatial), and the class of each map."""
    return list(zip(images(dims).split(1), CLASSES, strict=True))


def raw(network: nn.Module, dims: int, method: str, **settings: Any) -> np.ndarray:
    """The map of a method before it is resized to the image."""
    with evaluation_mode(network):
        return METHODS[method].compute(method_input(network, dims, **settings)).numpy()


class Unpooled(nn.Module):
    """A map as fine as the image, so that nothing is resized: pytorch-grad-cam aligns corners there, and we do not."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution = CONVOLUTIONS[dims](2, 5, 3, padding=1)
        self.relu = nn.ReLU()
        self.dense = nn.Linear(5, 3)

    def forward(self, batch: Tensor) -> Tensor:
        return self.dense(self.relu(self.convolution(batch)).flatten(2).mean(-1))
