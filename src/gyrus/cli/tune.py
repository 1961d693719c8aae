"""``gyrus tune``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gyrus.cli.options import (
    ExperimentOptions,
    OnDuplicates,
    Quiet,
    Ranges,
    Space,
    TrainingDataOptions,
    WorkerOptions,
    whole_numbers,
)
from gyrus.cli.terminal import console, display_of


def tune(
    *,
    experiment: ExperimentOptions,
    out: Annotated[Path, typer.Option("--out", help="Folder of the study, new or of an earlier call to continue.")],
    space: Space = None,
    ranges: Ranges = None,
    trials: Annotated[int, typer.Option("--trials", help="Number of configurations to try, over all workers.")] = 50,
    objective: Annotated[
        list[str] | None,
        typer.Option(
            "--objective",
            help="Validation metric, by default that of the config; then costs: parameters, seconds. Repeatable.",
        ),
    ] = None,
    folds: Annotated[
        int, typer.Option("--folds", help="Number of inner folds to tune by; 0: tune by the validation set.")
    ] = 0,
    sampler: Annotated[str, typer.Option("--sampler", help="tpe, cma-es, random or grid.")] = "tpe",
    pruner: Annotated[
        str | None, typer.Option("--pruner", help="median, hyperband or none. Several objectives allow none only.")
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            "--storage", help="postgresql://user:password@host/database, or a journal (.log); by default SQLite."
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the sampler; --set seed=1 sets that of training.")] = 0,
    lost_after: Annotated[
        float, typer.Option("--lost-after", help="Repeat a trial whose worker has not reported for this many seconds.")
    ] = 120.0,
    final_seeds: Annotated[
        str | None,
        typer.Option(
            "--final-seeds",
            help="Train the best configuration with these seeds (0,1,2) and evaluate it on the test set.",
        ),
    ] = None,
    with_default: Annotated[
        bool, typer.Option("--with-default", help="With --final-seeds: also the config before tuning.")
    ] = False,
    on_duplicates: OnDuplicates = None,
    reading: TrainingDataOptions,
    workers: WorkerOptions,
    quiet: Quiet = False,
) -> None:
    """Tune hyperparameters without the test set.

    Start the same command several times to share a study between workers. The same command also continues an
    interrupted study, and repeats a trial whose worker died. --jobs and --cluster decode images, and train the seeds
    of --final-seeds at the same time; the trials of one command run one after the other, each learning from those
    before it.
    """
    import gyrus

    with workers.running():
        tuned = gyrus.tune(
            experiment.chosen,
            study=gyrus.StudyConfig(
                space=gyrus.read_space(space, ranges or ()),
                trials=trials,
                objectives=tuple(objective or ()),
                folds=folds,
                sampler=sampler,
                pruner=pruner,
                storage=storage,
                seed=seed,
                lost_after=lost_after,
            ),
            out=out,
            data=experiment.data,
            overrides=experiment.overrides(reading, split__on_duplicates=on_duplicates),
            final_seeds=whole_numbers(final_seeds, "--final-seeds"),
            with_default=with_default,
            display=display_of(quiet=quiet),
        )
    console.print(tuned.text())
    console.print(f"Recipe: {tuned.folder.best}")
    console.print(f"Report: {tuned.folder.report}")
