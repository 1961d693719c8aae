"""Model configs: every mistake is named, saved configs are complete, and none of them needs PyTorch."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from gyrus.models.config import ModelConfig
from gyrus.models.model_table import MODELS, find_model

HEAVY = ("torch", "scipy", "sklearn", "skimage", "pandas", "matplotlib", "timm", "monai", "lightning")


def test_configs_are_read_without_heavy_libraries() -> None:
    code = f"import sys, gyrus.models.config, gyrus.training.config; print([m for m in {HEAVY} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_an_unknown_model_gets_the_nearest_name() -> None:
    with pytest.raises(ValidationError, match="Did you mean 'baseline-cnn'"):
        ModelConfig(name="baselin-cnn")


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


@pytest.mark.parametrize("name", MODELS)
def test_a_saved_config_is_complete(name: str) -> None:
    config = ModelConfig(name=name)
    assert set(config.options) == set(type(find_model(name).options).model_fields)
    assert find_model(name).options == type(find_model(name).options).model_validate(config.options)
    assert ModelConfig.model_validate_json(config.model_dump_json()) == config


def test_given_options_replace_only_their_defaults() -> None:
    config = ModelConfig(name="convnext-stack", options={"drop_path": 0.1})
    assert config.options["drop_path"] == 0.1
    assert config.options["dims"] == [16, 32, 64, 128]
    assert config.options["stem_stride"] == [1, 4, 4]
