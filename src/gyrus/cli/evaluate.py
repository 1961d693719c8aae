"""``gyrus evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gyrus.cli.options import PredictionsSplitUnit
from gyrus.cli.terminal import console


def evaluate(
    source: Annotated[
        Path, typer.Argument(help="Run folder, or a table of predictions of any tool (.csv, .parquet, .json).")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="For a table: folder for the metrics, the figures and the report.")
    ] = None,
    split_unit: PredictionsSplitUnit = None,
    resamples: Annotated[int | None, typer.Option("--resamples", help="Bootstrap resamples of the subjects.")] = None,
    level: Annotated[float | None, typer.Option("--level", help="Coverage of the confidence intervals.")] = None,
    interval: Annotated[
        str | None, typer.Option("--interval", help="bca (corrected for bias and skewness) or percentile.")
    ] = None,
    matched: Annotated[
        str | None,
        typer.Option(
            "--matched",
            help="Also score subjects alike in these columns, separated by commas (for example age,sex,site); "
            "for runs and cross-validations.",
        ),
    ] = None,
) -> None:
    """Evaluate a run again, or the predictions of another tool.

    For a run, the metrics, the figures and the report are written again from its predictions.

    A table needs the columns sample, target and probability:<class> for each class. With a column subject, the
    evaluation is by subject and not by slice.
    """
    import gyrus
    from gyrus.workflows.evaluate import report_page
    from gyrus.workflows.matched_scores import saved_matched_scores

    columns = [name.strip() for name in (matched or "").split(",") if name.strip()]
    evaluation = gyrus.evaluate(
        source, out=out, split_unit=split_unit, resamples=resamples, level=level, interval=interval, matched=columns
    )
    console.print(evaluation.text())
    if columns:
        console.print(saved_matched_scores(source).text())
    console.print(f"Report: {report_page(source, out)}")
