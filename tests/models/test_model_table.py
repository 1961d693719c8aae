"""The table of models."""

from __future__ import annotations

import re

import pytest

from gyrus.errors import UnknownNameError
from gyrus.models.model_table import MODELS, find_model


def test_any_name_is_accepted_after_the_prefix_of_timm() -> None:
    assert find_model("timm:vit_tiny_patch16_224").dims == (2,)
    with pytest.raises(UnknownNameError, match="Did you mean 'convnext'"):
        find_model("convnex")


def test_every_name_can_be_typed_and_every_entry_is_described() -> None:
    for name, spec in MODELS.items():
        assert re.fullmatch(r"[a-z0-9:_-]+", name)
        assert spec.summary
        assert spec.source
