"""Networks of timm as backbones: their feature maps, names and published weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from gyrus.errors import UnknownNameError
from gyrus.models.build import build
from gyrus.models.classifier import Classifier
from gyrus.models.config import ModelConfig


def make(name: str, size: tuple[int, ...] = (32, 32), channels: int = 3, **config: Any) -> Classifier:
    torch.manual_seed(0)
    return build(ModelConfig(name=name, **config), in_channels=channels, num_classes=3, image_size=size)


def test_an_unknown_network_gets_the_nearest_name() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'timm:resnet18'"):
        make("timm:resnet_18")


@pytest.mark.parametrize("name", ["timm:vit_tiny_patch16_224", "timm:swin_tiny_patch4_window7_224"])
@pytest.mark.slow
def test_transformers_have_a_feature_map(name: str) -> None:
    model = make(name, (96, 96), channels=1).eval()
    images = torch.randn(2, 1, 96, 96)
    features = model.forward_features(images)
    assert features.shape[:2] == (2, model.backbone.num_channels)
    assert features.ndim == 4
    assert features.shape[2] == features.shape[3] > 1
    assert model(images).shape == (2, 3)
    held = [id(value) for part in (*model.stages(), model.head) for value in part.parameters()]
    assert sorted(held) == sorted(id(value) for value in model.parameters())


def test_part_of_the_head_that_timm_keeps_is_loaded_and_its_classifier_is_left_out(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(1)
    network = timm.create_model("convnext_atto", num_classes=10)
    nn.init.normal_(network.head.norm.weight)
    save_file(network.state_dict(), tmp_path / "atto.safetensors")
    classifier = make("timm:convnext_atto", pretrained=str(tmp_path / "atto.safetensors")).eval()
    assert classifier.pretrained is not None
    assert set(classifier.pretrained.left_out) == {"head.fc.weight", "head.fc.bias"}
    image = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    expected = network.eval().forward_head(network.forward_features(image), pre_logits=True)
    torch.testing.assert_close(classifier.embedding(image), expected)


@pytest.mark.parametrize(
    ("name", "repository"),
    [("timm:resnet50", "timm/resnet50.a1_in1k"), ("timm:resnet50.tv_in1k", "timm/resnet50.tv_in1k")],
)
def test_the_tag_in_the_name_chooses_the_weights_and_their_licence(name: str, repository: str) -> None:
    with torch.device("meta"):
        published = make(name).backbone.published()
    assert published is not None
    assert published.repository == repository
    assert published.licence != ""
    assert "model.safetensors" in published.filenames
