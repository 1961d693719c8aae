"""Tables in text files, as spreadsheets and other tools write them: encoding, separator, header, JSON lines."""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd

TEXT_EXTENSIONS = (".csv", ".tsv", ".jsonl")
"""Extensions of tables in text files, in any case."""

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte order marks, with the encoding that reads them; the four bytes of UTF-32 begin with the two of UTF-16."""

_SEPARATORS = (",", ";", "\t", "|")
_GUESSED = "cp1252"


@dataclass(frozen=True)
class TableText:
    """The text of a table.

    Attributes:
        text: From the header on, with line ends as in the file.
        separator: What stands between two cells.
        encoding: How the bytes were read.
        first_line: The number of its first line in the file.
    """

    text: str
    separator: str
    encoding: str
    first_line: int = 1

    @property
    def decimal(self) -> str:
        """The decimal sign: a comma only in files with semicolons that have no number with a point."""
        return "," if self.separator == ";" and not re.search(r"\d\.\d", self.text) else "."

    def notes(self, name: str) -> tuple[str, ...]:
        """A note where the encoding was guessed."""
        if self.encoding != _GUESSED:
            return ()
        return (f"{name} is not UTF-8 and was read as {_GUESSED} (Western European); check names with accents",)


def decode_text(content: bytes) -> tuple[str, str]:
    """Bytes as text, with the encoding: UTF-8, UTF-16 and UTF-32 with or without a mark, else cp1252.

    Raises:
        ValueError: The bytes are no text.
    """
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return content.decode(encoding), encoding
    # In UTF-16 every second byte of Latin letters and separators is zero.
    for start, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        half = content[start:400:2]
        if len(content) % 2 == 0 and half and half.count(0) > 0.8 * len(half):
            return content.decode(encoding), encoding
    if b"\0" in content:
        raise ValueError("it holds zero bytes, so it is no text")
    try:
        return content.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        pass
    try:
        return content.decode(_GUESSED), _GUESSED
    except UnicodeDecodeError as error:
        raise ValueError("it is no text in UTF-8, UTF-16 or cp1252; save it as CSV in UTF-8") from error


def open_table(file: Path) -> TableText:
    """The text of a table with its separator: that of a first line ``sep=;``, else the one that gives the most columns.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is no text, or has no table.
    """
    text, encoding = decode_text(file.read_bytes())
    first, _, rest = text.partition("\n")
    word = first.strip().strip('"').lower()
    if word.startswith("sep=") and len(word) <= 5:
        return TableText(rest, word[4:] or "\t", encoding, first_line=2)
    header = next(iter(text.lstrip().splitlines()), "")
    columns = {separator: len(next(csv.reader([header], delimiter=separator), [])) for separator in _SEPARATORS}
    separator = max(_SEPARATORS, key=lambda sign: columns[sign])
    if columns[separator] <= 1 and "\n" not in text.rstrip() and not header.isascii():
        raise ValueError("it has one line without a separator")
    return TableText(text, separator, encoding)


def read_text_table(file: Path, rows: int | None = None) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Read a CSV, TSV or JSON Lines file; cells stay text.

    Empty lines, and empty columns without a name, which spreadsheets add at the end, are left out.

    Args:
        file: The table.
        rows: The number of rows to read; by default all.

    Returns:
        The table, and notes on how it was read.

    Raises:
        OSError: The file cannot be read.
        ValueError: It has no table; the message has the reason.
        csv.Error: A quoted cell does not end.
    """
    if file.suffix.lower() == ".jsonl":
        return _read_json_lines(file, rows), ()
    source = open_table(file)
    # Not with pandas, which shifts or drops cells of uneven rows, and with them the labels.
    lines = csv.reader(io.StringIO(source.text, newline=""), delimiter=source.separator, strict=True)
    filled = (row for row in lines if any(cell.strip() for cell in row))
    names = [name.strip() for name in next(filled, [])]
    cells = []
    for row in islice(filled, rows):
        if len(row) != len(names):
            line = lines.line_num + source.first_line - 1
            raise ValueError(f"line {line} has {len(row)} cells, and the header has {len(names)}")
        cells.append(row)
    table = pd.DataFrame(cells, columns=range(len(names)), dtype="string")
    kept = [place for place, name in enumerate(names) if name or (len(cells) and (table[place] != "").any())]
    names = [names[place] for place in kept]
    if len(set(names)) < len(names):
        raise ValueError("two columns have the same name")
    return table[kept].set_axis(names, axis=1), source.notes(file.name)


def _read_json_lines(file: Path, rows: int | None) -> pd.DataFrame:
    text, _ = decode_text(file.read_bytes())
    found: list[dict[str, Any]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        if rows is not None and len(found) >= max(rows, 1):
            break
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f"line {number} is not JSON: {error}") from error
        if not isinstance(row, dict):
            raise ValueError(f"line {number} is not an object with names and values")
        found.append(row)
    names = list(dict.fromkeys(name for row in found for name in row))
    plain = [name for name in names if not any(isinstance(row.get(name), dict | list) for row in found)]
    cells = [[_cell(row.get(name)) for name in plain] for row in found[:rows]]
    return pd.DataFrame(cells, columns=plain, dtype="string")


def _cell(value: object) -> str:
    return "" if value is None else str(value)
