"""``gyrus crossval`` and ``gyrus ensemble``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gyrus.cli.options import (
    ExperimentOptions,
    Quiet,
    Ranges,
    Space,
    TrainingDataOptions,
    TrainingSplitUnit,
    Weights,
    WorkerOptions,
)
from gyrus.cli.terminal import console, display_of


def crossval(
    *,
    experiment: ExperimentOptions,
    out: Annotated[Path, typer.Option("--out", help="Folder, new or of an earlier call to continue.")],
    folds: Annotated[int, typer.Option("--folds", help="Number of folds.")] = 5,
    repeats: Annotated[int, typer.Option("--repeats", help="Number of times the folds are drawn.")] = 1,
    split_unit: TrainingSplitUnit = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of the folds, the weights and training.")] = None,
    space: Space = None,
    ranges: Ranges = None,
    trials: Annotated[int, typer.Option("--trials", help="With --space or --range: trials per fold.")] = 20,
    inner_folds: Annotated[
        int,
        typer.Option("--inner-folds", help="Folds within each fold to tune by; 0: tune by its validation set."),
    ] = 0,
    reading: TrainingDataOptions,
    workers: WorkerOptions,
    quiet: Quiet = False,
) -> None:
    """Cross-validate by subject.

    One classifier is trained per fold, so that each subject is evaluated by a classifier that has never seen it.

    With --space or --range, each fold is tuned on its own training subjects (nested cross-validation): the score then
    includes the tuning.

    The same command continues what was interrupted. The folder can be given to `gyrus predict` as an ensemble, and to
    `gyrus compare`.
    """
    import gyrus

    fields = {"split__unit": None if split_unit == "both" else split_unit, "seed": seed}
    choose: Any = None
    if space or ranges:
        choose = gyrus.NestedTuning(
            gyrus.StudyConfig(gyrus.read_space(space, ranges or ()), trials=trials, folds=inner_folds, seed=seed or 0)
        )
    verb = gyrus.crossval_both if split_unit == "both" else gyrus.crossval
    try:
        with workers.running():
            found = verb(
                experiment.chosen,
                data=experiment.data,
                out=out,
                folds=folds,
                repeats=repeats,
                overrides=experiment.overrides(reading, **fields),
                choose=choose,
                display=display_of(quiet=quiet),
            )
    except KeyboardInterrupt:
        console.print("Interrupted. The same command continues it.")
        raise typer.Exit(130) from None
    console.print(found.text())
    if split_unit != "both":
        console.print(f"Scores of each fold: {found.table}")
    console.print(f"Report: {found.report}")


def ensemble(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Two or more run folders with one test set, or cross-validations over the same folds."),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the predictions, the metrics and the report.")],
    weights: Weights = "equal",
) -> None:
    """Evaluate the averaged probabilities of several runs.

    The runs must share their test set.

    For cross-validations over the same folds, each subject is evaluated by classifiers that have never seen it.

    Refused if the test sets differ, or if a subject of the test set belongs to the training or validation set of one
    of the runs.
    """
    import gyrus

    found = gyrus.ensemble(runs, out=out, weights=weights)
    console.print(found.text())
    console.print(f"Predictions: {found.predictions}")
    console.print(f"Report: {found.report}")
