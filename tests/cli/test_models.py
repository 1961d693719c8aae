"""``gyrus models`` as a user meets it."""

from __future__ import annotations

import gyrus
from tests.support.command_line import succeeded


def test_models_are_listed():
    listed = succeeded("models")
    assert all(name in listed for name in gyrus.models())
