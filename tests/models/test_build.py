"""From a config to a classifier."""

from __future__ import annotations

from typing import Any

import torch

from gyrus.models.build import build
from gyrus.models.config import ModelConfig


def make(size: tuple[int, ...] = (64, 64), **config: Any) -> Any:
    return build(ModelConfig(**config), in_channels=1, num_classes=3, image_size=size)


def test_a_head_in_the_config_replaces_that_of_the_model() -> None:
    model = make(name="baseline-cnn", options={"global_pool": True}, head={"name": "attention-blocks"}).eval()
    assert model.embedding(torch.zeros(1, 1, 64, 64)).shape == (1, 256)
    assert make(name="baseline-cnn").embedding(torch.zeros(1, 1, 64, 64)).shape == (1, 128)
