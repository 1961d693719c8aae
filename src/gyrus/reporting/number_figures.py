"""Figures of predicted numbers: scatter, Bland-Altman plot, error along the range, feature map.

Figures are one journal column wide; after a split that is not by subject, the figure itself shows the warning.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from gyrus.evaluation.number_assessment import NumberAssessment, NumberGroupTable
from gyrus.evaluation.number_evaluate import labelled_numbers
from gyrus.evaluation.number_result import NumberEvaluation
from gyrus.evaluation.result import Unit, unit_name
from gyrus.files import open_arrays, reading
from gyrus.inference.number_predictions import NumberPredictions
from gyrus.inference.number_rule import IntervalRule
from gyrus.reporting.figures import (
    COLOURS,
    COLUMN,
    INK,
    MUTED,
    Drawing,
    escape_math,
    figure_style,
    new_figure,
    plot_estimate,
)


def draw_number_scores(
    predictions: NumberPredictions, evaluation: NumberEvaluation, rule: IntervalRule | None = None
) -> tuple[Drawing, ...]:
    """Scatter and Bland-Altman plot of each unit; ``evaluation`` was computed from ``predictions``."""
    drawings = []
    for scores in evaluation.shown_scores:
        unit, word, name = scores.unit, unit_name(evaluation, scores), evaluation.target.name
        own = rule if unit == evaluation.headline.unit else None
        band = f" Lines: prediction intervals with a target coverage of {100 * own.level:g} %." if own else ""
        drawings += [
            Drawing(
                f"scatter_{unit}",
                f"Predicted and true {name} by {word}",
                f"On the dashed diagonal the prediction is right.{band}",
                scatter_figure(predictions, evaluation, unit, own),
            ),
            Drawing(
                f"bland_altman_{unit}",
                f"Bland-Altman plot by {word}",
                "Difference by the mean of prediction and truth. Solid line: mean difference; dashed lines: limits of "
                "agreement, 1.96 standard deviations from it. A slope shows predictions that tend to the mean.",
                bland_altman_figure(predictions, evaluation, unit),
            ),
        ]
    return tuple(drawings)


def scatter_figure(
    predictions: NumberPredictions, evaluation: NumberEvaluation, unit: Unit, rule: IntervalRule | None = None
) -> Figure:
    """The prediction by the true number, with the diagonal and prediction intervals."""
    rows = labelled_numbers(predictions, unit)
    truth, found = rows.targets, rows.predicted
    scores, name = evaluation.scores[unit], escape_math(evaluation.target.name)
    ends = [min(truth.min(), found.min()), max(truth.max(), found.max())]
    margin = 0.04 * (ends[1] - ends[0] or 1.0)
    with figure_style():
        figure = new_figure(COLUMN, COLUMN + 0.1, evaluation.warning)
        axes = figure.subplots()
        axes.plot(ends, ends, color=MUTED, linewidth=0.8, linestyle=(0, (3, 3)))
        if rule and rule.limit is not None:
            low, high = rule.ends(found, rows.quantiles)
            axes.vlines(truth, low, high, color=COLOURS[5], linewidth=0.7, alpha=0.6)
        axes.scatter(truth, found, s=10, color=COLOURS[0], alpha=0.8, linewidths=0, zorder=3)
        axes.set(xlim=(ends[0] - margin, ends[1] + margin), box_aspect=1)
        axes.set(xlabel=f"True {name}", ylabel=f"Predicted {name}")
        axes.set_title(f"MAE {scores.metrics['mae'].text(1)} (n = {scores.count:,})")
    return figure


def bland_altman_figure(predictions: NumberPredictions, evaluation: NumberEvaluation, unit: Unit) -> Figure:
    """The difference of prediction and truth by their mean (Bland and Altman 1986)."""
    rows = labelled_numbers(predictions, unit)
    difference, mean = rows.predicted - rows.targets, (rows.predicted + rows.targets) / 2
    name = escape_math(evaluation.target.name)
    centre, spread = float(difference.mean()), float(difference.std(ddof=1)) if len(difference) > 1 else 0.0
    with figure_style():
        figure = new_figure(COLUMN, 0.85 * COLUMN, evaluation.warning)
        axes = figure.subplots()
        axes.axhline(0, color=MUTED, linewidth=0.6)
        axes.axhline(centre, color=INK, linewidth=1)
        for end in (centre - 1.96 * spread, centre + 1.96 * spread):
            axes.axhline(end, color=INK, linewidth=0.8, linestyle=(0, (4, 1.5)))
        axes.scatter(mean, difference, s=10, color=COLOURS[0], alpha=0.8, linewidths=0, zorder=3)
        axes.set(xlabel=f"Mean of predicted and true {name}", ylabel="Predicted minus true")
        axes.set_title(f"{centre:.1f} ± {1.96 * spread:.1f} (n = {len(difference):,})")
    return figure


def draw_number_assessment(assessment: NumberAssessment, warning: str) -> tuple[Drawing, ...]:
    """The error along the range of the number."""
    if not assessment.along.groups:
        return ()
    name = assessment.target.name
    return (
        Drawing(
            "error_along_range",
            f"Error along the range of {name}",
            "Mean error and mean absolute error in bands with equal numbers of subjects, before the correction. A mean "
            "error that falls from left to right shows predictions that tend to the mean.",
            groups_figure([assessment.along], warning),
        ),
    )


def draw_number_subgroups(tables: Sequence[NumberGroupTable], warning: str) -> tuple[Drawing, ...]:
    """The errors of every subgroup; empty if there is none."""
    if not any(table.groups for table in tables):
        return ()
    caption = "In brackets: number evaluated. Small subgroups differ by chance alone."
    return (Drawing("groups", "Subgroups", caption, groups_figure(tables, warning)),)


def groups_figure(tables: Sequence[NumberGroupTable], warning: str) -> Figure:
    """Mean absolute error and mean error of groups as dots with their intervals; at least one table has groups."""
    rows = [(table, group) for table in tables for group in table.groups]
    with figure_style():
        figure = new_figure(COLUMN * 1.3, 0.95 + 0.34 * len(rows), warning)
        axes = figure.subplots()
        axes.axvline(0, color=MUTED, linewidth=0.6)
        for place, (_, group) in enumerate(rows):
            plot_estimate(axes, place - 0.14, group.trend.mae, COLOURS[0])
            plot_estimate(axes, place + 0.14, group.trend.bias, COLOURS[1])
        labels = [f"{escape_math(table.column)} {escape_math(group.name)} ({group.count})" for table, group in rows]
        axes.set_yticks(range(len(rows)), labels)
        axes.set(ylim=(len(rows) - 0.5, -0.5), xlabel="Error")
        axes.tick_params(axis="y", length=0)
        for colour, label in ((COLOURS[0], "mean absolute error"), (COLOURS[1], "mean error")):
            axes.plot([], [], "o", color=colour, markersize=4.5, label=label)
        figure.legend(loc="outside lower left", ncols=2)
    return figure


def draw_number_map(predictions: NumberPredictions, embeddings: Path) -> tuple[Drawing, ...]:
    """The map of feature vectors coloured by the true number, where it was saved."""
    if not embeddings.is_file():
        return ()
    with reading(embeddings, "embeddings of these predictions"), open_arrays(embeddings) as saved:
        points, rows = saved["map"], saved["rows"]
    name = escape_math(predictions.target.name)
    with figure_style():
        figure = new_figure(COLUMN, COLUMN, predictions.warning)
        axes = figure.subplots()
        values = predictions.targets[np.asarray(rows)]
        drawn = axes.scatter(points[:, 0], points[:, 1], s=7, c=values, cmap="viridis", alpha=0.85, linewidths=0)
        axes.set(xticks=[], yticks=[])
        axes.set_box_aspect(1)
        axes.set_title(f"True {name}")
        figure.colorbar(drawn, ax=axes, shrink=0.7)
    caption = (
        "t-SNE of the feature vectors before the last layer, one point per image. Distances between distant points "
    )
    return (Drawing("embedding_map", "Feature space of the network", f"{caption}mean little.", figure),)
