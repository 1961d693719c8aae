"""Properties of all methods in two and three dimensions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gyrus.errors import ConfigError, UnknownNameError
from gyrus.explanation.method_input import MethodInput, MethodSettings, erased
from gyrus.explanation.methods import METHODS, compute_heat_maps
from gyrus.explanation.perturbation_methods import mean_masks
from gyrus.models.build import build
from gyrus.models.config import ModelConfig
from tests.support.networks import SIZES, Network, about, images

FAST = MethodSettings(steps=4, samples=3, masks=24, cells=4, window=0.5, batch=8)
both = pytest.mark.parametrize("dims", [2, 3])
every_method = pytest.mark.parametrize("method", METHODS)


@both
@every_method
def test_a_map_has_the_size_of_the_image_and_numbers_in_it(method: str, dims: int) -> None:
    maps = compute_heat_maps(Network(dims), images(dims), about(0, 1, 2), method, settings=FAST)
    assert maps.shape == (3, *SIZES[dims])
    assert maps.dtype == np.float32
    assert np.isfinite(maps).all()
    assert np.abs(maps).max() > 0
    assert METHODS[method].is_signed or maps.min() >= 0


@both
@every_method
def test_a_map_depends_on_its_image_alone(method: str, dims: int) -> None:
    network, batch = Network(dims), images(dims)
    together = compute_heat_maps(network, batch, about(0, 1, 2), method, settings=FAST)
    alone = compute_heat_maps(network, batch[1:2], about(1), method, settings=FAST)
    np.testing.assert_allclose(together[1:2], alone, atol=1e-5 * np.abs(alone).max())


@both
@every_method
def test_contract_another_engine_gives_the_same_maps_and_runs_only_what_needs_no_gradients(
    method: str, dims: int
) -> None:
    """The network itself in another guise; that engines give its logits is a contract of theirs."""
    network, spec, passed, asked = Network(dims).eval(), METHODS[method], [0], []

    class Other:
        name = "other"

        def __call__(self, batch: np.ndarray) -> np.ndarray:
            passed[0] += len(batch)
            with torch.no_grad():
                return network(torch.from_numpy(batch)).numpy() + np.float32(1e-7)

    def choose(asking: nn.Module, batch: Tensor, passes: int) -> Other:
        assert asking is network
        assert len(batch)
        asked.append(passes)
        return Other()

    shown: list[tuple[int, int]] = []
    expected = compute_heat_maps(network, images(dims), about(0, 1, 2), method, settings=FAST)
    found = compute_heat_maps(
        network,
        images(dims),
        about(0, 1, 2),
        method,
        settings=FAST,
        choose=choose,
        progress=lambda *numbers: shown.append(numbers),
    )
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
    assert shown[-1][0] == shown[-1][1] == (passed[0] or shown[-1][1])
    assert asked == ([passed[0]] if spec.any_engine else [])
    assert spec.passes is None or len(shown) > 1


@every_method
def test_a_network_is_left_as_it_was(method: str) -> None:
    network = Network(2).train()
    network.first.requires_grad_(False)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    compute_heat_maps(network, images(2), about(0, 1, 2), method, settings=FAST)
    assert network.training
    assert not network.first.convolution.weight.requires_grad
    assert network.convolution.weight.requires_grad
    assert all(parameter.grad is None for parameter in network.parameters())
    for module in network.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert not module._backward_hooks
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


@pytest.mark.parametrize("method", [name for name in METHODS if METHODS[name].needs_layer])
def test_hooks_are_released_when_the_network_fails(method: str) -> None:
    class Failing(Network):
        def forward(self, batch: Tensor) -> Tensor:
            super().forward(batch)
            raise RuntimeError("broken")

    network = Failing(2)
    with pytest.raises(RuntimeError, match="broken"):
        compute_heat_maps(network, images(2), about(0, 1, 2), method, layer="relu", settings=FAST)
    assert not any(module._forward_hooks for module in network.modules())
    assert all(parameter.requires_grad for parameter in network.parameters())


@both
@every_method
def test_work_in_place_changes_nothing(method: str, dims: int) -> None:
    plain, in_place = Network(dims), Network(dims, inplace=True)
    layer = "convolution" if METHODS[method].needs_layer else None
    one, other = (
        compute_heat_maps(network, images(dims), about(0, 1, 2), method, layer=layer, settings=FAST)
        for network in (plain, in_place)
    )
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("method", [name for name in METHODS if METHODS[name].depends_on_class])
def test_another_class_has_another_map(method: str) -> None:
    network = Network(2)
    one, other = (compute_heat_maps(network, images(2, 1), about(number), method, settings=FAST) for number in (0, 2))
    assert not np.allclose(one, other)


def test_eigen_cam_does_not_depend_on_the_class() -> None:
    network = Network(2)
    one, other = (compute_heat_maps(network, images(2, 1), about(number), "eigen-cam") for number in (0, 2))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("method", ["integrated-gradients", "input-x-gradient", "occlusion"])
def test_a_difference_of_classes_is_the_difference_of_their_maps(method: str) -> None:
    """For methods that are linear in the class score."""
    network, batch = Network(2), images(2)
    contrasts = about(0, 1, 2), about(1, 2, 0), about(0, 1, 2, minus=(1, 2, 0))
    plus, minus, difference = (
        compute_heat_maps(network, batch, contrast, method, settings=FAST) for contrast in contrasts
    )
    np.testing.assert_allclose(difference, plus - minus, atol=1e-5 * np.abs(plus).max())


def test_integrated_gradients_sum_to_the_difference_of_the_scores() -> None:
    network, batch = Network(3).eval(), images(3)
    with torch.no_grad():
        difference = (network(batch) - network(erased(batch))).gather(1, torch.tensor([[0], [1], [2]]))[:, 0]
    maps = compute_heat_maps(network, batch, about(0, 1, 2), "integrated-gradients", settings=MethodSettings(steps=200))
    np.testing.assert_allclose(maps.sum(axis=(1, 2, 3)), difference, rtol=0.02, atol=0.002)


class OnePixel(nn.Module):
    """The logit of class 1 is ten times one pixel."""

    def forward(self, batch: Tensor) -> Tensor:
        pixel = batch[:, 0, 5, 12]
        return torch.stack([torch.zeros_like(pixel), 10 * pixel], dim=1)


@pytest.mark.parametrize("method", [name for name in METHODS if not METHODS[name].needs_layer and name[0] != "g"])
def test_the_only_relevant_pixel_is_the_hottest(method: str) -> None:
    batch = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    batch[:, 0, 5, 12] = 1.0
    settings = MethodSettings(eraser="black", masks=2000, cells=8, batch=100, window=0.2)
    for values in compute_heat_maps(OnePixel(), batch, about(1, 1), method, settings=settings):
        row, column = np.unravel_index(values.argmax(), values.shape)
        assert abs(row - 5) <= 1
        assert abs(column - 12) <= 1


def test_rise_is_the_mean_of_masks_weighted_by_the_probability() -> None:
    """Equation 6 of the paper with constant probability 1: every pixel is visible in the same fraction of masks."""

    class Constant(nn.Module):
        def forward(self, batch: Tensor) -> Tensor:
            return torch.tensor([[100.0, 0.0]]).expand(len(batch), 2)

    settings = MethodSettings(masks=4000, cells=4, batch=500, visible=0.3)
    maps = mean_masks(MethodInput(Constant(), torch.rand(1, 1, 12, 16), about(0), settings=settings))
    np.testing.assert_allclose(maps, 1.0, atol=0.1)


def test_ablation_cam_of_a_negative_logit_shows_the_evidence_for_the_class() -> None:
    """A bright spot raises the logit, by less than the bias lowers it."""
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2))
    with torch.no_grad():
        network[0].weight[:] = torch.tensor([1.0, -1.0]).reshape(2, 1, 1, 1)
        network[0].bias[:] = torch.tensor([0.0, 0.5])
        network[4].weight[:] = torch.tensor([[3.0, 0.1], [0.0, 0.0]])
        network[4].bias[:] = -9.0
    image = torch.zeros(1, 1, 8, 8)
    image[..., 2:4, 5:7] = 1.0
    (values,) = compute_heat_maps(network, image, about(0), "ablation-cam", layer="1")
    assert values[2:4, 5:7].min() > values[5:, :3].max()


def test_grad_cam_plus_plus_does_not_depend_on_the_size_of_the_image() -> None:
    """After global pooling, gradients of large maps are tiny; a constant in the denominator must not outweigh them."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    with torch.no_grad():
        network[4].weight.abs_()
    small, large = (torch.rand(1, 1, 64, 64).repeat(1, 1, times, times) for times in (1, 4))
    maps = [compute_heat_maps(network, image, about(0), "grad-cam++", layer="1")[0] for image in (small, large)]
    heats = [values[4:-4, 4:-4].max() / values.max() for values in maps]
    assert heats[0] == pytest.approx(heats[1], rel=0.1)


