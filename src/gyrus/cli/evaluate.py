"""``gyrus evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gyrus.cli.display import console


def evaluate(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    resamples: Annotated[int | None, typer.Option("--resamples", help="Bootstrap resamples of the subjects.")] = None,
    level: Annotated[float | None, typer.Option("--level", help="Coverage of the intervals.")] = None,
) -> None:
    """Judge a finished run again from its predictions.

    Its metrics, figures and report are written anew.
    """
    from gyrus import experiment
    from gyrus.configuration import parse
    from gyrus.runs import Run

    opened = Run.open(run)
    known = experiment.load_config(opened.config).evaluation.model_dump()
    given = {name: value for name, value in {"resamples": resamples, "level": level}.items() if value is not None}
    settings = parse(experiment.EvaluationConfig, known | given, where="The evaluation")
    console.print(experiment.evaluate(opened, config=settings).text(), markup=False)
    console.print(f"Report: {opened.report}")
