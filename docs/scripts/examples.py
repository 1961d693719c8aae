"""Run the tutorials and the gallery, and write them as pages with their real output.

    python docs/scripts/examples.py docs

Tutorials are `examples/*.py`, notebooks as text in the percent format of jupytext: cells begin with `# %%` or
`# %% [markdown]`, and `# !gyrus ...` is a command. Gallery entries are `docs/gallery/*.py`; each writes one PNG file
with its own name. Each tutorial runs in an empty folder, all of the gallery in another one. A cell that fails ends the
build.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

ROOT = Path(__file__).parents[2]
MADE = "<!-- Written by docs/scripts/examples.py. -->\n"
VIEWER = """## A volume in the viewer

![The axial, coronal and sagittal plane of a synthetic head, with a slider for each](../images/viewer.png)

The page of [gyrus serve](../serving.md) shows a volume in three planes. `docs/scripts/viewer.py` made the picture
with a browser; it is not run with this page.
"""
PICTURE = re.compile(r"!\[([^\]]*)\]\(([^)]+)\)")


def cells_of(text: str) -> list[tuple[bool, str]]:
    """The cells of a notebook as text: whether it is prose, and its content without comment signs."""
    found = []
    for part in re.split(r"^# %%", text, flags=re.MULTILINE)[1:]:
        head, _, body = part.partition("\n")
        prose = "[markdown]" in head
        pattern = r"^# ?" if prose else r"^# (?=!)"
        found.append((prose, re.sub(pattern, "", body, flags=re.MULTILINE).strip()))
    return found


def run_command(line: str) -> str:
    """Run a command of the shell; its output."""
    commands = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])  # gyrus beside python
    environment = {**os.environ, "PATH": commands, "COLUMNS": "110"}
    done = subprocess.run(line, shell=True, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(f"{line} failed:\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def run_cell(code: str, names: dict[str, object]) -> tuple[str, str]:
    """Run a cell of code; what it prints, and what its last expression shows, as HTML."""
    if code.startswith("!"):
        return "".join(run_command(line[1:]) for line in code.replace("\\\n", "").splitlines()), ""
    *body, last = ast.parse(code).body
    printed, value = io.StringIO(), None
    with contextlib.redirect_stdout(printed):
        if isinstance(last, ast.Expr):
            exec(compile(ast.Module(body, []), "cell", "exec"), names)
            value = eval(compile(ast.Expression(last.value), "cell", "eval"), names)
        else:
            exec(compile(code, "cell", "exec"), names)
    if hasattr(value, "_repr_html_"):
        return printed.getvalue(), value._repr_html_()
    return printed.getvalue() + ("" if value is None else f"{value}\n"), ""


def tutorial(source: Path, out: Path) -> None:
    """Run one notebook, and write its page, its pictures and its .ipynb file."""
    names: dict[str, object] = {}
    parts, notebook = [MADE, f"[Download as a notebook]({source.stem}.ipynb)\n"], []
    for prose, text in cells_of(source.read_text(encoding="utf-8")):
        notebook.append((prose, text))
        if prose:
            for alt, path in PICTURE.findall(text):
                copy = f"{source.stem}-{path.replace('/', '-')}"
                shutil.copyfile(path, out / copy)
                text = text.replace(f"![{alt}]({path})", f"![{alt}]({copy})")
            parts.append(f"{text}\n")
            continue
        printed, shown = run_cell(text, names)
        language = "bash" if text.startswith("!") else "python"
        parts.append(f"```{language}\n{re.sub('^!', '', text, flags=re.MULTILINE)}\n```\n")
        parts += [f"````text\n{printed.rstrip()}\n````\n"] if printed.strip() else []
        parts += [f'<div style="overflow-x: auto">{shown}</div>\n'] if shown else []
    title, _, parts[2] = parts[2].partition("\n")
    (out / f"{source.stem}.md").write_text("\n".join([title, "", *parts]), encoding="utf-8")
    (out / f"{source.stem}.ipynb").write_text(as_notebook(notebook), encoding="utf-8")


INSTALL = """\
# Installs Gyrus where it is missing, for example in Google Colab
import importlib.util

if importlib.util.find_spec("gyrus") is None:
    %pip install --quiet "gyrus-mri[export,tuning]\""""
"""The first cell of code of every notebook."""


def as_notebook(cells: list[tuple[bool, str]]) -> str:
    """Cells as a notebook without outputs, with the installation after the title."""
    cells = [*cells[:1], (False, INSTALL), *cells[1:]]
    made: list[dict[str, object]] = [
        {"cell_type": "markdown", "metadata": {}, "source": text}
        if prose
        else {"cell_type": "code", "metadata": {}, "source": text, "outputs": [], "execution_count": None}
        for prose, text in cells
    ]
    return json.dumps({"cells": made, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}, indent=1)


def gallery(sources: list[Path], out: Path) -> None:
    """Run all scripts of the gallery, and write the page with their pictures and code."""
    parts = [MADE, "# Gallery\n", "Each picture was made by the script below it, on [phantom data](../phantom.md).\n"]
    for source in sources:
        runpy.run_path(str(source), run_name="__main__")
        text = source.read_text(encoding="utf-8")
        title, _, caption = str(ast.get_docstring(ast.parse(text))).partition("\n\n")
        picture = f"{source.stem}.png"
        shutil.copyfile(picture, out / picture)
        code = text.split('"""', 2)[2].strip()
        alt = title.rstrip(".")
        parts += [f"## {alt}\n", f"![{alt}]({picture})\n", f"{caption}\n", f"```python\n{code}\n```\n"]
    parts += [VIEWER]
    (out / "index.md").write_text("\n".join(parts), encoding="utf-8")


def main(docs: Path, only: list[str]) -> int:
    """Make all pages, or those named."""
    docs, before, failed = docs.resolve(), Path.cwd(), 0
    jobs = {source.stem: (tutorial, source, docs / "tutorials") for source in sorted((ROOT / "examples").glob("*.py"))}
    jobs["gallery"] = (gallery, sorted((ROOT / "docs" / "gallery").glob("*.py")), docs / "gallery")  # type: ignore
    for name in only or jobs:
        work, source, out = jobs[name]
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="gyrus-docs-") as folder:
            os.chdir(folder)
            try:
                work(source, out)
            except Exception:
                traceback.print_exc()
                print(f"{name} failed", file=sys.stderr)
                failed += 1
            finally:
                os.chdir(before)
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
