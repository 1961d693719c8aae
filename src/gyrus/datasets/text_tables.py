"""Tables in text files: those of spreadsheets and other tools are read in any form, and all that Gyrus writes are here.

Names of classes, subjects and files are of strangers. Where one begins with a sign of formulas, it is written with an
apostrophe, so that spreadsheets show it as text; reading removes the apostrophe again.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from gyrus.files import write_text
from gyrus.text import for_spreadsheets, from_spreadsheets

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
    return restored(table[kept].set_axis(names, axis=1)), source.notes(file.name)


def write_csv(
    table: pd.DataFrame, path: Path, *, separator: str = ",", float_format: str | None = None, missing: str = ""
) -> None:
    """Write a table without its index, atomically, so that spreadsheets run no cell and no name of a column.

    Args:
        table: The table.
        path: The file.
        separator: What stands between two cells.
        float_format: Format of floats, such as "%.6g"; by default all digits.
        missing: What stands for missing values.

    Raises:
        GyrusError: The file cannot be written.
    """
    safe = table.map(_safe).rename(columns=_safe)
    # A carriage return ends a line unless it is quoted, which pandas does for line feeds only.
    returns = any("\r" in text for column in safe for text in [column, *safe[column]] if isinstance(text, str))
    quoting: Literal[0, 2] = csv.QUOTE_NONNUMERIC if returns else csv.QUOTE_MINIMAL
    text = safe.to_csv(
        index=False, sep=separator, float_format=float_format, na_rep=missing, lineterminator="\n", quoting=quoting
    )
    write_text(path, text)


def restored(table: pd.DataFrame) -> pd.DataFrame:
    """A table that was read, without the apostrophes that :func:`write_csv` added to texts and names of columns."""
    texts = [name for name in table.columns if pd.api.types.is_string_dtype(table[name])]
    back = {name: table[name].map(from_spreadsheets, na_action="ignore").astype(table[name].dtype) for name in texts}
    return table.assign(**back).rename(columns=lambda name: from_spreadsheets(name) if isinstance(name, str) else name)


def _safe(value: object) -> object:
    return for_spreadsheets(value) if isinstance(value, str) else value


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
