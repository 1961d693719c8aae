"""``gyrus audit``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gyrus.cli.options import DataOptions, WorkerOptions
from gyrus.cli.terminal import Terminal, console


def audit(
    *,
    path: Annotated[
        str | None,
        typer.Argument(help="Data set: folder, table, Parquet file, or hf:owner/name. Not needed with --run."),
    ] = None,
    split: Annotated[Path | None, typer.Option("--split", help="Split file to check for leakage.")] = None,
    run: Annotated[Path | None, typer.Option("--run", help="Audit the data and the split of this run folder.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for the results. Default: audit; with --run, RUN/audit.")
    ] = None,
    check: Annotated[
        list[str] | None,
        typer.Option(
            "--check",
            help="Run only this check: subjects, leakage, duplicates, labels, shortcuts, quality. Repeatable.",
        ),
    ] = None,
    maps: Annotated[
        bool, typer.Option("--maps/--no-maps", help="Draw maps of the images, which takes most of the time.")
    ] = True,
    umap: Annotated[
        bool, typer.Option("--umap", help="Also draw a UMAP map (requires the optional dependencies umap).")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", help="Seed of everything random.")] = 0,
    reading: DataOptions,
    workers: WorkerOptions,
) -> None:
    """Find leakage, duplicates, shortcuts and bad images."""
    import gyrus

    with workers.running():
        result = gyrus.audit(
            path,
            split=split,
            run=run,
            out=out,
            checks=check,
            maps=maps,
            umap=umap,
            seed=seed,
            data=reading.config(),
            display=Terminal(),
        )
    console.print(result.findings.verdict)
    console.print(result.findings.text())
    console.print(f"Page: {result.page}")
