"""ResNet and DenseNet for slices and volumes, filled with weights of timm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from gyrus.models.build import build
from gyrus.models.classifier import Classifier
from gyrus.models.config import ModelConfig


def make(name: str, *, channels: int = 3, size: tuple[int, ...] = (32, 32), seed: int = 0, **config: Any) -> Classifier:
    torch.manual_seed(seed)
    return build(ModelConfig(name=name, **config), in_channels=channels, num_classes=2, image_size=size)


@pytest.mark.parametrize(("name", "publisher"), [("resnet", "timm:resnet18"), ("densenet", "timm:densenet121")])
def test_weights_of_timm_inflate_into_a_network_for_volumes(name: str, publisher: str, tmp_path: Path) -> None:
    source = make(publisher, seed=1).backbone.pretrained_part()
    save_file(source.state_dict(), tmp_path / "flat.safetensors")
    path = str(tmp_path / "flat.safetensors")
    flat = make(name, pretrained=path).eval()
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = source.eval().forward_features(image)
        torch.testing.assert_close(flat.forward_features(image), expected, rtol=1e-3, atol=1e-4)
    volume = make(name, channels=1, size=(32, 32, 32), pretrained=path)
    assert volume.pretrained is not None
    assert set(volume.pretrained.changes) == {"stem: 3 to 1 channels by sum", "inflated from 2D to 3D"}
