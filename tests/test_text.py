"""Numbers in words."""

from __future__ import annotations

import pytest

from gyrus.text import p_value_text


@pytest.mark.parametrize(
    ("p_value", "text"),
    [(0.0, "p < 0.001"), (0.00099, "p < 0.001"), (0.0012, "p = 0.001"), (0.0312, "p = 0.031"), (0.9999, "p > 0.99")],
)
def test_a_p_value_is_never_written_as_0_or_1(p_value: float, text: str) -> None:
    assert p_value_text(p_value) == text
