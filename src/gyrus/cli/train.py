"""``gyrus train``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gyrus.cli.options import (
    ExperimentOptions,
    OnDuplicates,
    Quiet,
    TrainingDataOptions,
    TrainingSplitUnit,
    WorkerOptions,
    whole_numbers,
)
from gyrus.cli.terminal import console, display_of
from gyrus.errors import ConfigError

if TYPE_CHECKING:
    from gyrus.runs.run_folder import Run


def train(
    *,
    experiment: ExperimentOptions,
    out: Annotated[Path | None, typer.Option("--out", help="Run folder, new or empty.")] = None,
    split_unit: TrainingSplitUnit = None,
    on_duplicates: OnDuplicates = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of the split, the weights and training.")] = None,
    seeds: Annotated[
        str | None, typer.Option("--seeds", help="Repeat with these seeds on the same split: 0,1,2. Shows the spread.")
    ] = None,
    shuffled_labels: Annotated[
        bool,
        typer.Option("--shuffled-labels", help="Also train with labels shuffled across subjects (chance control)."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be trained, its memory and its time; write nothing.")
    ] = False,
    resume: Annotated[
        Path | None, typer.Option("--resume", help="Continue the run in this folder; give --data if its data moved.")
    ] = None,
    reading: TrainingDataOptions,
    workers: WorkerOptions,
    quiet: Quiet = False,
) -> None:
    """Train a classifier and evaluate it on unseen subjects."""
    import gyrus

    display = display_of(quiet=quiet)
    if resume:
        given = (out, split_unit, on_duplicates, seed, seeds, shuffled_labels or None, dry_run or None)
        others = (replace(experiment, data=None), reading) != (ExperimentOptions(), TrainingDataOptions())
        if others or any(value is not None for value in given):
            raise ConfigError(
                "--resume continues a run with its own config; give no other option with it, except --data if the data "
                "have moved."
            )
        with workers.running():
            _print_result(gyrus.resume(resume, data=experiment.data, display=display))
        return
    if out is None and not dry_run:
        raise ConfigError("Name the run folder with --out.")
    if seeds and (seed is not None or split_unit == "both"):
        raise ConfigError("--seeds repeats one run; give neither --seed nor --split-unit both with it.")
    overrides = experiment.overrides(
        reading,
        split__unit=None if split_unit == "both" else split_unit,
        split__on_duplicates=on_duplicates,
        seed=seed,
        evaluation__shuffled_labels=shuffled_labels or None,
    )
    if dry_run:
        plan = gyrus.plan_training(experiment.chosen, data=experiment.data, overrides=overrides, display=display)
        console.print(plan.text())
        plan.require_memory()
        return
    arguments = {"data": experiment.data, "out": out, "overrides": overrides, "display": display}
    with workers.running():
        if seeds:
            repeats = gyrus.train_seeds(experiment.chosen, seeds=whole_numbers(seeds, "--seeds"), **arguments)
            console.print(repeats.text())
            console.print(f"Scores of each seed: {repeats.table}")
        elif split_unit == "both":
            comparison = gyrus.train_both(experiment.chosen, **arguments)
            console.print(comparison.text())
            console.print(f"Report: {comparison.report}")
        else:
            _print_result(gyrus.train(experiment.chosen, **arguments))


def _print_result(run: Run) -> None:
    if run.status == "interrupted":
        console.print(f"Interrupted. Continue with: gyrus train --resume {run.folder}")
        raise typer.Exit(130)
    if run.report.is_file():
        console.print(run.classification_report.read_text(encoding="utf-8"))
        console.print(f"Report: {run.report}")
    else:  # evaluation.report: false
        from gyrus.evaluation.number_result import load_evaluation

        console.print(load_evaluation(run.metrics).text())
        console.print(f"Scores: {run.metrics}")
