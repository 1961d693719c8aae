"""``gyrus crossval`` and ``gyrus ensemble``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

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
    Weights,
    data_fields,
    overrides_of,
)
from gyrus.cli.terminal import Terminal, console
from gyrus.errors import ConfigError


def crossval(
    out: Annotated[Path, typer.Option("--out", help="The folder; of an earlier call, to go on with it.")],
    data: Annotated[str | None, typer.Option("--data", help="Folder, table, parquet file, or hf:owner/name.")] = None,
    recipe: Recipe = None,
    config: Config = None,
    setting: Settings = None,
    folds: Annotated[int, typer.Option("--folds", help="Into how many folds the people are dealt.")] = 5,
    repeats: Annotated[int, typer.Option("--repeats", help="How often they are dealt anew.")] = 1,
    split_unit: Annotated[
        Literal["subject", "image", "both"] | None,
        typer.Option("--split-unit", help="Keep whole: subject (default); image leaks; both shows them side by side."),
    ] = None,
    on_bad_file: OnBadFile = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of the folds, the weights and the order.")] = None,
    source: Source = None,
    classes: Classes = None,
    column: Columns = None,
    subject_rule: SubjectRule = None,
    subject_pattern: SubjectPattern = None,
    subjects: Subjects = None,
    bids: Bids = None,
    orientation: Orientation = None,
    spacing: Spacing = None,
    space: Space = None,
    ranges: Ranges = None,
    trials: Annotated[int, typer.Option("--trials", help="With --space or --range: configurations a fold.")] = 20,
    inner_folds: Annotated[
        int, typer.Option("--inner-folds", help="Choose by so many folds within each fold; 0: by its validation set.")
    ] = 0,
    quiet: Quiet = False,
) -> None:
    """Judge each person by a network that has never seen them: train once a fold.

    With --space or --range each fold is tuned anew on the people that it may learn from (nested cross-validation), so
    that what is judged is the tuning and not one configuration.

    What is there and finished is kept, and what was interrupted goes on, when the same command is given again. The
    folder can be given to `gyrus predict` as an ensemble, and to `gyrus compare`.
    """
    import gyrus
    from gyrus.workflows.crossval import Choose

    if recipe and config:
        raise ConfigError("Give either --recipe or --config, not both.")
    options = data_fields(
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
    fields = options | {"split.unit": None if split_unit == "both" else split_unit, "seed": seed}
    choose: Choose | None = None
    if space or ranges:
        from gyrus.tuning.nested_crossval import NestedTuning
        from gyrus.tuning.search_space import read_space
        from gyrus.tuning.study_config import StudyConfig

        choose = NestedTuning(
            StudyConfig(read_space(space, ranges or ()), trials=trials, folds=inner_folds, seed=seed or 0)
        )
    cross: Any = gyrus.cross_validate_both if split_unit == "both" else gyrus.cross_validate
    try:
        found = cross(
            recipe or config,
            out=out,
            data=data,
            folds=folds,
            repeats=repeats,
            overrides=overrides_of(fields, setting),
            choose=choose,
            display=gyrus.SILENT if quiet else Terminal(),
        )
    except KeyboardInterrupt:
        console.print("Interrupted. Give the same command again to go on.")
        raise typer.Exit(130) from None
    console.print(found.text(), markup=False)
    if split_unit != "both":
        console.print(f"Scores of each fold: {found.table}", markup=False)
    console.print(f"Report: {found.report}", markup=False)


def ensemble(
    runs: Annotated[
        list[Path],
        typer.Argument(
            help="Two or more run folders with one test set, or folders of cross-validations over the same folds."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the predictions, the metrics and the report.")],
    weights: Weights = "equal",
) -> None:
    """Judge the mean of the probabilities of several runs on the test set that they share.

    Of cross-validations over the same folds each person is judged by networks none of which has seen them.

    Refused where the test sets differ, or where someone who is tested was learnt from in one of the runs.
    """
    import gyrus

    found = gyrus.ensemble(runs, out=out, weighting=weights)
    console.print(found.text(), markup=False)
    console.print(f"Predictions: {found.predictions}", markup=False)
    console.print(f"Report: {found.report}", markup=False)
