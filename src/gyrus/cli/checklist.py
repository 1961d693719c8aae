"""``gyrus checklist``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gyrus.cli.terminal import console


def checklist(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    standard: Annotated[
        str, typer.Option("--standard", help="tripod-ai (TRIPOD+AI 2024) or claim (CLAIM 2024).")
    ] = "tripod-ai",
    out: Annotated[
        Path | None, typer.Option("--out", help="File to write, .md or .docx. Default: checklist-STANDARD.md.")
    ] = None,
) -> None:
    """Fill a reporting checklist with what a run shows.

    Items that only people can answer are marked, and the risks of bias that the run shows are listed.
    """
    import gyrus

    path = out or Path(f"checklist-{standard}.md")
    filled = gyrus.checklist(run, standard, out=path)
    console.print(f"{filled.title}: {filled.summary()}.")
    for risk in filled.risks:
        console.print(f"Risk: {risk}")
    console.print(f"Checklist: {path}")
