"""``gyrus recipes`` as a user meets it."""

from __future__ import annotations

import gyrus
from tests.support.command_line import refused, succeeded


def test_recipes_are_listed_and_shown():
    listed = succeeded("recipes")
    assert all(name in listed for name in gyrus.recipes())
    shown = succeeded("recipes", "show", "dementia-exp8")
    assert "Flaws of the published score" in shown
    assert "attention-blocks" in shown
    assert "'dementia-exp8'" in refused("recipes", "show", "dementia-exp88")
