"""``gyrus compare`` and ``gyrus leaderboard``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gyrus.cli.options import PredictionsSplitUnit, Unit
from gyrus.cli.terminal import console

if TYPE_CHECKING:
    from gyrus.workflows.compare import ComparedRuns

Metric = Annotated[
    str | None,
    typer.Option(
        "--metric",
        help="Metric to rank by: accuracy (default), macro_roc_auc ...; of numbers mae (default), pearson ...",
    ),
]
Resamples = Annotated[
    int, typer.Option("--resamples", min=0, help="Number of bootstrap resamples and of permutations of the subjects.")
]
Seed = Annotated[int, typer.Option("--seed", help="Seed of the resamples and permutations.")]
Level = Annotated[float, typer.Option("--level", help="Coverage of the confidence intervals.")]


def compare(
    runs: Annotated[
        list[Path], typer.Argument(help="Folders of gyrus train, crossval or ensemble, or tables of predictions.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the report, the tables and the figures.")] = Path(
        "comparison"
    ),
    metric: Metric = None,
    unit: Unit = None,
    split_unit: PredictionsSplitUnit = None,
    resamples: Resamples = 2000,
    seed: Seed = 0,
    level: Level = 0.95,
) -> None:
    """Compare classifiers that were evaluated on the same subjects.

    The result is a ranking with paired differences, confidence intervals and p-values corrected for multiple
    comparisons, as a report, CSV, Markdown and LaTeX.

    Classifiers with other test subjects, or with a split by image, are ranked in separate tables.
    """
    import gyrus

    _print_result(
        gyrus.compare(
            runs,
            out=out,
            metric=metric,
            unit=unit,
            split_unit=split_unit,
            resamples=resamples,
            seed=seed,
            level=level,
        )
    )


def leaderboard(
    folder: Annotated[Path, typer.Argument(help="Folder with run folders at any depth.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for the report; by default leaderboard in the given folder.")
    ] = None,
    metric: Metric = None,
    unit: Unit = None,
    resamples: Resamples = 2000,
    seed: Seed = 0,
    level: Level = 0.95,
) -> None:
    """Rank all finished runs below a folder.

    Runs of classes and of each number are ranked by themselves.
    """
    import gyrus

    _print_result(
        gyrus.leaderboard(folder, out=out, metric=metric, unit=unit, resamples=resamples, seed=seed, level=level)
    )


def _print_result(found: ComparedRuns) -> None:
    for path in found.unfinished:
        console.print(f"Left out, not finished: {path}")
    for name in found.without_metric:
        console.print(f"Left out, no such score: {name}")
    for each in (found, *found.apart):
        console.print(each.text())
        console.print(f"Report: {each.report}")
