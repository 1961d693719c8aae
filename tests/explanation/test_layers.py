"""The layer that is looked at: a sensible size, behind the activation, or the one that was named."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gyrus.errors import ConfigError, UnknownNameError
from gyrus.explanation.attribution import MethodSettings
from gyrus.explanation.layers import MIN_CELLS, choose_layer, find_layers, still
from gyrus.explanation.methods import explain, pick_layer
from gyrus.models.build import ModelConfig, build
from tests.support.networks import Network, about, images

CASES: list[tuple[str, dict[str, Any], tuple[int, ...], str, tuple[int, ...]]] = [
    ("baseline-cnn", {}, (64, 64), "backbone", (16, 16)),
    ("keras-like-cnn", {"channels": (4, 4, 6, 6, 8)}, (128, 128), "backbone.units.3", (8, 8)),
    ("study-cnn", {"channels": ((2, 3, 4), (3, 4, 5)), "hidden": 8}, (64, 64), "backbone", (8, 8)),
    ("convnext", {"depths": (1, 1, 1), "dims": (4, 4, 8), "kernel": 3}, (64, 64), "backbone.blocks.1", (8, 8)),
    ("convnext-stack", {"depths": (1, 1), "dims": (4, 8), "kernel": 3}, (4, 64, 64), "backbone", (4, 8, 8)),
    ("resnet", {"depth": 10, "width": 4}, (64, 64), "backbone.network.layer2", (8, 8)),
    ("resnet", {"depth": 10, "width": 4}, (32, 64, 64), "backbone.network.layer1", (8, 16, 16)),
    ("densenet", {"growth": 4, "width": 8}, (64, 64), "backbone.features.transition1", (8, 8)),
    ("timm:resnet18", {}, (64, 64), "backbone.network.layer2", (8, 8)),
    ("timm:mobilenetv2_035", {}, (224, 224), "backbone", (7, 7)),
]


@pytest.mark.parametrize(("name", "options", "size", "expected", "grid"), CASES)
def test_the_deepest_fine_map_is_chosen(
    name: str, options: dict[str, Any], size: tuple[int, ...], expected: str, grid: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    model = build(ModelConfig(name=name, options=options), in_channels=1, num_classes=2, image_size=size)
    image = torch.rand(1, 1, *size)
    with still(model):
        chosen = choose_layer(model, image)
        found = find_layers(model, image)[chosen]
    if name == "densenet":
        # What a transition takes and what is inside it differ in size by its pooling.
        assert min(found.grid) >= MIN_CELLS
    else:
        assert (chosen, found.grid) == (expected, grid)
    assert explain(model, image, about(1)).shape == (1, *size)


@pytest.mark.parametrize("name", ["timm:vit_tiny_patch16_224", "timm:swin_tiny_patch4_window7_224"])
@pytest.mark.slow
def test_tokens_are_laid_out_as_the_image(name: str) -> None:
    model = build(ModelConfig(name=name), in_channels=1, num_classes=2, image_size=(224, 224))
    with still(model):
        assert choose_layer(model, torch.rand(1, 1, 224, 224)) == "backbone"


def test_an_image_too_small_for_a_fine_map_gets_the_finest() -> None:
    network = nn.Sequential(nn.Conv2d(1, 3, 3, stride=4), nn.ReLU(), nn.Conv2d(3, 3, 2, stride=2), nn.Flatten())
    assert find_layers(network, torch.rand(1, 1, 20, 20))[choose_layer(network, torch.rand(1, 1, 20, 20))].grid == (
        5,
        5,
    )


def test_a_network_without_maps_is_told_what_it_can_have() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    with pytest.raises(ConfigError, match="Use a method that needs no layer"):
        explain(network, torch.rand(1, 1, 8, 8), about(0))
    assert explain(network, torch.rand(1, 1, 8, 8), about(0), "input-x-gradient").shape == (1, 8, 8)


def test_a_wrong_layer_gets_the_list() -> None:
    network = Network(2).eval()
    with pytest.raises(UnknownNameError, match=r"no layer with a map 'rely'. Did you mean 'relu'\?.*first.pool"):
        pick_layer(network, images(2, 1), "rely")
    with pytest.raises(ConfigError, match=r"'dense.last' gives no map of the image. Layers that do: first.conv"):
        pick_layer(network, images(2, 1), "dense.last")


def test_a_layer_that_runs_twice_has_no_map() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shared = nn.Conv2d(1, 1, 3, padding=1)

        def forward(self, batch: Tensor) -> Tensor:
            return self.shared(self.shared(batch)).flatten(1)[:, :2]

    with pytest.raises(ConfigError, match="ran 2 times"):
        explain(Twice(), torch.rand(1, 1, 8, 8), about(0), "grad-cam", settings=MethodSettings())


def test_channels_that_come_last_are_not_taken_for_space() -> None:
    class ChannelsLast(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix = nn.Linear(1, 48)
            self.inner = nn.Identity()

        def forward(self, batch: Tensor) -> Tensor:
            return self.inner(self.mix(batch.movedim(1, -1))).mean(dim=(1, 2))

    assert find_layers(ChannelsLast(), torch.rand(1, 1, 12, 12)) == {}
