"""``gyrus evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gyrus.cli.options import SplitUnitOption
from gyrus.cli.terminal import console


def evaluate(
    source: Annotated[
        Path, typer.Argument(help="A run folder, or a table of predictions of any tool (.csv, .parquet, .json).")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="Of a table: folder for metrics, figures and report.")
    ] = None,
    split_unit: SplitUnitOption = None,
    resamples: Annotated[int | None, typer.Option("--resamples", help="Bootstrap resamples of the subjects.")] = None,
    level: Annotated[float | None, typer.Option("--level", help="Coverage of the intervals.")] = None,
    interval: Annotated[
        str | None, typer.Option("--interval", help="bca (corrected for bias and skewness) or percentile.")
    ] = None,
) -> None:
    """Judge a finished run again from its predictions, or the predictions of another tool.

    Of a run, its metrics, figures and report are written anew. A table needs the columns sample, target and
    probability:<class> for each class, and subject, so that people are judged and not slices.
    """
    options = {"resamples": resamples, "level": level, "interval": interval}
    given = {name: value for name, value in options.items() if value is not None}
    if source.is_file():
        _evaluate_table(source, out or source.parent / f"{source.stem}-evaluation", split_unit, given)
    else:
        _evaluate_run(source, out, split_unit, given)


def _evaluate_run(folder: Path, out: Path | None, split_unit: str | None, given: dict[str, Any]) -> None:
    import gyrus
    from gyrus.configuration import parse
    from gyrus.errors import ConfigError
    from gyrus.runs.run_folder import Run

    if out or split_unit:
        raise ConfigError("--out and --split-unit are for tables of predictions: a run knows its split and its folder.")
    opened = Run.open(folder)
    known = gyrus.load_config(opened.config).evaluation.model_dump()
    settings = parse(gyrus.EvaluationConfig, known | given, where="The evaluation")
    console.print(gyrus.evaluate(opened, config=settings).text(), markup=False)
    console.print(f"Report: {opened.report}", markup=False)


def _evaluate_table(table: Path, out: Path, split_unit: str | None, given: dict[str, Any]) -> None:
    import gyrus
    from gyrus.configuration import parse
    from gyrus.workflows.compare import evaluate_table

    settings = parse(gyrus.EvaluationConfig, given, where="The evaluation")
    evaluation, page = evaluate_table(table, out=out, split_unit=split_unit, config=settings)  # type: ignore[arg-type]
    console.print(evaluation.text(), markup=False)
    console.print(f"Report: {page}", markup=False)
