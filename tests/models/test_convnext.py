"""ConvNeXt against timm's, its stochastic depth, and its steps."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gyrus.errors import ConfigError
from gyrus.models.build import build
from gyrus.models.config import ModelConfig
from gyrus.models.convnext import Block, ConvNeXt
from gyrus.models.layers import DropPath, set_drop_path_rate

SMALL = {"depths": [1, 2, 1], "dims": [8, 12, 16], "kernel": 3}


def make(name: str = "convnext", size: tuple[int, ...] = (32, 32), **options: object) -> ConvNeXt:
    model = build(ModelConfig(name=name, options=options), in_channels=1, num_classes=2, image_size=size)
    assert isinstance(model.backbone, ConvNeXt)
    return model.backbone


def rates(network: torch.nn.Module) -> list[float]:
    return [module.rate for module in network.modules() if isinstance(module, DropPath)]


def timm_name(name: str) -> str:
    """The name in timm of one of our tensors."""
    parts = name.split(".")
    if parts[1] == "stem":
        return ".".join(["stem", *parts[2:]])
    if parts[0] == "head":
        return {"embed": "head.norm", "classify": "head.fc"}[parts[1]] + f".{parts[-1]}"
    stage, index = int(parts[2]), int(parts[3])
    first_block = 2 if stage else 0
    if index < first_block:
        return f"stages.{stage}.downsample.{index}.{parts[-1]}"
    layer = {"depthwise": "conv_dw", "expand": "mlp.fc1", "project": "mlp.fc2"}.get(parts[4], parts[4])
    tail = "gamma" if layer == "scale" else f"{layer}.{parts[-1]}"
    return f"stages.{stage}.blocks.{index - first_block}.{tail}"


def test_same_outputs_as_timm_with_the_same_weights() -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    reference = timm.create_model(
        "convnext_tiny", depths=(1, 1, 2, 1), dims=(8, 16, 24, 32), in_chans=3, num_classes=5, ls_init_value=0.5
    ).eval()
    options = {"depths": [1, 1, 2, 1], "dims": [8, 16, 24, 32]}
    ours = build(
        ModelConfig(name="convnext", options=options), in_channels=3, num_classes=5, image_size=(64, 96)
    ).eval()
    weights = reference.state_dict()
    ours.load_state_dict({name: weights[timm_name(name)] for name in ours.state_dict()})
    images = torch.randn(2, 3, 64, 96)
    torch.testing.assert_close(ours(images), reference(images), rtol=1e-4, atol=1e-5)


def test_schedule_of_stochastic_depth_is_that_of_the_published_project() -> None:
    expected = [0, 0.0444, 0.0889, 0.1333, 0.1778, 0.2222, 0.2667, 0.3111, 0.3556, 0.4]
    with torch.device("meta"):
        network = make("convnext-stack", (20, 32, 32))
    assert rates(network) == pytest.approx(expected, abs=5e-5)
    set_drop_path_rate(network, 0.18)
    assert rates(network) == pytest.approx([0.02 * block for block in range(10)])


def test_setting_the_rate_changes_what_training_does() -> None:
    network = make(**SMALL, layer_scale=1.0, drop_path=0.0).train()
    image = torch.randn(64, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(network(image), network(image))
    set_drop_path_rate(network, 0.5)
    assert not torch.allclose(network(image), network(image))
    network.eval()
    torch.testing.assert_close(network(image), network(image))


def test_the_stack_keeps_its_depth() -> None:
    shapes: list[tuple[int, ...]] = []

    def note(_module: torch.nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        shapes.append(tuple(output.shape[1:]))

    with torch.device("meta"):
        network = make("convnext-stack", (20, 224, 224))
        for stage in network.stages():
            stage.register_forward_hook(note)
        network(torch.zeros(1, 1, 20, 224, 224))
    assert shapes == [(16, 20, 56, 56), (16, 20, 56, 56), (32, 20, 28, 28), (64, 20, 14, 14), (128, 20, 7, 7)]


def test_overlapping_steps_divide_the_image_as_plain_ones_do() -> None:
    image = torch.zeros(1, 1, 48, 32)
    network = make(size=(48, 32), **SMALL, stem_kernel=7, downsample_kernel=3)
    assert network(image).shape == make(size=(48, 32), **SMALL)(image).shape == (1, 16, 3, 2)


@pytest.mark.parametrize("size", [(16, 16), (17, 31)])
@pytest.mark.parametrize("kernel", [None, 5, 7])
def test_the_smallest_image_really_works(size: tuple[int, int], kernel: int | None) -> None:
    network = make(size=size, **SMALL, stem_kernel=kernel)
    assert network.smallest == (16, 16)
    features = network(torch.zeros(1, 1, *size))
    assert features.shape[1] == 16
    assert features.numel() > 0


def test_branches_start_small_by_layer_scale_and_large_without() -> None:
    image = torch.randn(1, 8, 9, 9, generator=torch.Generator().manual_seed(0))
    options = make(**SMALL).blocks[0][-1]
    assert isinstance(options, Block)
    assert (options(image) - image).abs().max() < 1e-4
    free = make(**SMALL, layer_scale=None, start="library").blocks[0][-1]
    assert (free(image) - image).abs().max() > 1e-2


def test_weights_start_as_in_the_paper() -> None:
    torch.manual_seed(0)
    network = make(depths=[1], dims=[96])
    weights = network.blocks[0][0].expand.weight
    assert weights.std().item() == pytest.approx(0.02, rel=0.05)
    assert network.stem[0].weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert network.stem[0].bias.abs().max() == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depths": [1, 1], "dims": [8]}, "equal length"),
        ({**SMALL, "kernel": 4}, "must be odd"),
        ({**SMALL, "kernel": [3, 3, 3]}, "one value or 2 values"),
        ({**SMALL, "stem_kernel": 2}, "as wide as its stride"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(**options)
