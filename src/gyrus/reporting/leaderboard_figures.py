"""The figures of a comparison: scores with intervals, overlaid ROC curves, agreement."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from gyrus.evaluation.leaderboard import Table
from gyrus.evaluation.metrics import METRICS
from gyrus.evaluation.roc import roc_curve
from gyrus.evaluation.text import unit_word
from gyrus.inference.pooling import pool_by_subject
from gyrus.inference.predictions import Predictions
from gyrus.reporting.evaluation_figures import corners
from gyrus.reporting.figure_style import COLOURS, COLUMN, INK, MUTED, STYLE, lines, new_figure, plain, warn

MOST_CURVES = 7
"""More curves than colours cannot be told apart."""


def ranking_figure(table: Table) -> Figure:
    """The deciding score of each classifier as a dot with its interval, the best on top.

    Args:
        table: Classifiers that were judged on the same people.
    """
    scores = table.evaluation.scores[table.unit]
    longest = max(len(standing.entry.name) for standing in table.standings)
    with mpl.rc_context(STYLE):
        width = min(2 * COLUMN, COLUMN + 0.055 * max(0, longest - 12))
        figure = new_figure(width, 1.05 + 0.26 * len(table.standings))
        warn(figure, table.evaluation.statement)
        axes = figure.subplots()
        colour = COLOURS[1] if table.evaluation.statement else COLOURS[0]
        if table.metric == "accuracy":
            axes.axvline(scores.majority_share, color=MUTED, linewidth=0.9, linestyle=(0, (3, 2)), zorder=0)
        for height, standing in enumerate(table.standings):
            estimate = table.estimate(standing)
            if estimate.value is None:
                axes.text(0.02, height, "undefined", va="center", color=MUTED, fontsize=7)
                continue
            if estimate.low is not None and estimate.high is not None:
                axes.plot([estimate.low, estimate.high], [height] * 2, color=colour, linewidth=1.6, alpha=0.55)
            axes.plot(estimate.value, height, "o", color=colour, markersize=4.5)
            axes.annotate(
                f"{estimate.value:.2f}", (1.0, height), (4, 0), textcoords="offset points", va="center", fontsize=7.5
            )
        axes.set_yticks(range(len(table.standings)), [plain(each.entry.name) for each in table.standings])
        axes.set(ylim=(len(table.standings) - 0.5, -0.5), xlim=(min(0.0, *_lows(table)), 1.0))
        axes.tick_params(axis="y", length=0)
        axes.set_title(f"{METRICS[table.metric].title} by {unit_word(table.evaluation, scores)} ({scores.count:,})")
        figure.supxlabel(_key(table), fontsize=6.5, x=0.02, ha="left", color=MUTED)
    return figure


def overlaid_roc_figure(table: Table) -> Figure:
    """ROC curves of the first classifiers over each other, one panel a class; of two classes the second is enough."""
    classes = table.evaluation.classes
    shown = classes[1:] if len(classes) == 2 else classes
    standings = table.standings[:MOST_CURVES]
    columns = min(len(shown), 2)
    rows = -(-len(shown) // columns)
    with mpl.rc_context(STYLE):
        legend = 0.16 * (len(standings) + 1.5)
        figure = new_figure(COLUMN * columns, 3.05 * rows + legend + 0.3 * bool(table.evaluation.statement))
        warn(figure, table.evaluation.statement)
        panels = np.atleast_1d(figure.subplots(rows, columns)).ravel()
        for axes, name in zip(panels, shown, strict=False):
            _curves(axes, table, name)
        for axes in panels[len(shown) :]:
            axes.set_visible(False)
        handles, labels = panels[0].get_legend_handles_labels()
        further = len(table.standings) - len(standings)
        title = f"The first {len(standings)} of {len(table.standings)}" if further else None
        figure.legend(handles, labels, loc="outside lower left", alignment="left", title=title, title_fontsize=7)
    return figure


def agreement_figure(table: Table) -> Figure:
    """For what share of the judged two classifiers choose the same class."""
    names = list(table.agreement.index)
    longest = max(map(len, names))
    with mpl.rc_context(STYLE):
        side = 0.32 * len(names) + 0.06 * longest
        figure = new_figure(max(COLUMN, side + 0.9), max(1.6, side + 0.5))
        axes = figure.subplots()
        axes.set(xlim=(-0.5, len(names) - 0.5), ylim=(len(names) - 0.5, -0.5), aspect="equal")
        for (row, column), share in np.ndenumerate(table.agreement.to_numpy()):
            _share(axes, row, column, float(share))
        labels = [plain(name) for name in names]
        axes.set_xticks(range(len(names)), labels, rotation=40, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(names)), labels)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_title("The same answer")
    return figure


def _lows(table: Table) -> list[float]:
    return [table.estimate(each).low or 0.0 for each in table.standings]


def _key(table: Table) -> str:
    interval = f"Line: {table.evaluation.level:.0%} interval" if table.evaluation.resamples else ""
    dashes = "dashes: always saying the most frequent class" if table.metric == "accuracy" else ""
    return "; ".join(part for part in (interval, dashes) if part)


def _judged(predictions: Predictions, table: Table) -> Predictions:
    judged = predictions.select(predictions.targets >= 0)
    return pool_by_subject(judged) if table.unit == "subject" else judged


def _curves(axes: Axes, table: Table, class_name: str) -> None:
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle=(0, (3, 3)))
    standings = table.standings[:MOST_CURVES]
    for standing, (name, colour, dashes) in zip(standings, lines([s.entry.name for s in standings]), strict=True):
        judged = _judged(standing.entry.test, table)
        positive = judged.targets == judged.classes.index(class_name)
        if positive.all() or not positive.any():
            continue
        curve = roc_curve(positive, judged.probabilities[:, judged.classes.index(class_name)])
        axes.plot(*corners(curve[0], curve[1]), color=colour, linestyle=dashes, label=plain(name))
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), box_aspect=1)
    axes.set(xlabel="False positive rate", ylabel="True positive rate")
    axes.set_title(plain(class_name))


def _share(axes: Axes, row: int, column: int, share: float) -> None:
    shade = to_rgba(COLOURS[0], share**2)
    axes.add_patch(Rectangle((column - 0.485, row - 0.485), 0.97, 0.97, facecolor=shade, linewidth=0))
    colour = "white" if share > 0.9 else INK
    axes.text(column, row, f"{share:.0%}", ha="center", va="center", fontsize=6, color=colour)
