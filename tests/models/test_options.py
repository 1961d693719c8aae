"""Options: presets are completed, and every mistake is named."""

from __future__ import annotations

import pytest

from gyrus.errors import ConfigError
from gyrus.models.options import ConvNeXtOptions, complete, each


def test_given_options_replace_those_of_the_preset() -> None:
    preset = ConvNeXtOptions(drop_path=0.1)
    assert complete(preset, {"norm": "batch"}, "model 'x'") == ConvNeXtOptions(drop_path=0.1, norm="batch")


def test_all_mistakes_are_in_one_message() -> None:
    with pytest.raises(ConfigError) as caught:
        complete(ConvNeXtOptions(), {"depth": 1, "drop_path": 2}, "model 'x'")
    message = str(caught.value)
    assert message.startswith("Options of model 'x': ")
    assert "there is no option 'depth', did you mean 'depths'?" in message
    assert "`drop_path` 2: Input should be less than 1" in message


def test_one_value_is_repeated_and_a_tuple_must_have_the_length() -> None:
    assert each(3, 2, "kernel") == (3, 3)
    assert each((1, 4), 2, "kernel") == (1, 4)
    with pytest.raises(ConfigError, match=r"`kernel` must be one value or 3 values, got 2: \[1, 4\]"):
        each((1, 4), 3, "kernel")
