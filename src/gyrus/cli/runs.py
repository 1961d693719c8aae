"""``gyrus runs``: what the run folders hold, with no server."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from gyrus.cli.terminal import console

app = typer.Typer(help="The run folders: list, show, diff, rm.", no_args_is_help=True, rich_markup_mode=None)

Folder = Annotated[Path, typer.Argument(help="A run folder.")]


@app.command("list")
def list_runs(
    folder: Annotated[Path, typer.Argument(help="Folder with runs at any depth.")] = Path(),
) -> None:
    """List all runs below a folder, in the order in which they began, with their scores on the test set."""
    from gyrus.workflows.manage_runs import list_runs as find

    runs = find(folder)
    if not runs:
        console.print(f"No runs below {folder}.", markup=False)
        return
    columns = ["run", "status", "began", "model", "data", "split by", "accuracy", "balanced", "AUC"]
    rows = [
        [
            str(run.folder.relative_to(folder)),
            run.status,
            run.created[:16].replace("T", " "),
            run.model,
            run.data,
            run.split,
            *("" if score is None else f"{score:.3f}" for score in run.scores.values()),
        ]
        for run in runs
    ]
    console.print(_aligned([columns, *rows]), markup=False)


@app.command("show")
def show(run: Folder) -> None:
    """Say what a run is and what came of it."""
    from gyrus.runs.run_folder import Run
    from gyrus.workflows.manage_runs import describe

    facts = describe(Run.open(run, finished=False))
    width = max(len(title) for title, _ in facts)
    console.print("\n".join(f"{title:{width}}  {text}" for title, text in facts), markup=False)


@app.command("diff")
def diff(
    one: Folder,
    other: Annotated[Path, typer.Argument(help="Another.")],
    every: Annotated[bool, typer.Option("--all", help="Versions of libraries as well.")] = False,
) -> None:
    """Say in which settings, data and scores two runs differ."""
    from gyrus.runs.run_folder import Run
    from gyrus.workflows.manage_runs import compare_folders

    found = compare_folders(*(Run.open(folder, finished=False) for folder in (one, other)))
    console.print("Settings\n" + _lines(found.settings), markup=False)
    console.print("Data\n" + ("\n".join(f"  {line}" for line in found.data) or "  the same"), markup=False)
    if every:
        console.print("Environment\n" + _lines(found.environment), markup=False)
    console.print("Scores on the test set\n" + _lines(found.scores), markup=False)


@app.command("rm")
def remove(
    runs: Annotated[list[Path], typer.Argument(help="Run folders.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete run folders with everything in them."""
    from gyrus.runs.run_folder import Run
    from gyrus.workflows.manage_runs import remove_run

    opened = [Run.open(folder, finished=False) for folder in runs]
    if not yes:
        typer.confirm(f"Delete {', '.join(str(run.folder) for run in opened)}?", abort=True)
    for run in opened:
        remove_run(run)
        console.print(f"Deleted {run.folder}", markup=False)


def _aligned(rows: list[list[str]]) -> str:
    """Columns side by side however wide the terminal is, so that the lines can be searched."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)


def _lines(differences: Iterable[tuple[str, Any, Any]]) -> str:
    return "\n".join(f"  {name}: {_shown(one)} | {_shown(other)}" for name, one, other in differences) or "  the same"


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) and 0.1 < abs(value) < 1 else str(value)
