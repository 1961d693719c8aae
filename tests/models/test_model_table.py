"""The tables of models and heads, and the head section of a config."""

from __future__ import annotations

import re

import pytest
from pydantic import ValidationError

from gyrus.errors import UnknownNameError
from gyrus.models.model_table import MODELS, HeadConfig, find_model


def test_any_name_is_accepted_after_the_prefix_of_timm() -> None:
    assert find_model("timm:vit_tiny_patch16_224").dims == (2,)
    with pytest.raises(UnknownNameError, match="Did you mean 'convnext'"):
        find_model("convnex")


def test_every_name_can_be_typed_and_every_entry_is_described() -> None:
    for name, spec in MODELS.items():
        assert re.fullmatch(r"[a-z0-9:_-]+", name)
        assert spec.summary
        assert spec.source


def test_head_config_reports_all_mistakes_and_is_completed() -> None:
    with pytest.raises(ValidationError) as caught:
        HeadConfig(name="mlp", options={"droput": 0.1, "hidden": [0]})
    assert "did you mean 'dropout'?" in str(caught.value)
    assert "greater than or equal to 1" in str(caught.value)
    with pytest.raises(ValidationError, match="Did you mean 'linear'"):
        HeadConfig(name="liner")
    config = HeadConfig(name="mlp", options={"dropout": 0.2})
    assert config.options["hidden"] == [512]
    assert HeadConfig.model_validate_json(config.model_dump_json()) == config
