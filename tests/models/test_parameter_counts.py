"""Parameters of every network of the published projects, as counted from their code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from gyrus.models.build import build
from gyrus.models.classifier import Classifier
from gyrus.models.config import ModelConfig
from gyrus.models.parameter_counts import count_parameters, with_tables

SLICE = (1, (128, 128), 4)
COLOUR = (3, (224, 224), 4)
IMAGENET = (3, (224, 224), 1000)
STACK = (1, (20, 224, 224), 2)
PAIR = (3, (224, 224), 2)
FIVE = (3, (224, 224), 5)


def on_meta(shape: tuple[int, tuple[int, ...], int], **config: Any) -> Classifier:
    channels, size, classes = shape
    with torch.device("meta"):
        return build(ModelConfig(**config), in_channels=channels, num_classes=classes, image_size=size)


def count(classifier: Classifier, *, trainable: bool = False) -> int:
    return sum(value.numel() for value in classifier.parameters() if value.requires_grad or not trainable)


def neuroflux(width: int) -> dict[str, Any]:
    return {"channels": [width, 2 * width, 4 * width, 8 * width]}


@pytest.mark.parametrize(
    ("name", "shape", "options", "expected"),
    [
        ("baseline-cnn", SLICE, {}, 8_408_132),
        ("baseline-cnn-dropout", SLICE, {}, 8_408_260),
        ("baseline-cnn-less-dropout", SLICE, {}, 8_408_260),
        ("baseline-cnn-dense-dropout", SLICE, {}, 8_408_260),
        ("baseline-cnn-deep", SLICE, {}, 4_288_068),
        ("baseline-cnn-deep-plain", SLICE, {}, 4_288_068),
        ("conv5-cnn", SLICE, {}, 2_110_724),
        ("study-cnn", SLICE, {}, 27_575_060),
        ("keras-like-cnn", SLICE, {}, 2_618_052),
        ("gpt-cnn", SLICE, {}, 4_276_004),
        ("neuroflux-cnn", FIVE, {}, 13_235_013),
        ("neuroflux-cnn", FIVE, neuroflux(16), 6_521_509),
        ("neuroflux-cnn", FIVE, neuroflux(64), 27_242_629),
        ("convnext-stack", STACK, {}, 671_730),
        ("convnext-48-bn", PAIR, {}, 4_221_458),
        ("convnext-48-ln", PAIR, {}, 4_221_458),
        ("convnext-64-bn", PAIR, {}, 10_835_522),
        ("convnext-96-bn", PAIR, {}, 27_821_666),
        # the paper's table 9 and torchvision: 28.6 million
        ("convnext", IMAGENET, {}, 28_589_128),
    ],
)
def test_networks_from_scratch(
    name: str, shape: tuple[int, tuple[int, ...], int], options: dict[str, Any], expected: int
) -> None:
    assert count(on_meta(shape, name=name, options=options)) == expected


@pytest.mark.parametrize(
    ("name", "shape", "head", "freezing", "expected", "trainable"),
    [
        ("timm:resnet50", FIVE, "mlp-norm", {"stages": 3}, 24_560_709, 23_115_781),
        ("timm:resnet50", COLOUR, "dropout-linear", {"stages": 4}, 23_516_228, 14_972_932),
        ("timm:resnet50", SLICE, "dropout-linear", {"stages": 4}, 23_509_956, 14_972_932),
        ("timm:resnet50", COLOUR, "mlp", {}, 24_559_172, 24_559_172),
        ("timm:efficientnet_b3", COLOUR, "dropout-mlp", {}, 11_485_228, 11_485_228),
        # the project counts its last 30 or 50 tensors with the two of the original classifier
        ("timm:efficientnet_b2", IMAGENET, "linear", {"all_but_last": 28}, 9_109_994, 4_383_668),
        ("timm:efficientnet_b2", COLOUR, "dense-blocks", {"all_but_last": 28}, 9_804_550, 5_078_224),
        ("timm:efficientnet_b2", COLOUR, "attention-blocks", {"all_but_last": 48}, 10_053_854, 6_600_176),
    ],
)
def test_transfer_learning(
    name: str,
    shape: tuple[int, tuple[int, ...], int],
    head: str,
    freezing: dict[str, int],
    expected: int,
    trainable: int,
) -> None:
    classifier = on_meta(shape, name=name, head={"name": head}, freezing=freezing)
    assert count(classifier) == expected
    assert count(classifier, trainable=True) == trainable


def test_the_guide_shows_the_table_as_it_is() -> None:
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
    assert page == with_tables(page), "run: python -m gyrus.models.parameter_counts"
    assert count_parameters(torch.nn.Linear(3, 2).requires_grad_(False)) == (8, 0)
