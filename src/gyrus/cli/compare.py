"""``gyrus compare`` and ``gyrus leaderboard``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from gyrus.cli.options import SplitUnitOption, Unit
from gyrus.cli.terminal import console

Metric = Annotated[str, typer.Option("--metric", help="Score that decides the order: accuracy, macro_roc_auc ...")]
Resamples = Annotated[int, typer.Option("--resamples", min=0, help="Bootstrap resamples and permutations of people.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of both.")]
Level = Annotated[float, typer.Option("--level", help="Coverage of the intervals.")]
Out = Annotated[Path, typer.Option("--out", help="Folder for the page, the tables and the figures.")]


def compare(
    runs: Annotated[
        list[Path], typer.Argument(help="Folders of gyrus train, crossval or ensemble, or tables of predictions.")
    ],
    out: Out = Path("comparison"),
    metric: Metric = "accuracy",
    unit: Unit = None,
    split_unit: SplitUnitOption = None,
    resamples: Resamples = 2000,
    seed: Seed = 0,
    level: Level = 0.95,
) -> None:
    """Compare classifiers that were judged on the same people.

    Ranks, paired differences with intervals, p-values corrected for their number; as page, CSV, Markdown and LaTeX.
    Those judged on other people, or after a split by image, stand in tables of their own.
    """
    _compare(runs, out, metric, unit, split_unit, resamples, seed, level)


def leaderboard(
    folder: Annotated[Path, typer.Argument(help="Folder with run folders at any depth.")],
    out: Annotated[Path | None, typer.Option("--out", help="By default the folder leaderboard inside it.")] = None,
    metric: Metric = "accuracy",
    unit: Unit = None,
    resamples: Resamples = 2000,
    seed: Seed = 0,
    level: Level = 0.95,
) -> None:
    """Rank all finished runs below a folder."""
    from gyrus.workflows.compare import find_runs

    finished, others = find_runs(folder)
    for path in others:
        console.print(f"Left out, not finished: {path}", markup=False)
    _compare(finished, out or folder / "leaderboard", metric, unit, None, resamples, seed, level)


def _compare(
    sources: Sequence[Path],
    out: Path,
    metric: str,
    unit: str | None,
    split_unit: str | None,
    resamples: int,
    seed: int,
    level: float,
) -> None:
    from gyrus.reporting.leaderboard_report import text
    from gyrus.workflows.compare import compare_runs

    board, page = compare_runs(
        sources,
        out=out,
        metric=metric,
        unit=unit,  # type: ignore[arg-type]
        split_unit=split_unit,  # type: ignore[arg-type]
        resamples=resamples,
        seed=seed,
        level=level,
    )
    console.print(text(board), markup=False)
    console.print(f"Page: {page}", markup=False)
