"""``gyrus auto``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from gyrus.cli.options import Quiet, TrainingDataOptions, WorkerOptions
from gyrus.cli.terminal import console, display_of
from gyrus.errors import ConfigError


def auto(
    *,
    data: Annotated[str, typer.Argument(help="Folder, table, Parquet file, or hf:owner/name.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder, new or of an earlier call to continue; needed but for --dry-run."),
    ] = None,
    minutes: Annotated[float, typer.Option("--minutes", help="Time for everything, in minutes.")] = 30.0,
    candidate: Annotated[
        list[str] | None,
        typer.Option(
            "--candidate", help="Train only these candidates; by default those that suit the data. Repeatable."
        ),
    ] = None,
    folds: Annotated[int | None, typer.Option("--folds", help="Number of folds, 3 or more; by default 3 to 5.")] = None,
    metric: Annotated[str, typer.Option("--metric", help="Score by which candidates are compared.")] = "macro_roc_auc",
    seed: Annotated[int, typer.Option("--seed", help="Seed of the folds, the weights and training.")] = 0,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Set a field of all configs (split.val=0.2), or of one candidate (slice-cnn.training.epochs=5). "
            "Repeatable.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only measure the data and print the plan.")] = False,
    reading: TrainingDataOptions,
    workers: WorkerOptions,
    quiet: Quiet = False,
) -> None:
    """Find the best classifier of your data within a time.

    Measures the data, makes a plan with reasons, trains the candidates that suit them, and chooses one without the
    subjects that it is scored on. The end is one classifier for `gyrus predict`, an honest score, and what it beats.

    The same command continues what was interrupted.
    """
    begun = time.monotonic()  # libraries take several seconds to load
    import gyrus
    from gyrus.configuration import read_assignments

    fields = {f"data.{name}": value for name, value in reading.fields().items()}
    arguments = {
        "minutes": minutes,
        "candidates": tuple(candidate or ()),
        "folds": folds,
        "metric": metric,
        "seed": seed,
        "overrides": {**fields, **read_assignments(setting or [])},
        "display": display_of(quiet=quiet),
    }
    if dry_run:
        with workers.running():
            fingerprint, plan = gyrus.plan_auto(data, **arguments)
        console.print(fingerprint.text())
        console.print("")
        console.print(plan.text())
        console.print("Nothing was written.")
        return
    if out is None:
        raise ConfigError("Name a folder for the results with --out.")
    try:
        with workers.running():
            found = gyrus.auto(data, out=out, begun=begun, **arguments)
    except KeyboardInterrupt:
        console.print("Interrupted. The same command continues it.")
        raise typer.Exit(130) from None
    console.print(found.text())
    console.print(f"Classifier: {found.classifier}")
    console.print(f"Report: {found.report}")