def test_erased_content_is_blurred_black_or_gray() -> None:
    batch = images(3)
    assert erased(batch, "blur").std() < 0.2 * batch.std()
    torch.testing.assert_close(erased(batch, "black")[1, 0, 2, 3, 4], batch[1, 0].min())
    torch.testing.assert_close(erased(batch, "mean")[1, 0, 2, 3, 4], batch[1, 0].mean())


@pytest.mark.parametrize("name", ["study-cnn", "densenet"])
def test_guided_backpropagation_includes_relu_functions(name: str) -> None:
    options = {"channels": ((2, 3, 4), (3, 4, 5)), "hidden": 8} if name == "study-cnn" else {"growth": 4, "width": 8}
    model = build(ModelConfig(name=name, options=options), in_channels=1, num_classes=2, image_size=(32, 32))
    batch = torch.rand(1, 1, 32, 32)
    guided = compute_heat_maps(model, batch, about(1), "guided-backpropagation")
    assert np.isfinite(guided).all()
    assert np.abs(guided).max() > 0


def test_guided_backpropagation_refuses_a_network_without_relu() -> None:
    options = {"depths": (1, 1), "dims": (8, 12), "kernel": 3}
    model = build(ModelConfig(name="convnext", options=options), in_channels=1, num_classes=2, image_size=(32, 32))
    with pytest.raises(ConfigError, match="this network has none"):
        compute_heat_maps(model, torch.rand(1, 1, 32, 32), about(1), "guided-backpropagation")


def test_chance_is_decided_by_the_seed() -> None:
    network, batch = Network(2), images(2)
    for method in ("rise", "smooth-grad"):
        one, same, other = (
            compute_heat_maps(
                network, batch, about(0, 1, 2), method, settings=MethodSettings(masks=16, samples=2, seed=seed)
            )
            for seed in (1, 1, 2)
        )
        np.testing.assert_array_equal(one, same)
        assert not np.array_equal(one, other)


def test_a_wrong_method_gets_the_list() -> None:
    with pytest.raises(
        UnknownNameError, match=r"no method 'gradcam'. Did you mean 'grad-cam'\? Known: grad-cam, .*rise"
    ):
        compute_heat_maps(Network(2), images(2), about(0, 1, 2), "gradcam")


@pytest.mark.parametrize(
    ("name", "value"), [("steps", 0), ("window", 0.0), ("visible", 1.5), ("batch", 0), ("eraser", "white")]
)
def test_settings_out_of_their_range_are_refused(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"`{name}` must"):
        MethodSettings(**{name: value})
