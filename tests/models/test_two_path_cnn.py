"""The two-path CNN."""

from __future__ import annotations

import pytest
import torch

from gyrus.errors import ConfigError
from gyrus.models.build import build
from gyrus.models.classifier import Classifier
from gyrus.models.config import ModelConfig


def make(**options: object) -> Classifier:
    return build(ModelConfig(name="study-cnn", options=options), in_channels=1, num_classes=4, image_size=(64, 64))


def test_paths_of_different_length_are_refused() -> None:
    with pytest.raises(ConfigError, match="same number of units"):
        make(convolutions=[1, 1])


def test_paths_are_independent_until_they_are_merged() -> None:
    classifier = make().eval()
    image = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    before = classifier.forward_features(image)
    with torch.no_grad():
        for stage in classifier.backbone.units:
            for value in stage.units[1].parameters():
                value.zero_()
    after = classifier.forward_features(image)
    torch.testing.assert_close(after[:, :256], before[:, :256])
    assert not torch.equal(after[:, 256:], before[:, 256:])
