"""Numbers in words."""

from __future__ import annotations

import re

import pytest

from gyrus.text import aligned, first_line, kind_and_first_line, markdown, markdown_code, p_value_text, visible


@pytest.mark.parametrize(
    ("p_value", "text"),
    [(0.0, "p < 0.001"), (0.00099, "p < 0.001"), (0.0012, "p = 0.001"), (0.0312, "p = 0.031"), (0.9999, "p > 0.99")],
)
def test_a_p_value_is_never_written_as_0_or_1(p_value: float, text: str) -> None:
    assert p_value_text(p_value) == text


def test_control_characters_are_shown_and_everything_else_stays() -> None:
    assert visible("a\x1b[31mb\nc\u202ed") == r"a\x1b[31mb\nc\u202ed"
    assert visible("one\ntwo\x07", keep="\n") == "one\ntwo\\x07"
    assert visible("阿尔茨海默 🧠 [/b] µ") == "阿尔茨海默 🧠 [/b] µ"


def test_names_are_text_in_markdown() -> None:
    shown = markdown("a|b `c` *d* <img src=x> ![x](http://y) [a](b)\n# title")
    html = re.sub(r"\\(.)", "", shown)  # what remains has no special meaning
    assert not re.search(r"[`*|<>]|!\[|\]\(|\n", html)
    assert markdown("sub-01 = AD, 0.53 [0.41, 0.64] (95 %)") == "sub-01 = AD, 0.53 [0.41, 0.64] (95 %)"
    assert markdown_code("a`b``c") == "``` a`b``c ```"
    assert markdown_code("gyrus train") == "`gyrus train`"


def test_an_error_is_told_by_its_first_line_or_its_kind() -> None:
    assert first_line(ValueError(" one\ntwo")) == "one"
    assert first_line(ValueError()) == "ValueError"
    assert kind_and_first_line(ValueError("one\ntwo")) == "ValueError: one"
    assert kind_and_first_line(ValueError()) == "ValueError"


def test_cells_are_aligned_and_names_stay_in_their_line() -> None:
    assert aligned([["a", "b"], ["long", "c\nd"]]) == ["a     b", "long  c\\nd"]
