"""Configs of models: every mistake named, whole when saved; names of timm; the guide in step with the table."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from gyrus.errors import ConfigError, DataError, UnknownNameError
from gyrus.models.build import MODELS, ModelConfig, build, find
from gyrus.models.classifier import Signature
from gyrus.models.parameter_counts import count_parameters, with_tables


def make(size: tuple[int, ...] = (64, 64), **config: Any) -> Any:
    return build(ModelConfig(**config), in_channels=1, num_classes=3, image_size=size)


def test_all_mistakes_are_named_at_once() -> None:
    with pytest.raises(ValidationError) as caught:
        ModelConfig(
            name="convnext",
            options={"depth": [3], "drop_path": 1.5, "norm": "group"},
            head={"name": "linaer"},
            freezing={"stages": -1},
            pretraind=True,
        )
    text = str(caught.value)
    for part in (
        "did you mean 'depths'?",
        "`drop_path` 1.5",
        "less than 1",
        "'layer' or 'batch'",
        "Did you mean 'linear'?",
    ):
        assert part in text
    assert "freezing" in text
    assert "pretraind" in text


def test_an_unknown_model_gets_the_nearest_name() -> None:
    with pytest.raises(ValidationError, match="Did you mean 'baseline-cnn'"):
        ModelConfig(name="baselin-cnn")
    with pytest.raises(UnknownNameError, match="Did you mean 'timm:resnet18'"):
        make(name="timm:resnet_18")


@pytest.mark.parametrize("name", MODELS)
def test_a_saved_config_is_whole_and_builds_the_same(name: str) -> None:
    config = ModelConfig(name=name)
    assert set(config.options) == set(type(find(name).options).model_fields)
    assert find(name).options == type(find(name).options).model_validate(config.options)
    assert ModelConfig.model_validate_json(config.model_dump_json()) == config


def test_given_options_take_the_place_of_defaults_only() -> None:
    config = ModelConfig(name="convnext-stack", options={"drop_path": 0.1})
    assert config.options["drop_path"] == 0.1
    assert config.options["dims"] == [16, 32, 64, 128]
    assert config.options["stem_stride"] == [1, 4, 4]


def test_another_head_takes_the_place_of_the_models_own() -> None:
    model = make(name="baseline-cnn", options={"global_pool": True}, head={"name": "attention-blocks"}).eval()
    assert model.embedding(torch.zeros(1, 1, 64, 64)).shape == (1, 256)
    assert make(name="baseline-cnn").embedding(torch.zeros(1, 1, 64, 64)).shape == (1, 128)


@pytest.mark.parametrize("name", ["timm:vit_tiny_patch16_224", "timm:swin_tiny_patch4_window7_224"])
@pytest.mark.slow
def test_transformers_of_timm_give_a_map_too(name: str) -> None:
    model = make((96, 96), name=name).eval()
    images = torch.randn(2, 1, 96, 96)
    features = model.forward_features(images)
    assert features.shape[:2] == (2, model.backbone.num_channels)
    assert features.ndim == 4
    assert features.shape[2] == features.shape[3] > 1
    assert model(images).shape == (2, 3)
    held = [id(value) for part in (*model.stages(), model.head) for value in part.parameters()]
    assert sorted(held) == sorted(id(value) for value in model.parameters())


@pytest.mark.parametrize(
    ("signature", "message"),
    [
        ((1, (32,), 2), "two or three numbers"),
        ((1, (32, 0), 2), "two or three numbers"),
        ((0, (32, 32), 2), "at least 1"),
        ((1, (32, 32), 1), "at least 2"),
    ],
)
def test_impossible_signatures_are_refused(signature: tuple[int, tuple[int, ...], int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Signature(*signature)


def test_integer_images_are_refused() -> None:
    with pytest.raises(DataError, match="floating-point"):
        make(name="baseline-cnn")(torch.zeros(1, 1, 64, 64, dtype=torch.uint8))


def test_every_name_can_be_typed_and_every_entry_says_what_it_is() -> None:
    for name, spec in MODELS.items():
        assert re.fullmatch(r"[a-z0-9:_-]+", name)
        assert spec.summary
        assert spec.source


def test_the_guide_shows_the_table_as_it_is() -> None:
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
    assert page == with_tables(page), "run: python -m gyrus.models.parameter_counts"
    assert count_parameters(torch.nn.Linear(3, 2).requires_grad_(False)) == (8, 0)
