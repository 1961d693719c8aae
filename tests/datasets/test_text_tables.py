from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import gyrus
from gyrus.datasets.text_tables import open_table, read_text_table, write_csv

TEXT = "path;site;age\na.png;Orléans;70,5\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
@pytest.mark.parametrize("head", ["", "sep=;\n"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_table_is_the_same_in_every_encoding(tmp_path: Path, encoding: str, head: str, end: str) -> None:
    file = tmp_path / "t.csv"
    file.write_bytes((head + TEXT).replace("\n", end).encode(encoding))

    table, notes = read_text_table(file)

    assert table.to_dict("records") == [{"path": "a.png", "site": "Orléans", "age": "70,5"}]
    assert open_table(file).decimal == ","
    assert notes == (
        ("t.csv is not UTF-8 and was read as cp1252 (Western European); check names with accents",)
        if encoding == "cp1252"
        else ()
    )


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("a,b;c\n1,2;3\n", ["a", "b;c"]),
        ("a\tb,c\td\n1\t2\t3\n", ["a", "b,c", "d"]),
        ('"a;b","c"\n1,2\n', ["a;b", "c"]),
        ("a|b\n1|2\n", ["a", "b"]),
        ("path\nx.png\n", ["path"]),
    ],
)
def test_the_separator_is_the_one_with_the_most_columns(tmp_path: Path, text: str, columns: list[str]) -> None:
    (tmp_path / "t.tsv").write_text(text)
    assert list(read_text_table(tmp_path / "t.tsv")[0].columns) == columns


def test_empty_lines_and_columns_of_spreadsheets_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(" path ,label,,\na.png,AD,,\n,,,\n\nb.png,NC,,\n")
    assert read_text_table(tmp_path / "t.csv")[0].to_numpy().tolist() == [["a.png", "AD"], ["b.png", "NC"]]


def test_json_lines_keep_plain_values_as_text(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text(
        '{"file_name": "a.png", "label": 1, "box": [1, 2]}\n\n{"label": null, "x": true}\n'
    )
    table, _ = read_text_table(tmp_path / "t.jsonl")
    assert table.to_dict("list") == {"file_name": ["a.png", ""], "label": ["1", ""], "x": ["", "True"]}


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("t.csv", b"sep=;\na;b\n1;2;3\n", "line 3 has 3 cells, and the header has 2"),
        ("t.csv", b"a,a\n1,2\n", "two columns have the same name"),
        ("t.csv", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "zero bytes"),
        ("t.csv", b"a,b\n\x81\x8d,1\n", "no text in UTF-8, UTF-16 or cp1252"),
        ("t.jsonl", b'{"a": 1}\n{"a": \n', "line 2 is not JSON"),
        ("t.jsonl", b"[1]\n", "line 1 is not an object"),
    ],
)
def test_what_is_no_table_is_refused_with_the_reason(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=words):
        read_text_table(tmp_path / name)


HOSTILE = (
    *("=cmd()", "+1+x", "@x", "-a", "\t=x", "\r=x", "'=cmd()", "''@x", "'a'"),
    *("a,b", 'a"b', "a\nb", "a\rb", "-1.5", "+1"),
)
"""Names that a spreadsheet runs, that break a line of CSV, or that look like ones that were made safe."""


@pytest.mark.parametrize("separator", [",", "\t"])
def test_spreadsheets_run_no_cell_and_the_names_come_back(tmp_path: Path, separator: str) -> None:
    table = pd.DataFrame({"name": HOSTILE, "number": np.arange(len(HOSTILE)) - 1.5, "=cmd()": "x"})
    file = tmp_path / "table.csv"
    write_csv(table, file, separator=separator)

    cells = list(csv.reader(io.StringIO(file.read_bytes().decode(), newline=""), delimiter=separator))
    for cell in (cell for row in cells for cell in row):
        assert not cell.startswith(("=", "@", "+", "-", "\t", "\r")) or float(cell) is not None
    again, _ = read_text_table(file)
    assert list(again.columns) == ["name", "number", "=cmd()"]
    assert again["name"].to_list() == list(HOSTILE)
    assert again["number"].astype(float).to_list() == table["number"].to_list()


def test_all_tables_are_written_in_one_place() -> None:
    phantoms = {f"synthetic/phantom_{name}.py" for name in ("layouts", "nifti", "visits")}  # whose names are their own
    own = {"datasets/text_tables.py", *phantoms}
    root = Path(gyrus.__file__).parent
    found = {str(path.relative_to(root)) for path in root.rglob("*.py") if ".to_csv(" in path.read_text("utf-8")}
    assert found == own
