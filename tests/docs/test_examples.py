"""Tutorials and gallery are executed as they stand, and their pages show what came out."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "docs" / "scripts" / "examples.py"
TUTORIALS = sorted((ROOT / "examples").glob("*.py"))
GALLERY = sorted((ROOT / "docs" / "gallery").glob("*.py"))


@pytest.fixture(scope="module")
def script() -> dict:
    return runpy.run_path(str(SCRIPT))


def test_a_page_shows_prose_commands_output_tables_and_pictures(script, tmp_path, monkeypatch):
    source = tmp_path / "small.py"
    source.write_text(
        "# %% [markdown]\n# # Title\n#\n# Text.\n\n# %%\n# !echo '<b>'\n\n# %%\nprint('one')\n1 + 1\n\n"
        "# %%\nopen('a.png', 'w').close()\n\nclass Table:\n    _repr_html_ = lambda self: '<table></table>'\n\n"
        "Table()\n\n# %% [markdown]\n# ![A picture](a.png)\n",
        encoding="utf-8",
    )
    out = tmp_path / "out"
    out.mkdir()
    monkeypatch.chdir(tmp_path)
    script["tutorial"](source, out)
    page = (out / "small.md").read_text(encoding="utf-8")
    assert page.startswith("# Title\n")
    for part in (
        "\nText.\n",
        "````text\n<b>\n````",
        "````text\none\n2\n````",
        "<table></table>",
        "![A picture](small-a.png)",
    ):
        assert part in page
    assert (out / "small-a.png").exists()
    cells = json.loads((out / "small.ipynb").read_text(encoding="utf-8"))["cells"]
    assert [cell["cell_type"] for cell in cells] == ["markdown", "code", "code", "code", "code", "markdown"]
    assert '%pip install --quiet "gyrus-mri[export,tuning]"' in cells[1]["source"]


def test_a_command_that_fails_ends_the_build(script):
    with pytest.raises(RuntimeError, match="exit 3"):
        script["run_cell"]("!exit 3", {})


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_is_in_the_navigation_and_begins_with_a_title(script, path):
    prose, text = script["cells_of"](path.read_text(encoding="utf-8"))[0]
    assert prose
    assert text.startswith("# ")
    assert f"tutorials/{path.stem}.md" in (ROOT / "zensical.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", GALLERY, ids=lambda path: path.stem)
def test_a_script_of_the_gallery_is_short_and_names_its_picture(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 30
    assert f"{path.stem}.png" in text


@pytest.mark.slow
@pytest.mark.parametrize("name", [*(path.stem for path in TUTORIALS), "gallery"])
def test_every_example_runs(name, tmp_path):
    subprocess.run([sys.executable, SCRIPT, tmp_path, name], check=True)
    assert list(tmp_path.rglob("*.md"))
