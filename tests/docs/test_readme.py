"""The examples of README run as they are written."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pandas as pd
import pytest

from tests.support.command_line import gyrus

ROOT = Path(__file__).parents[2]


def test_the_examples_of_the_readme_run(phantom_folder, tmp_path, monkeypatch):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    shutil.copytree(phantom_folder, tmp_path / "slices")
    shutil.copytree(phantom_folder / "Control", tmp_path / "new_slices")
    monkeypatch.chdir(tmp_path)

    python = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert python
    exec(compile(python.group(1), "README.md", "exec"), {})  # the example is ours

    commands = [shlex.split(line, comments=True)[1:] for line in text.splitlines() if line.startswith("gyrus ")]
    assert [command[0] for command in commands] == ["data", "audit", "auto", "train", "predict", "explain"]
    for command in commands:
        if command[0] in ("data", "predict"):  # the example in Python has trained this run
            result = gyrus(*command)
            assert result.returncode == 0, result.stderr
    assert len(pd.read_csv("predictions.csv")) == 48


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda page: page.name
)
def test_links_and_pictures_of_a_page_are_there(page):
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
        made = target.startswith(("reference/", "tutorials/", "gallery/"))  # by `make docs`; see test_reference.py
        assert made or target.startswith("http") or (page.parent / target).exists(), target
