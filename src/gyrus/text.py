"""Numbers in words, and names as terminals, text files and Markdown can show them."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

_INVISIBLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
"""Control characters, among them the start of the escape sequences of terminals, and marks that turn the direction."""

_FORMULA = re.compile("'*[=+@\t\r-]")
"""What spreadsheets take as the start of a formula, also after the apostrophes that prevent it."""

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


def html_table(title: str, rows: Iterable[Sequence[object]], notes: Iterable[str] = ()) -> str:
    """A small table for a notebook; all text is escaped.

    Args:
        title: What the table shows.
        rows: The cells of each row; the first is its name.
        notes: Sentences below the table; empty ones are left out.
    """
    lines = []
    for name, *cells in rows:
        data = "".join(f"<td>{_html(cell)}</td>" for cell in cells)
        lines.append(f'<tr><th scope="row" style="text-align: left">{_html(name)}</th>{data}</tr>')
    below = "".join(f"<p>{_html(note)}</p>" for note in notes if note)
    caption = f'<caption style="text-align: left; padding: 0.4em 0.8em">{_html(title)}</caption>'
    return f"<div><table>{caption}<tbody>{''.join(lines)}</tbody></table>{below}</div>"


def _html(text: object) -> str:
    return html.escape(visible(str(text)))


def visible(text: str, *, keep: str = "") -> str:
    r"""A text in which control characters are shown as escapes, such as ``\x1b``.

    Args:
        text: A name, or a line or page of text.
        keep: Characters that stay: line breaks, in a page.
    """
    return _INVISIBLE.sub(lambda found: found[0] if found[0] in keep else _escaped(found[0]), text)


def one_per_line(lines: Iterable[str]) -> str:
    """Lines as a text, in which no name begins a line of its own."""
    return "\n".join(visible(line) for line in lines)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as lines with columns of equal width, however wide the terminal is."""
    rows = [[visible(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def first_line(error: BaseException) -> str:
    """The first line of the message of an error, or the kind of an error without a message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def kind_and_first_line(error: BaseException) -> str:
    """The kind of an error of a library, and the first line of its message, cut to 200 characters."""
    kind = type(error).__name__
    return f"{kind}: {first_line(error)[:200]}" if str(error).strip() else kind


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

    Numbers stay as they are. :func:`from_spreadsheets` returns the text as it was; so a text that begins with
    apostrophes and such a sign gets one more.

    Example:
        >>> [for_spreadsheets(text) for text in ("=1+1", "-1", "'=1+1", "NC")]
        ["'=1+1", '-1', "''=1+1", 'NC']
    """
    return f"'{text}" if _FORMULA.match(text) and not _is_number(text) else text


def from_spreadsheets(text: str) -> str:
    """The text that :func:`for_spreadsheets` was given.

    Example:
        >>> [from_spreadsheets(text) for text in ("'=1+1", "-1", "''=1+1", "NC")]
        ['=1+1', '-1', "'=1+1", 'NC']
    """
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
