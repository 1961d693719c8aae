"""``gyrus config``: configs of other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gyrus.cli.terminal import console

app = typer.Typer(help="Configs of other tools.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """Configs of other tools."""


@app.command("import")
def import_(
    files: Annotated[list[Path], typer.Argument(help="JSON configs of system C: data set, model, or both.")],
    out: Annotated[Path, typer.Option("--out", help="The recipe to write, YAML.")] = Path("recipe.yaml"),
) -> None:
    """Translate JSON configs of system C, and name every key that has no place here."""
    from gyrus.workflows.import_config import import_config

    console.print(import_config(*files, out=out).text(), markup=False)
    console.print(f"Recipe: {out}", markup=False)
