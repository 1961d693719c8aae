"""``gyrus config``: configs of other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gyrus.cli.command import command, group
from gyrus.cli.terminal import console

app = group("Import configs of other tools.")


@app.callback()
def _group() -> None:
    """Import configs of other tools."""


@command(app, "import")
def import_(
    files: Annotated[list[Path], typer.Argument(help="JSON configs of Neuroflux: data set, model, or both.")],
    out: Annotated[Path, typer.Option("--out", help="Recipe to write, YAML.")] = Path("recipe.yaml"),
) -> None:
    """Translate JSON configs of Neuroflux into a recipe.

    Keys without an equivalent are listed, with the reason.
    """
    import gyrus

    console.print(gyrus.import_config(*files, out=out).text())
    console.print(f"Recipe: {out}")
