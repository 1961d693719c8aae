"""The order of layers in the small CNNs, as in the published projects."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gyrus.errors import ConfigError, DataError
from gyrus.models.build import build
from gyrus.models.classifier import Classifier
from gyrus.models.config import ModelConfig
from gyrus.models.small_cnn import conv_unit

LETTERS = {
    nn.Conv2d: "C",
    nn.ReLU: "r",
    nn.MaxPool2d: "P",
    nn.BatchNorm2d: "B",
    nn.BatchNorm1d: "B",
    nn.Dropout: "D",
    nn.Linear: "F",
}


def make(name: str, size: tuple[int, ...] = (64, 64), **config: object) -> Classifier:
    return build(ModelConfig(name=name, **config), in_channels=1, num_classes=4, image_size=size)


def layers(classifier: Classifier) -> str:
    return "".join(LETTERS[type(layer)] for layer in classifier.modules() if type(layer) in LETTERS)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("baseline-cnn", "CrPB CrP FrF"),
        ("baseline-cnn-dropout", "CrPBD CrPBD FrDF"),
        ("baseline-cnn-less-dropout", "CrPB CrPBD FrDF"),
        ("baseline-cnn-dense-dropout", "CrPB CrPB FrDF"),
        ("baseline-cnn-deep", "CrPB CrPB CrPB FrDF"),
        ("baseline-cnn-deep-plain", "CrPB CrPB CrPB FrF"),
        ("conv5-cnn", "CrP CrP FrF"),
        ("keras-like-cnn", "CrBPD CrBP CrBPD CrBP CrBPD FrB FrDF"),
        ("gpt-cnn", "CrBPD CrBPD CrBPD FrFrF"),
        ("neuroflux-cnn", "CrP CrP CrP CrP FrDF"),
        # two paths side by side, stage by stage; the merging dense layers have their ReLU in code
        ("study-cnn", "CrCrP CrCrP CrCrP CrCrP CrPBD CrPBD FF FrF"),
    ],
)
def test_order_of_layers(name: str, expected: str) -> None:
    """In the published order, but for ReLU, which stands after the pooling where nothing lies between them."""
    assert layers(make(name)) == expected.replace(" ", "").replace("rP", "Pr")


@pytest.mark.parametrize("dimensions", [2, 3])
def test_relu_after_pooling_gives_the_bits_of_relu_before_it(dimensions: int) -> None:
    torch.manual_seed(0)
    unit = conv_unit(dimensions, 2, 4, 3, norm="after pooling", convolutions=2)
    first, between, second, pool, relu, norm = unit
    assert isinstance(relu, nn.ReLU)
    images = torch.randn(3, 2, *[8] * dimensions).round(decimals=1)  # with ties
    results = []
    for order in (unit, nn.Sequential(first, between, second, relu, pool, norm)):
        output = order(images)
        results.append([output, *torch.autograd.grad(output.square().sum(), list(order.parameters()))])
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


def test_norm_before_activation() -> None:
    model = make("conv5-cnn", options={"norm": ["before activation", "none"]})
    assert layers(model) == "CBPrCPrFrF"


def test_dropout_rates_of_the_heaviest_variant() -> None:
    rates = [layer.p for layer in make("baseline-cnn-dropout").modules() if isinstance(layer, nn.Dropout)]
    assert rates == [0.3, 0.4, 0.5]


def test_a_flattened_map_has_a_fixed_size_and_global_pooling_has_none() -> None:
    with pytest.raises(DataError, match=r"size \(64, 64\), got \(64, 80\)"):
        make("baseline-cnn")(torch.zeros(1, 1, 64, 80))
    pooled = make("baseline-cnn", options={"global_pool": True})
    assert pooled(torch.zeros(1, 1, 50, 80)).shape == (1, 4)
    assert sum(value.numel() for value in pooled.parameters()) == 320 + 64 + 18_496 + 65 * 128 + 129 * 4


@pytest.mark.parametrize("size", [(65, 63), (17, 33, 20)])
def test_odd_sizes(size: tuple[int, ...]) -> None:
    assert make("baseline-cnn", size)(torch.zeros(1, 1, *size)).shape == (1, 4)


def test_a_tuple_must_have_one_value_per_unit() -> None:
    with pytest.raises(ConfigError, match=r"`dropout` must be one value or 2 values, got 3"):
        make("baseline-cnn", options={"dropout": [0.1, 0.2, 0.3]})


@pytest.mark.parametrize(("size", "reduce"), [((18, 8, 8), (4, 1, 1)), ((16, 13), 2), ((16, 12), 1)])
def test_means_before_the_first_unit_are_those_of_an_image_made_smaller(
    size: tuple[int, ...], reduce: int | tuple[int, ...]
) -> None:
    widths = reduce if isinstance(reduce, tuple) else (reduce,) * len(size)
    small = tuple(length // width for length, width in zip(size, widths, strict=True))
    reducing = make("baseline-cnn", size, options={"reduce": reduce}).eval()
    plain = make("baseline-cnn", small).eval()
    plain.load_state_dict(reducing.state_dict())
    image = torch.rand(2, 1, *size)
    cut = image[(..., *(slice(0, length * width) for length, width in zip(small, widths, strict=True)))]
    blocks = [part for pair in zip(small, widths, strict=True) for part in pair]
    means = cut.reshape(2, 1, *blocks).mean(dim=tuple(range(3, 3 + 2 * len(size), 2)))
    torch.testing.assert_close(reducing(image), plain(means))


def test_an_image_too_small_after_averaging_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"at least size \(16, 4, 4\)"):
        make("baseline-cnn", (12, 8, 8), options={"reduce": (4, 1, 1)})
