"""Numbers in words, and names as terminals, text files and Markdown can show them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

_INVISIBLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
"""Control characters, among them the start of the escape sequences of terminals, and marks that turn the direction."""

_MARKDOWN = re.compile(r"[\\`*|<>]|!(?=\[)|(?<=\])(?=\()")


def p_value_text(p_value: float) -> str:
    """A p-value with its relation, never rounded to 0 or 1: "p = 0.03", "p < 0.001", "p > 0.99".

    Example:
        >>> [p_value_text(value) for value in (0.00004, 0.0012, 0.0312, 0.4567, 0.999)]
        ['p < 0.001', 'p = 0.001', 'p = 0.031', 'p = 0.46', 'p > 0.99']
    """
    if p_value < 0.001:
        return "p < 0.001"
    if p_value > 0.99:
        return "p > 0.99"
    return f"p = {p_value:.2f}" if p_value >= 0.1 else f"p = {p_value:.3f}"


def counted(count: int, one: str, several: str = "") -> str:
    """A number with its noun, and its verb if any: "1 image", "2,000 images", "1 pair is", "3 pairs are".

    Args:
        count: The number.
        one: What follows the number 1.
        several: What follows other numbers; by default ``one`` with an s.
    """
    return f"{count:,} {one}" if count == 1 else f"{count:,} {several or one + 's'}"


def listed(names: Sequence[str], most: int = 10) -> str:
    """Names with commas between them; of many the first, and how many more there are.

    Example:
        >>> listed(["a", "b", "c"], most=2)
        'a, b and 1 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def visible(text: str, *, keep: str = "") -> str:
    r"""A text in which control characters are shown as escapes, such as ``\x1b``.

    Args:
        text: A name, or a line or page of text.
        keep: Characters that stay: line breaks, in a page.
    """
    return _INVISIBLE.sub(lambda found: found[0] if found[0] in keep else _escaped(found[0]), text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def markdown(text: str) -> str:
    """A text on one line that Markdown shows as it stands: no code, emphasis, table, image, link or HTML."""
    return _MARKDOWN.sub(lambda found: "\\" + found[0], visible(text))


def markdown_code(text: str) -> str:
    """A text as code in Markdown, whatever backticks it contains."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    space = " " if longest else ""
    return "`" * (longest + 1) + space + visible(text) + space + "`" * (longest + 1)


def for_spreadsheets(text: str) -> str:
    """A text that spreadsheets do not run as a formula: with an apostrophe before a leading =, +, - or @.

    Numbers stay as they are.
    """
    if not text.startswith(("=", "+", "-", "@", "\t", "\r")):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


def table_for_spreadsheets(table: pd.DataFrame) -> pd.DataFrame:
    """A table for people, whose texts and names of columns no spreadsheet runs as a formula."""

    def safe(value: object) -> object:
        return for_spreadsheets(value) if isinstance(value, str) else value

    return table.map(safe).rename(columns=safe)
