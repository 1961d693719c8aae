"""Groups of options, and former names of options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from gyrus.cli import command as module
from gyrus.cli.command import command, group


@dataclass(frozen=True)
class Size:
    """Two options."""

    rows: Annotated[int, typer.Option("--rows", help="Rows.")] = 4
    names: Annotated[list[str] | None, typer.Option("--name", help="Names. Repeatable.")] = None


def run(*words: str):
    app = group("A group.")

    @command(app, "draw")
    def draw(
        *,
        path: Annotated[str, typer.Argument(help="Where.")],
        size: Size,
        tall: Annotated[bool, typer.Option("--tall", help="Tall.")] = False,
    ) -> None:
        """Draw."""
        typer.echo(f"{path} {size} {tall}")

    command(app, "other")(lambda: None)
    return CliRunner().invoke(app, list(words))


def test_a_dataclass_is_spelt_out_as_options():
    assert run("draw", "x").stdout == "x Size(rows=4, names=None) False\n"
    shown = run("draw", "--name", "a", "x", "--name", "b", "--rows", "2", "--tall").stdout
    assert shown == "x Size(rows=2, names=['a', 'b']) True\n"
    text = run("draw", "--help").stdout
    assert text.index("--rows") < text.index("--name") < text.index("--tall")


def test_a_wrong_value_is_refused():
    result = run("draw", "x", "--rows", "many")
    assert result.exit_code == 2
    assert "--rows" in result.output


@pytest.mark.parametrize("words", [["--lines", "2"], ["--lines=2"]])
def test_a_former_name_of_an_option_is_accepted_and_the_new_one_reported(words, monkeypatch):
    monkeypatch.setitem(module.RENAMED, "--lines", "--rows")
    result = run("draw", "x", *words)
    assert result.stdout == "x Size(rows=2, names=None) False\n"
    assert result.stderr == "Note: --lines is now called --rows.\n"
    assert "--lines" not in run("draw", "--help").output
    assert run("other", *words).exit_code == 2, "other commands never had this option"


def test_a_former_name_after_a_double_dash_is_an_argument(monkeypatch):
    monkeypatch.setitem(module.RENAMED, "--lines", "--rows")
    assert run("draw", "--", "--lines").stdout.startswith("--lines Size")
