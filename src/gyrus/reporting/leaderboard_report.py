"""The leaderboard: page, figures and tables (CSV, Markdown, LaTeX) of a comparison of classifiers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from gyrus.datasets.text_tables import write_csv
from gyrus.evaluation.comparison import labelled_rows
from gyrus.evaluation.leaderboard import Leaderboard, Standing, Table, describe
from gyrus.evaluation.metrics import ALL_METRICS, CLASS_METRICS
from gyrus.evaluation.result import Estimate, headlines_of, resampled_group, resampled_units, titles_of, unit_name
from gyrus.evaluation.roc import roc_curve
from gyrus.files import refuse_links, write_text
from gyrus.reporting.evaluation_figures import set_roc_axes, simplify_curve
from gyrus.reporting.figures import (
    COLOURS,
    COLUMN,
    INK,
    MUTED,
    Drawing,
    Picture,
    escape_math,
    figure_style,
    line_styles,
    new_figure,
    plot_estimate,
    save_drawings,
)
from gyrus.reporting.html import write_page
from gyrus.text import counted, markdown, p_value_text, visible

MOST_NAMES = 20
MOST_CURVES = 7
"""More curves than colours cannot be told apart."""


def write_leaderboard(folder: Path, board: Leaderboard) -> Path:
    """Write ``leaderboard.html``, ``.csv``, ``.md`` and ``.tex``, the scores of each class, and the figures.

    Returns:
        The page.

    Raises:
        GyrusError: A link leads out of the folder.
    """
    refuse_links(folder)
    views = []
    for number, table in enumerate(board.tables, 1):
        pictures = save_drawings(_drawings(number, table), folder / "figures")
        views.append(_View(table, _about(table), _cells(table), pictures, _notes(board, table)))
    frames = [frame(table) for table in board.tables]
    write_csv(_stacked(frames), folder / "leaderboard.csv")
    write_csv(_stacked([class_frame(table) for table in board.tables]), folder / "classes.csv")
    write_text(folder / "leaderboard.md", "\n\n".join([*map(markdown, describe(board)), *map(_markdown, views)]) + "\n")
    write_text(folder / "leaderboard.tex", "\n\n".join(_latex(view) for view in views) + "\n")
    content = _Page(folder.resolve().name, datetime.now(UTC).isoformat(timespec="seconds"), describe(board), views)
    return write_page(folder / "leaderboard.html", "leaderboard.html.j2", content)


def frame(table: Table) -> pd.DataFrame:
    """A table of the leaderboard with one row per classifier and plain numbers, for CSV and further analysis."""
    return pd.DataFrame([_row(table, standing) for standing in table.standings])


def class_frame(table: Table) -> pd.DataFrame:
    """One row per classifier and class: count, precision, recall, F1 and areas, each with its interval."""
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
    blocks = [*map(visible, describe(board)), ""]
    for number, table in enumerate(board.tables, 1):
        if len(board.tables) > 1:
            blocks.append(visible(f"Table {number}: {_about(table)}"))
        if table.evaluation.warning:
            blocks.append(f"WARNING: {table.evaluation.warning}")
        blocks += [_cells(table).map(visible).to_string(index=False), ""]
    return "\n".join(blocks).rstrip()


def ranking_figure(table: Table) -> Figure:
    """The ranking score of each classifier as a dot with its interval, the best on top."""
    scores = table.evaluation.scores[table.unit]
    longest = max(len(standing.entry.name) for standing in table.standings)
    with figure_style():
        width = min(2 * COLUMN, COLUMN + 0.055 * max(0, longest - 12))
        figure = new_figure(width, 1.05 + 0.26 * len(table.standings), table.evaluation.warning)
        axes = figure.subplots()
        colour = COLOURS[1] if table.evaluation.warning else COLOURS[0]
        most = ALL_METRICS[table.metric].most(len(table.evaluation.classes))
        if table.metric == "accuracy":
            axes.axvline(scores.majority_fraction, color=MUTED, linewidth=0.9, linestyle=(0, (3, 2)), zorder=0)
        for height, standing in enumerate(table.standings):
            estimate = table.estimate(standing)
            plot_estimate(axes, height, estimate, colour)
            if estimate.value is not None:
                place, text = (most, height), f"{estimate.value:.2f}"
                axes.annotate(text, place, (4, 0), textcoords="offset points", va="center", fontsize=7.5)
        axes.set_yticks(range(len(table.standings)), [escape_math(each.entry.name) for each in table.standings])
        lowest = min(0.0, *(table.estimate(each).low or 0.0 for each in table.standings))
        axes.set(ylim=(len(table.standings) - 0.5, -0.5), xlim=(lowest, most))
        axes.tick_params(axis="y", length=0)
        title = ALL_METRICS[table.metric].title
        axes.set_title(f"{title} by {unit_name(table.evaluation, scores)} (n = {scores.count:,})")
        figure.supxlabel(_key(table), fontsize=6.5, x=0.02, ha="left", color=MUTED)
    return figure


def overlaid_roc_figure(table: Table) -> Figure:
    """ROC curves of the best classifiers, one panel per class; for two classes only the second."""
    classes = table.evaluation.classes
    shown = classes[1:] if len(classes) == 2 else classes
    standings = table.standings[:MOST_CURVES]
    columns = min(len(shown), 2)
    rows = -(-len(shown) // columns)
    with figure_style():
        legend = 0.16 * (len(standings) + 1.5)
        figure = new_figure(COLUMN * columns, 3.05 * rows + legend, table.evaluation.warning)
        panels = np.atleast_1d(figure.subplots(rows, columns)).ravel()
        for axes, name in zip(panels, shown, strict=False):
            _curves(axes, table, name)
        for axes in panels[len(shown) :]:
            axes.set_visible(False)
        handles, labels = panels[0].get_legend_handles_labels()
        further = len(table.standings) - len(standings)
        title = f"Best {len(standings)} of {len(table.standings)}" if further else None
        figure.legend(handles, labels, loc="outside lower left", alignment="left", title=title, title_fontsize=7)
    return figure


def agreement_figure(table: Table) -> Figure:
    """Fraction of cases for which two classifiers predict the same class."""
    names = list(table.agreement.index)
    longest = max(map(len, names))
    with figure_style():
        side = 0.32 * len(names) + 0.06 * longest
        figure = new_figure(max(COLUMN, side + 0.9), max(1.6, side + 0.5))
        axes = figure.subplots()
        axes.set(xlim=(-0.5, len(names) - 0.5), ylim=(len(names) - 0.5, -0.5), aspect="equal")
        for (row, column), fraction in np.ndenumerate(table.agreement.to_numpy()):
            _cell(axes, row, column, float(fraction))
        labels = [escape_math(name) for name in names]
        axes.set_xticks(range(len(names)), labels, rotation=40, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(names)), labels)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_title("Agreement")
    return figure


@dataclass(frozen=True)
class _View:
    """A table of the page."""

    table: Table
    about: str
    cells: pd.DataFrame
    pictures: tuple[Picture, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Page:
    """The content of the page."""

    title: str
    created: str
    sentences: tuple[str, ...]
    views: Sequence[_View]


def _about(table: Table) -> str:
    scores = table.evaluation.scores[table.unit]
    counts = ", ".join(f"{count:,} {name}" for name, count in scores.class_counts.items())
    return f"{scores.count:,} {unit_name(table.evaluation, scores, scores.count)} ({counts})"


def _drawings(number: int, table: Table) -> list[Drawing]:
    drawings = [
        Drawing(
            f"ranking_{number}",
            ALL_METRICS[table.metric].title,
            "Dot: score. Line: confidence interval. Overlapping intervals do not show that two classifiers are equal; "
            "see the paired differences in the table.",
            ranking_figure(table),
        ),
    ]
    if len(table.standings) > 1:
        caption = (
            "Fraction of cases for which two classifiers predict the same class. High agreement of weak classifiers "
            "indicates shared errors."
        )
        drawings.append(Drawing(f"agreement_{number}", "Agreement", caption, agreement_figure(table)))
    drawings.append(
        Drawing(
            f"roc_{number}",
            "ROC curves",
            "Each class against all others. Dashed diagonal: chance.",
            overlaid_roc_figure(table),
        )
    )
    return drawings


def _notes(board: Leaderboard, table: Table) -> tuple[str, ...]:
    """How intervals and p-values were computed, and which cases all classifiers get wrong."""
    notes = []
    group, level = table.evaluation.group, f"{100 * board.level:g} %"
    if board.resamples:
        resamples = f"{board.resamples:,} bootstrap resamples of {resampled_units(group)}, the same for all classifiers"
        notes.append(f"Intervals: {level} confidence intervals from {resamples}.")
    if board.resamples and len(table.standings) > 1:
        number = len(table.standings) - 1
        notes[0] += (
            f" Interval of the rank: {level} of the resamples. Difference: paired difference from the first. p: paired "
            f"permutation test by {resampled_group(group)}, corrected for {counted(number, 'comparison')} (Holm)."
        )
    if len(table.standings) > 1:
        unit = unit_name(table.evaluation, table.evaluation.scores[table.unit], table.count)
        further = f" and {len(table.missed) - MOST_NAMES} more" if len(table.missed) > MOST_NAMES else ""
        names = f": {', '.join(table.missed[:MOST_NAMES])}{further}." if table.missed else "."
        notes.append(f"All classifiers are wrong on {len(table.missed)} of {table.count:,} {unit}{names}")
    return tuple(notes)


def _row(table: Table, standing: Standing) -> dict[str, object]:
    row: dict[str, object] = {"rank": standing.rank, "name": standing.entry.name}
    row |= {title.lower(): value for title, value in standing.entry.facts.items()}
    row |= {"split_unit": standing.evaluation.split_unit, "unit": table.unit, "count": table.count}
    for metric in titles_of(standing.evaluation.scores[table.unit]):
        row |= _numbers(metric, table.estimate(standing, metric))
    low, high = standing.ranks or (None, None)
    row |= {"ranked_by": table.metric, "rank_low": low, "rank_high": high}
    row |= _numbers("difference_from_first", standing.difference or Estimate(None))
    return row | {"p_holm": standing.p_value, "validation": standing.validation}


def _numbers(name: str, estimate: Estimate) -> dict[str, float | None]:
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def _cells(table: Table) -> pd.DataFrame:
    """The table as text, the ranking score first."""
    headlines = headlines_of(table.evaluation.scores[table.unit])
    metrics = [table.metric, *[name for name in headlines if name != table.metric]]
    rows = []
    for standing in table.standings:
        row = {"Rank": _rank_text(standing), "Classifier": standing.entry.name}
        row |= {ALL_METRICS[name].title: table.estimate(standing, name).text(2) for name in metrics}
        row |= {"Difference": standing.difference.text(2) if standing.difference else ""}
        row |= {"p": _p_text(standing.p_value), "Validation": _short(standing.validation)}
        rows.append(row)
    cells = pd.DataFrame(rows)
    empty = [name for name in ("Difference", "p", "Validation") if not cells[name].any()]
    return cells.drop(columns=empty)


def _rank_text(standing: Standing) -> str:
    if standing.ranks is None or standing.ranks[0] == standing.ranks[1] == standing.rank:
        return str(standing.rank)
    return f"{standing.rank} [{standing.ranks[0]}–{standing.ranks[1]}]"


def _p_text(p_value: float | None) -> str:
    if p_value is None:
        return ""
    return p_value_text(p_value).removeprefix("p ").removeprefix("= ")


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _stacked(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """All tables in one, numbered if there are several."""
    if len(frames) == 1:
        return frames[0]
    return pd.concat([each.assign(table=number) for number, each in enumerate(frames, 1)], ignore_index=True)


def _markdown(view: _View) -> str:
    cells = view.cells.map(markdown)
    lines = ["| " + " | ".join(row) + " |" for row in [list(cells.columns), ["---"] * len(cells.columns)]]
    lines += ["| " + " | ".join(row) + " |" for row in cells.itertuples(index=False)]
    statement = [f"**{markdown(view.table.evaluation.warning)}**"] if view.table.evaluation.warning else []
    notes = [markdown(note) for note in view.notes]
    return "\n\n".join([markdown(f"Evaluated on {view.about}."), *statement, "\n".join(lines), *notes])


def _latex(view: _View) -> str:
    """A table with the rules of booktabs; its caption holds the warning of the split."""
    statement = view.table.evaluation.warning
    caption = f"{ALL_METRICS[view.table.metric].title} of {len(view.cells)} classifiers, {view.about}."
    caption = _for_latex(" ".join([caption, *([statement.capitalize() + "."] if statement else [])]))
    cells = view.cells.map(_for_latex).rename(columns=_for_latex)
    return str(
        cells.to_latex(
            index=False, caption=caption, position="htbp", column_format="ll" + "r" * (len(cells.columns) - 2)
        )
    )


_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--", "<": "$<$"}


def _for_latex(text: str) -> str:
    return "".join(_LATEX.get(letter, f"\\{letter}" if letter in "&%$#_{}" else letter) for letter in visible(text))


def _key(table: Table) -> str:
    interval = f"Line: {100 * table.evaluation.level:g} % CI" if table.evaluation.resamples else ""
    dashes = "dashed: majority class" if table.metric == "accuracy" else ""
    return "; ".join(part for part in (interval, dashes) if part)


def _curves(axes: Axes, table: Table, class_name: str) -> None:
    set_roc_axes(axes)
    standings = table.standings[:MOST_CURVES]
    for standing, (name, colour, dashes) in zip(standings, line_styles([s.entry.name for s in standings]), strict=True):
        rows = labelled_rows(standing.entry.test, table.unit)
        positive = rows.targets == rows.classes.index(class_name)
        if positive.all() or not positive.any():
            continue
        curve = roc_curve(positive, rows.probabilities[:, rows.classes.index(class_name)])
        axes.plot(*simplify_curve(curve[0], curve[1]), color=colour, linestyle=dashes, label=escape_math(name))
    axes.set_title(escape_math(class_name))


def _cell(axes: Axes, row: int, column: int, fraction: float) -> None:
    shade = to_rgba(COLOURS[0], fraction**2)
    axes.add_patch(Rectangle((column - 0.485, row - 0.485), 0.97, 0.97, facecolor=shade, linewidth=0))
    colour = "white" if fraction > 0.9 else INK
    axes.text(column, row, f"{100 * fraction:.0f} %", ha="center", va="center", fontsize=6, color=colour)
