"""The layer of class activation maps: of sufficient resolution, after the activation, or the named one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gyrus.errors import ConfigError, UnknownNameError
from gyrus.explanation.layers import MIN_CELLS, choose_layer, evaluation_mode, find_layers
from gyrus.explanation.method_input import MethodSettings
from gyrus.explanation.methods import compute_heat_maps
from gyrus.models.build import build
from gyrus.models.config import ModelConfig
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
    with evaluation_mode(model):
        chosen = choose_layer(model, image)
        found = find_layers(model, image)[chosen]
    if name == "densenet":
        # Input and contents of a transition differ in size because of its pooling.
        assert min(found.grid) >= MIN_CELLS
    else:
        assert (chosen, found.grid) == (expected, grid)
    assert compute_heat_maps(model, image, about(1)).shape == (1, *size)


@pytest.mark.parametrize("name", ["timm:vit_tiny_patch16_224", "timm:swin_tiny_patch4_window7_224"])
@pytest.mark.slow
def test_tokens_are_arranged_as_the_image(name: str) -> None:
    model = build(ModelConfig(name=name), in_channels=1, num_classes=2, image_size=(224, 224))
    with evaluation_mode(model):
        assert choose_layer(model, torch.rand(1, 1, 224, 224)) == "backbone"


def test_an_image_too_small_for_a_fine_map_gets_the_finest() -> None:
    network = nn.Sequential(nn.Conv2d(1, 3, 3, stride=4), nn.ReLU(), nn.Conv2d(3, 3, 2, stride=2), nn.Flatten())
    assert find_layers(network, torch.rand(1, 1, 20, 20))[choose_layer(network, torch.rand(1, 1, 20, 20))].grid == (
        5,
        5,
    )


def test_a_network_without_maps_is_referred_to_other_methods() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    with pytest.raises(ConfigError, match="Use a method that needs no layer"):
        compute_heat_maps(network, torch.rand(1, 1, 8, 8), about(0))
    assert compute_heat_maps(network, torch.rand(1, 1, 8, 8), about(0), "input-x-gradient").shape == (1, 8, 8)


def test_an_unknown_layer_lists_the_known_ones() -> None:
    network = Network(2).eval()
    with pytest.raises(UnknownNameError, match=r"no layer with a map 'rely'. Did you mean 'relu'\?.*first.pool"):
        choose_layer(network, images(2, 1), "rely")
    with pytest.raises(ConfigError, match=r"'dense.last' gives no map of the image. Layers that do: first.conv"):
        choose_layer(network, images(2, 1), "dense.last")


def test_a_layer_that_runs_twice_has_no_map() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shared = nn.Conv2d(1, 1, 3, padding=1)

        def forward(self, batch: Tensor) -> Tensor:
            return self.shared(self.shared(batch)).flatten(1)[:, :2]

    with pytest.raises(ConfigError, match="ran 2 times"):
        compute_heat_maps(Twice(), torch.rand(1, 1, 8, 8), about(0), "grad-cam", settings=MethodSettings())


def test_channels_last_are_not_mistaken_for_space() -> None:
    class ChannelsLast(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix = nn.Linear(1, 48)
            self.inner = nn.Identity()

        def forward(self, batch: Tensor) -> Tensor:
            return self.inner(self.mix(batch.movedim(1, -1))).mean(dim=(1, 2))

    assert find_layers(ChannelsLast(), torch.rand(1, 1, 12, 12)) == {}
