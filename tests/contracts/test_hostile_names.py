"""Names of classes, subjects and files are text in everything that Gyrus writes for people, whatever they contain."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gyrus.datasets.scan import scan
from gyrus.datasets.text_tables import read_text_table
from gyrus.inference.predictions import Predictions
from tests.support.command_line import gyrus
from tests.support.figures import undrawn

CLASSES = ("[/b]\x1b[31m](x)|`c`", "=cmd()<script>alert(1)</script>", "+1", "@x\nb", "-1")
NAMES = ("[/b]", "a\x1b[31m", "two\nlines", "=cmd()", "+1", "@x", "-1", "<script>alert(1)", "![x](y)|`c`", "\ra")
SETTINGS = {
    "preprocessing.steps": "[{step: grayscale}, {step: resize, size: [16, 16]}]",
    "augmentation.steps": "[]",
    "training.epochs": 1,
    "training.device": "cpu",
    "evaluation.resamples": 20,
}


def _write(data: Path) -> tuple[Path, Path]:
    """20 subjects with an image each, and a table of them with and without a damaged file."""
    random = np.random.default_rng(0)
    rows = []
    for number in range(20):
        label, name = CLASSES[number % len(CLASSES)], NAMES[number % len(NAMES)]
        file = data / f"{name}{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(40 * (number % len(CLASSES)), 255, (16, 16)).astype(np.uint8)).save(file)
        rows.append([str(file), label, f"{name}{number}"])
    bad = data / "=[\x1b[31mbad.png"
    bad.write_bytes(b"x")
    tables = []
    for name, more in (("good", []), ("all", [[str(bad), CLASSES[0], "=bad"]])):
        tables.append(data / f"{name}.csv")
        with tables[-1].open("w", newline="") as file:
            csv.writer(file).writerows([["path", "label", "subject"], *rows, *more])
    return tables[0], tables[1]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The results of most commands on such data, and all that they printed; figures are left empty (test_figures)."""
    root = tmp_path_factory.mktemp("hostile")
    good, table = _write(root / "data")
    run, out = root / "<b>=run](x)", root / "out"
    options = [f"--set={name}={value}" for name, value in SETTINGS.items()]
    skip = ["--on-bad-file", "skip"]
    fast = ["--set=evaluation.baselines=false", "--set=evaluation.unlike_training=false"]
    tune = ["--trials", 1, "--range", "training.optimiser.lr=0.001:0.01", "--final-seeds", "0"]
    printed = []
    with undrawn():
        for command in (
            ["data", "scan", table],
            ["data", "split", good, "--out", out / "split.json"],
            ["audit", table, "--out", out / "audit"],
            ["data", "prepare", table, "--out", out / "prepared"],
            ["data", "convert", good, "--to", "folder", "--out", out / "converted"],
            ["train", "--data", table, "--out", run, *skip, *options],
            ["train", "--data", good, "--out", root / "dry", "--dry-run", *options],
            ["predict", run, table, "--out", out / "predictions.csv", *skip],
            ["explain", run, "--out", out / "explanation", "--images", 2, "--shown", 2],
            ["compare", run, run / "predictions/test.parquet", "--out", out / "comparison", "--resamples", 20],
            ["crossval", "--data", good, "--out", root / "=cv](x)", "--folds", 2, *options, *fast],
            ["tune", "--data", good, "--out", root / "=st[/b]udy", *tune, *options, *fast],
            ["runs", "list", root],
            ["runs", "show", run],
            ["runs", "diff", run, run],
        ):
            result = gyrus(*command)
            assert result.returncode == 0, (command, result.stderr)
            printed.append(result.stdout + result.stderr)
    Predictions.load(run / "predictions/test.parquet").export(out / "exported.csv")
    return root, "".join(printed)


def _written(root: Path, *suffixes: str) -> dict[str, str]:
    files = [path for path in sorted(root.rglob("*")) if path.suffix in suffixes and path.parent != root / "data"]
    return {str(path.relative_to(root)): path.read_bytes().decode() for path in files if path.is_file()}


def test_nothing_for_people_has_control_characters(outputs: tuple[Path, str]) -> None:
    root, printed = outputs
    texts = _written(root, ".txt", ".html", ".md", ".tex", ".svg")
    assert {Path(name).suffix for name in texts} == {".txt", ".html", ".md", ".tex", ".svg"}
    for name, text in {**texts, "terminal": printed}.items():
        assert not re.findall("[\x00-\x08\x0b-\x1f\x7f-\x9f]", text), name
        if not name.endswith((".html", ".svg")):
            assert not re.search(r"^(b$|b'|lines\d)", text, re.MULTILINE), f"a name begins a line of {name}"
    for shown in (r"[/b]\x1b[31m](x)|`c`", r"@x\nb", "=cmd()<script>alert(1)</script>", r"=[\x1b[31mbad.png"):
        assert shown in printed, "names are shown as text"


def test_pages_and_markdown_show_names_as_text(outputs: tuple[Path, str]) -> None:
    root, _ = outputs
    for name, page in _written(root, ".html", ".svg").items():
        assert "<script>alert" not in page, name
        assert "<b>=run" not in page, name
    cards = _written(root, ".md")
    assert len(cards) == 5, "of the run, the folds and the tuned run, and the leaderboard"
    for name, text in cards.items():
        special = re.sub(r"\\.|(`+ ?).*?\1", "", text)  # what is escaped or code has no meaning
        assert not re.search(r"<script|<b>|\]\(x\)|!\[", special), name
        rows = [line for line in special.splitlines() if line.startswith("|")]
        tables = re.findall(r"(?:^\|.*\n)+", special + "\n", re.MULTILINE)
        assert rows
        assert all(len({row.count("|") for row in table.splitlines()}) == 1 for table in tables), name


def test_tables_are_safe_in_spreadsheets_and_the_names_come_back(outputs: tuple[Path, str]) -> None:
    root, _ = outputs
    tables = _written(root, ".csv", ".tsv")
    assert len(tables) >= 11
    for name, text in tables.items():
        for cell in (cell for row in csv.reader(io.StringIO(text, newline="")) for cell in row):
            if cell.startswith(("=", "+", "-", "@", "\t", "\r")):
                assert re.fullmatch(r"[+-][\d.]+(e-?\d+)?", cell), f"{cell!r} of {name} is a formula"

    people = sorted(f"{NAMES[number % len(NAMES)]}{number}".strip() for number in range(20))
    for copy in (scan(root / "out/prepared/manifest.csv"), scan(root / "out/converted/labels.csv")):
        assert sorted(copy.table["subject"]) == people
        assert set(copy.classes) == set(CLASSES)
    again = Predictions.from_file(root / "out/exported.csv", split_unit="subject")
    saved = Predictions.load(root / "<b>=run](x)/predictions/test.parquet")
    assert again.classes == saved.classes
    assert again.table[["sample", "subject", "target"]].equals(saved.table[["sample", "subject", "target"]])
    log, _ = read_text_table(root / "out/predictions-skipped.csv")
    assert log["sample"][0].endswith("=[\x1b[31mbad.png")
