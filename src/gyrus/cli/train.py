"""``gyrus train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from gyrus.cli.options import (
    Bids,
    Classes,
    Columns,
    Config,
    OnBadFile,
    Orientation,
    Quiet,
    Recipe,
    Settings,
    Source,
    Spacing,
    SubjectPattern,
    SubjectRule,
    Subjects,
    data_fields,
    overrides_of,
)
from gyrus.cli.terminal import Terminal, console
from gyrus.errors import ConfigError


def train(
    data: Annotated[str | None, typer.Option("--data", help="Folder, table, parquet file, or hf:owner/name.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="The run folder, new or empty.")] = None,
    recipe: Recipe = None,
    config: Config = None,
    setting: Settings = None,
    split_unit: Annotated[
        Literal["subject", "image", "both"] | None,
        typer.Option("--split-unit", help="Keep whole: subject (default); image leaks; both shows them side by side."),
    ] = None,
    on_bad_file: OnBadFile = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of the split, the weights and the order.")] = None,
    seeds: Annotated[
        str | None, typer.Option("--seeds", help="Repeat with these seeds on one split: 0,1,2. Shows the spread.")
    ] = None,
    shuffled_labels: Annotated[
        bool,
        typer.Option("--shuffled-labels", help="Train once more on labels dealt out anew: what chance alone reaches."),
    ] = False,
    source: Source = None,
    classes: Classes = None,
    column: Columns = None,
    subject_rule: SubjectRule = None,
    subject_pattern: SubjectPattern = None,
    subjects: Subjects = None,
    bids: Bids = None,
    orientation: Orientation = None,
    spacing: Spacing = None,
    resume: Annotated[Path | None, typer.Option("--resume", help="Continue the run in this folder.")] = None,
    quiet: Quiet = False,
) -> None:
    """Train a classifier and judge it on people it has never seen."""
    import gyrus

    display = gyrus.SILENT if quiet else Terminal()
    if resume:
        if data or out or recipe or config or setting or split_unit or seeds or shuffled_labels:
            raise ConfigError("--resume continues a run with its own config; give no other option with it.")
        _finish(gyrus.resume(resume, display=display))
        return
    if out is None:
        raise ConfigError("Name the run folder with --out.")
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
    fields = options | {
        "split.unit": None if split_unit == "both" else split_unit,
        "seed": seed,
        "evaluation.shuffled_labels": shuffled_labels or None,
    }
    overrides = overrides_of(fields, setting)
    chosen = recipe or config
    if seeds:
        if seed is not None or split_unit == "both":
            raise ConfigError("--seeds repeats one run; give neither --seed nor --split-unit both with it.")
        numbers = _numbers(seeds)
        repeats = gyrus.train_seeds(chosen, seeds=numbers, data=data, out=out, overrides=overrides, display=display)
        console.print(repeats.text(), markup=False)
        console.print(f"Scores of each seed: {repeats.table}")
        return
    if split_unit == "both":
        comparison = gyrus.train_both(chosen, data=data, out=out, overrides=overrides, display=display)
        console.print(comparison.text(), markup=False)
        console.print(f"Report: {comparison.report}")
        return
    _finish(gyrus.train(chosen, data=data, out=out, overrides=overrides, display=display))


def _numbers(text: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"--seeds must be whole numbers with commas between, such as 0,1,2, got '{text}'.") from error


def _finish(run: object) -> None:
    from gyrus.runs.run_folder import Run

    assert isinstance(run, Run)
    if run.status == "interrupted":
        console.print(f"Interrupted. Continue with: gyrus train --resume {run.folder}")
        raise typer.Exit(130)
    console.print(run.classification_report.read_text(encoding="utf-8"), markup=False)
    console.print(f"Report: {run.report}")
