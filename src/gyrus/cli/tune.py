"""``gyrus tune``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gyrus.cli.options import (
    Bids,
    Classes,
    Columns,
    Config,
    OnBadFile,
    Orientation,
    Quiet,
    Ranges,
    Recipe,
    Settings,
    Source,
    Space,
    Spacing,
    SubjectPattern,
    SubjectRule,
    Subjects,
    data_fields,
    overrides_of,
)
from gyrus.cli.terminal import Terminal, console
from gyrus.errors import ConfigError


def tune(
    out: Annotated[Path, typer.Option("--out", help="The folder of the study; what it holds is gone on with.")],
    data: Annotated[str | None, typer.Option("--data", help="Folder, table, parquet file, or hf:owner/name.")] = None,
    recipe: Recipe = None,
    config: Config = None,
    setting: Settings = None,
    space: Space = None,
    ranges: Ranges = None,
    trials: Annotated[int, typer.Option("--trials", help="Configurations that all workers try together.")] = 50,
    objective: Annotated[
        list[str] | None,
        typer.Option(
            "--objective",
            help="A validation score, by default the config's; then costs: parameters, seconds. Repeat it.",
        ),
    ] = None,
    folds: Annotated[
        int, typer.Option("--folds", help="Choose by so many inner folds of people; 0: by the validation set.")
    ] = 0,
    sampler: Annotated[str, typer.Option("--sampler", help="tpe, cma-es, random or grid.")] = "tpe",
    pruner: Annotated[
        str | None, typer.Option("--pruner", help="median, hyperband or none; none for several objectives.")
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option("--storage", help="postgresql://user:password@host/database, or a journal (.log); else SQLite."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the sampler; that of training is --set seed=1.")] = 0,
    lost_after: Annotated[
        float, typer.Option("--lost-after", help="Seconds without a sign of life until a trial is repeated.")
    ] = 120.0,
    final_seeds: Annotated[
        str | None,
        typer.Option("--final-seeds", help="Train the best with these seeds, 0,1,2; score it once on the test set."),
    ] = None,
    with_default: Annotated[
        bool, typer.Option("--with-default", help="With --final-seeds: the config before tuning as well.")
    ] = False,
    on_bad_file: OnBadFile = None,
    source: Source = None,
    classes: Classes = None,
    column: Columns = None,
    subject_rule: SubjectRule = None,
    subject_pattern: SubjectPattern = None,
    subjects: Subjects = None,
    bids: Bids = None,
    orientation: Orientation = None,
    spacing: Spacing = None,
    quiet: Quiet = False,
) -> None:
    """Find better settings on people outside the test set.

    The same command started several times shares one study. It goes on where it was broken off, and a trial whose
    worker died is repeated.
    """
    import gyrus
    from gyrus.tuning.final_training import train_best
    from gyrus.tuning.search_space import read_space
    from gyrus.tuning.study import tune as run_study
    from gyrus.tuning.study_config import StudyConfig
    from gyrus.tuning.study_report import summary

    if recipe and config:
        raise ConfigError("Give either --recipe or --config, not both.")
    if with_default and not final_seeds:
        raise ConfigError("--with-default needs --final-seeds, such as 0,1,2.")
    seeds = _seeds(final_seeds)
    fields = data_fields(
        on_bad_file=on_bad_file,
        source=source,
        classes=classes,
        column=column,
        subjects=subjects,
        subject_rule=subject_rule,
        subject_pattern=subject_pattern,
        bids=bids,
        orientation=orientation,
        spacing=spacing,
    )
    plan = StudyConfig(
        space=read_space(space, ranges or ()),
        trials=trials,
        objectives=tuple(objective or ()),
        folds=folds,
        sampler=sampler,
        pruner=pruner,
        storage=storage,
        seed=seed,
        lost_after=lost_after,
    )
    display = gyrus.SILENT if quiet else Terminal()
    tuned = run_study(
        plan, recipe or config, out=out, data=data, overrides=overrides_of(fields, setting), display=display
    )
    console.print("\n".join(summary(tuned)), markup=False)
    if seeds:
        final = train_best(tuned, seeds, with_default=with_default, display=display)
        console.print(f"\n{final.text()}", markup=False)
    console.print(f"Recipe: {tuned.folder.best}", markup=False)
    console.print(f"Report: {tuned.folder.report}", markup=False)


def _seeds(text: str | None) -> list[int]:
    try:
        return [int(number) for number in text.split(",")] if text else []
    except ValueError as error:
        raise ConfigError(
            f"--final-seeds must be whole numbers with commas between, such as 0,1,2, got '{text}'."
        ) from error
