"""Signatures of classifiers, and the images that they accept."""

from __future__ import annotations

import pytest
import torch

from gyrus.errors import ConfigError, DataError
from gyrus.models.build import build
from gyrus.models.classifier import Signature
from gyrus.models.config import ModelConfig


@pytest.mark.parametrize(
    ("signature", "message"),
    [
        ((1, (32,), 2), "two or three numbers"),
        ((1, (32, 0), 2), "two or three numbers"),
        ((0, (32, 32), 2), "at least 1"),
        ((1, (32, 32), 1), "at least 2"),
    ],
)
def test_impossible_signatures_are_refused(signature: tuple[int, tuple[int, ...], int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Signature(*signature)


def test_integer_images_are_refused() -> None:
    model = build(ModelConfig(), in_channels=1, num_classes=3, image_size=(64, 64))
    with pytest.raises(DataError, match="floating-point"):
        model(torch.zeros(1, 1, 64, 64, dtype=torch.uint8))
