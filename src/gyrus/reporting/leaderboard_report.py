"""The page, the figures and the tables of a comparison of classifiers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from gyrus.evaluation.leaderboard import Leaderboard, Standing, Table, describe
from gyrus.evaluation.metrics import CLASS_METRICS, METRICS
from gyrus.evaluation.result import Estimate
from gyrus.evaluation.text import TITLES, unit_word
from gyrus.files import write_text
from gyrus.reporting.html import HEADLINES, report_environment
from gyrus.reporting.leaderboard_figures import agreement_figure, overlaid_roc_figure, ranking_figure
from gyrus.reporting.report_content import Drawing, Picture


def write_leaderboard(folder: Path, board: Leaderboard) -> Path:
    """Write ``leaderboard.html``, ``.csv``, ``.md`` and ``.tex``, the tables of each class, and the figures.

    Args:
        folder: Where to write.
        board: The classifiers in order.

    Returns:
        The page.
    """
    views = [_view(board, number, table, folder / "figures") for number, table in enumerate(board.tables, 1)]
    frames = [frame(table) for table in board.tables]
    write_text(folder / "leaderboard.csv", _stacked(frames).to_csv(index=False))
    write_text(folder / "classes.csv", _stacked([class_frame(table) for table in board.tables]).to_csv(index=False))
    write_text(folder / "leaderboard.md", "\n\n".join([*describe(board), *(_markdown(view) for view in views)]) + "\n")
    write_text(folder / "leaderboard.tex", "\n\n".join(_latex(view) for view in views) + "\n")
    page = folder / "leaderboard.html"
    content = _Page(folder.resolve().name, datetime.now(UTC).isoformat(timespec="seconds"), describe(board), views)
    write_text(page, report_environment().get_template("leaderboard.html.j2").render(content=content))
    return page


def frame(table: Table) -> pd.DataFrame:
    """A table of the leaderboard with one row a classifier and plain numbers, for CSV and further work."""
    return pd.DataFrame([_row(table, standing) for standing in table.standings])


def class_frame(table: Table) -> pd.DataFrame:
    """One row a classifier and class: count, precision, recall, F1 and areas, each with its interval."""
    rows = []
    for standing in table.standings:
        scores = standing.evaluation.scores[table.unit]
        for name, estimates in scores.by_class.items():
            row: dict[str, object] = {"name": standing.entry.name, "class": name, "count": scores.class_counts[name]}
            for metric in CLASS_METRICS:
                row |= _numbers(metric, estimates[metric])
            rows.append(row)
    return pd.DataFrame(rows)


def text(board: Leaderboard) -> str:
    """The leaderboard for a terminal."""
    blocks = [*describe(board), ""]
    for number, table in enumerate(board.tables, 1):
        if len(board.tables) > 1:
            blocks.append(f"Table {number}: {_about(table)}")
        if table.evaluation.statement:
            blocks.append(f"WARNING: {table.evaluation.statement}")
        blocks += [_cells(table).to_string(index=False), ""]
    return "\n".join(blocks).rstrip()


@dataclass(frozen=True)
class _View:
    """A table as it stands in the page."""

    table: Table
    about: str
    cells: pd.DataFrame
    pictures: tuple[Picture, ...]
    words: dict[str, str]


@dataclass(frozen=True)
class _Page:
    """What the page says."""

    title: str
    created: str
    words: tuple[str, ...]
    views: Sequence[_View]


def _view(board: Leaderboard, number: int, table: Table, figures: Path) -> _View:
    drawings = _drawings(number, table)
    for drawing in drawings:
        drawing.save(figures)
    return _View(table, _about(table), _cells(table), tuple(map(Picture.of, drawings)), _words(board, table))


def _about(table: Table) -> str:
    scores = table.evaluation.scores[table.unit]
    counts = ", ".join(f"{count:,} {name}" for name, count in scores.class_counts.items())
    return f"{scores.count:,} {unit_word(table.evaluation, scores, scores.count)} ({counts})"


def _drawings(number: int, table: Table) -> list[Drawing]:
    drawings = [
        Drawing(
            f"ranking_{number}",
            METRICS[table.metric].title,
            "Dot: score; line: interval. Overlapping intervals do not show that two are equal: see the differences.",
            ranking_figure(table),
        ),
    ]
    if len(table.standings) > 1:
        caption = "Share for which two classifiers say the same. Much agreement between weak ones is a shared mistake."
        drawings.append(Drawing(f"agreement_{number}", "Agreement", caption, agreement_figure(table)))
    drawings.append(
        Drawing(
            f"roc_{number}",
            "ROC curves",
            "How many are found, for how many false alarms. The diagonal is chance.",
            overlaid_roc_figure(table),
        )
    )
    return drawings


def _words(board: Leaderboard, table: Table) -> dict[str, str]:
    """What stands below the table: how the intervals and p-values were made, and who is wrong in all."""
    words = {}
    if board.resamples:
        words["how"] = (
            f"In brackets {board.level:.0%} intervals from {board.resamples:,} bootstrap resamples of "
            f"{table.evaluation.group}s, the same for all. Behind: the paired difference from the first. p: paired "
            f"permutation of {table.evaluation.group}s, corrected for {len(table.standings) - 1} comparisons (Holm). "
            f"Ranks: where the classifier lies in {board.level:.0%} of the resamples."
        )
    if len(table.standings) > 1:
        unit = unit_word(table.evaluation, table.evaluation.scores[table.unit], len(table.missed))
        words["missed"] = (
            f"{len(table.missed)} of {table.count:,} {unit} are wrong in every classifier of the table"
            + (f": {_listed(table.missed)}." if table.missed else ".")
        )
    return words


def _listed(names: Sequence[str], most: int = 20) -> str:
    further = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + further


def _row(table: Table, standing: Standing) -> dict[str, object]:
    row: dict[str, object] = {"rank": standing.rank, "name": standing.entry.name}
    row |= {title.lower(): value for title, value in standing.entry.facts.items()}
    row |= {"split_unit": standing.evaluation.split_unit, "unit": table.unit, "count": table.count}
    for metric in TITLES:
        row |= _numbers(metric, table.estimate(standing, metric))
    low, high = standing.ranks or (None, None)
    row |= {"ranked_by": table.metric, "rank_low": low, "rank_high": high}
    row |= _numbers("difference_from_first", standing.behind or Estimate(None))
    return row | {"p_holm": standing.p_value, "validation": standing.validation}


def _numbers(name: str, estimate: Estimate) -> dict[str, float | None]:
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def _cells(table: Table) -> pd.DataFrame:
    """The table as texts with titles, the deciding score first."""
    metrics = [table.metric, *[name for name in HEADLINES if name != table.metric]]
    rows = []
    for standing in table.standings:
        row = {"Rank": _rank_text(standing), "Classifier": standing.entry.name}
        row |= {METRICS[name].title: table.estimate(standing, name).text(2) for name in metrics}
        row |= {"Behind": standing.behind.text(2) if standing.behind else ""}
        row |= {"p": _p_text(standing.p_value), "Validation": _short(standing.validation)}
        rows.append(row)
    cells = pd.DataFrame(rows)
    empty = [name for name in ("Behind", "p", "Validation") if not cells[name].any()]
    return cells.drop(columns=empty)


def _rank_text(standing: Standing) -> str:
    if standing.ranks is None or standing.ranks[0] == standing.ranks[1] == standing.rank:
        return str(standing.rank)
    return f"{standing.rank} [{standing.ranks[0]}–{standing.ranks[1]}]"


def _p_text(p_value: float | None) -> str:
    if p_value is None:
        return ""
    return "<0.001" if p_value < 0.001 else f"{p_value:.3f}"


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _stacked(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """All tables under each other, numbered where there are several."""
    if len(frames) == 1:
        return frames[0]
    return pd.concat([each.assign(table=number) for number, each in enumerate(frames, 1)], ignore_index=True)


def _markdown(view: _View) -> str:
    cells = view.cells.map(lambda cell: cell.replace("|", "\\|"))
    lines = ["| " + " | ".join(row) + " |" for row in [list(cells.columns), ["---"] * len(cells.columns)]]
    lines += ["| " + " | ".join(row) + " |" for row in cells.itertuples(index=False)]
    statement = [f"**{view.table.evaluation.statement}**"] if view.table.evaluation.statement else []
    return "\n\n".join([f"Judged on {view.about}.", *statement, "\n".join(lines), *view.words.values()])


def _latex(view: _View) -> str:
    """A table with the rules of booktabs; the warning of a split stands in the caption."""
    statement = view.table.evaluation.statement
    caption = f"{METRICS[view.table.metric].title} of {len(view.cells)} classifiers, {view.about}."
    caption = _for_latex(" ".join([caption, *([statement.capitalize() + "."] if statement else [])]))
    cells = view.cells.map(_for_latex).rename(columns=_for_latex)
    return str(
        cells.to_latex(
            index=False, caption=caption, position="htbp", column_format="ll" + "r" * (len(cells.columns) - 2)
        )
    )


_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--", "<": "$<$"}


def _for_latex(words: str) -> str:
    return "".join(_LATEX.get(letter, f"\\{letter}" if letter in "&%$#_{}" else letter) for letter in words)
