"""The table of heads and the head section of a config."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from gyrus.models.head_table import HeadConfig


def test_config_names_all_mistakes_and_is_filled_up() -> None:
    with pytest.raises(ValidationError) as caught:
        HeadConfig(name="mlp", options={"droput": 0.1, "hidden": [0]})
    assert "did you mean 'dropout'?" in str(caught.value)
    assert "greater than or equal to 1" in str(caught.value)
    with pytest.raises(ValidationError, match="Did you mean 'linear'"):
        HeadConfig(name="liner")
    config = HeadConfig(name="mlp", options={"dropout": 0.2})
    assert config.options["hidden"] == [512]
    assert HeadConfig.model_validate_json(config.model_dump_json()) == config
