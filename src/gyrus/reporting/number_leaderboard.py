"""The comparison of models of a number: page, figure and table."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from gyrus.datasets.text_tables import write_csv
from gyrus.evaluation.number_leaderboard import NumberLeaderboard
from gyrus.evaluation.number_metrics import NUMBER_HEADLINES, NUMBER_METRICS
from gyrus.evaluation.number_result import NumberEvaluation
from gyrus.evaluation.result import interval_note
from gyrus.files import refuse_links
from gyrus.reporting.figures import (
    COLOURS,
    COLUMN,
    Drawing,
    Picture,
    escape_math,
    figure_style,
    new_figure,
    plot_estimate,
    save_drawings,
)
from gyrus.reporting.html import write_page
from gyrus.text import p_value_text, visible


@dataclass(frozen=True)
class _Page:
    title: str
    created: str
    sentences: tuple[str, ...]
    evaluation: NumberEvaluation
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    pictures: tuple[Picture, ...]


def write_number_leaderboard(folder: Path, board: NumberLeaderboard) -> Path:
    """Write ``leaderboard.html``, ``leaderboard.csv`` and the figure, and return the page."""
    refuse_links(folder)
    write_csv(frame(board), folder / "leaderboard.csv")
    cells = _cells(board)
    drawing = Drawing(
        "ranking",
        NUMBER_METRICS[board.metric].title,
        "Dot: score. Line: confidence interval. Overlapping intervals do not show that two models are equal; see the "
        "paired differences in the table.",
        ranking_figure(board),
    )
    evaluation = board.standings[0].evaluation
    content = _Page(
        title=folder.resolve().name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        sentences=(board.sentence, interval_note(evaluation)),
        evaluation=evaluation,
        columns=tuple(cells.columns),
        rows=tuple(map(tuple, cells.to_numpy().tolist())),
        pictures=save_drawings([drawing], folder / "figures"),
    )
    return write_page(folder / "leaderboard.html", "number_leaderboard.html.j2", content)


def frame(board: NumberLeaderboard) -> pd.DataFrame:
    """One row per model and plain numbers, for CSV and further analysis."""
    rows = []
    for rank, standing in enumerate(board.standings, 1):
        row: dict[str, object] = {"rank": rank, "name": standing.entry.name}
        row |= {title.lower(): value for title, value in standing.entry.facts.items()}
        scores = standing.evaluation.scores[board.unit]
        row |= {"split_unit": standing.evaluation.split_unit, "unit": board.unit, "count": scores.count}
        for name, estimate in scores.metrics.items():
            row |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
        difference = standing.difference
        row |= {"ranked_by": board.metric, "difference": difference.value if difference else None}
        row |= {"difference_low": difference.low if difference else None}
        row |= {"difference_high": difference.high if difference else None, "p": standing.p_value}
        rows.append(row)
    return pd.DataFrame(rows)


def text(board: NumberLeaderboard) -> str:
    """The comparison for a terminal."""
    warning = board.standings[0].evaluation.warning
    lines = [visible(board.sentence), "", *([f"WARNING: {warning}"] if warning else [])]
    return "\n".join([*lines, _cells(board).map(visible).to_string(index=False)])


def ranking_figure(board: NumberLeaderboard) -> Figure:
    """The score of each model as a dot with its interval, the best on top."""
    evaluation = board.standings[0].evaluation
    with figure_style():
        figure = new_figure(COLUMN * 1.2, 0.8 + 0.28 * len(board.standings), evaluation.warning)
        axes = figure.subplots()
        for height, standing in enumerate(board.standings):
            plot_estimate(axes, height, standing.evaluation.scores[board.unit].metrics[board.metric], COLOURS[0])
        axes.set_yticks(range(len(board.standings)), [escape_math(each.entry.name) for each in board.standings])
        axes.set(ylim=(len(board.standings) - 0.5, -0.5))
        axes.tick_params(axis="y", length=0)
        axes.set_title(NUMBER_METRICS[board.metric].title)
    return figure


def _cells(board: NumberLeaderboard) -> pd.DataFrame:
    """The table as text, the ranking score first."""
    metrics = [board.metric, *[name for name in NUMBER_HEADLINES if name != board.metric]]
    rows = []
    for rank, standing in enumerate(board.standings, 1):
        scores = standing.evaluation.scores[board.unit]
        row = {"Rank": str(rank), "Model": standing.entry.name}
        row |= {NUMBER_METRICS[name].title: scores.metrics[name].text(2) for name in metrics}
        row |= {"Difference": standing.difference.text(2) if standing.difference else ""}
        row |= {"p": "" if standing.p_value is None else p_value_text(standing.p_value).removeprefix("p = ")}
        rows.append(row)
    return pd.DataFrame(rows)
