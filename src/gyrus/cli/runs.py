"""``gyrus runs``: run folders, without a server."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from gyrus.cli.command import command, group
from gyrus.cli.terminal import console
from gyrus.text import aligned, one_per_line

app = group("List, show, compare and delete run folders.")

Folder = Annotated[Path, typer.Argument(help="Run folder.")]


@command(app, "list")
def list_runs(
    folder: Annotated[Path, typer.Argument(help="Folder with runs at any depth.")] = Path(),
) -> None:
    """List the runs below a folder, with their test scores.

    The order is that of their start.
    """
    import gyrus

    runs = gyrus.list_runs(folder)
    if not runs:
        console.print(f"No runs below {folder}.")
        return
    columns = ["run", "status", "started", "model", "data", "split by", "accuracy", "balanced", "AUC"]
    scores = ["accuracy", "balanced_accuracy", "macro_roc_auc"]
    if any("mae" in run.scores for run in runs):  # a number was predicted
        columns, scores = [*columns, "MAE"], [*scores, "mae"]
    rows = [
        [
            str(run.folder.relative_to(folder)),
            run.status,
            run.created[:16].replace("T", " "),
            run.model,
            run.data,
            run.split,
            *("" if (score := run.scores.get(name)) is None else f"{score:.3f}" for name in scores),
        ]
        for run in runs
    ]
    console.print("\n".join(aligned([columns, *rows])))
    for run in runs:
        if run.problem:
            typer.echo(f"Damaged: {run.problem}", err=True)


@command(app, "show")
def show_run(run: Folder) -> None:
    """Show the data, the settings and the scores of a run."""
    import gyrus

    facts = gyrus.show_run(run)
    width = max(len(title) for title, _ in facts)
    console.print(one_per_line(f"{title:{width}}  {text}" for title, text in facts))


@command(app, "diff")
def diff_runs(
    one: Folder,
    other: Annotated[Path, typer.Argument(help="Another run folder.")],
    every: Annotated[bool, typer.Option("--all", help="Also compare versions of libraries.")] = False,
) -> None:
    """Show the settings, data and scores in which two runs differ."""
    import gyrus

    found = gyrus.diff_runs(one, other)
    console.print("Settings\n" + _lines(found.settings))
    console.print("Data\n" + (one_per_line(f"  {line}" for line in found.data) or "  the same"))
    if every:
        console.print("Environment\n" + _lines(found.environment))
    console.print("Scores on the test set\n" + _lines(found.scores))


@command(app, "rm")
def remove_run(
    runs: Annotated[list[Path], typer.Argument(help="Run folders.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Also delete files that Gyrus did not write.")] = False,
) -> None:
    """Delete run folders with all their files.

    A folder that Gyrus did not write is refused, and so is one that holds other files.
    """
    import gyrus
    from gyrus.workflows.manage_runs import require_removable

    opened = [require_removable(folder, force=force) for folder in runs]
    if not yes:
        typer.confirm(f"Delete {', '.join(str(run.folder) for run in opened)}?", abort=True)
    gyrus.remove_run(*opened, force=force)
    for run in opened:
        console.print(f"Deleted {run.folder}")


def _lines(differences: Iterable[tuple[str, Any, Any]]) -> str:
    lines = (f"  {name}: {_shown(one)} | {_shown(other)}" for name, one, other in differences)
    return one_per_line(lines) or "  the same"


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) and 0.1 < abs(value) < 1 else str(value)
