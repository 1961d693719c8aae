"""Confusion matrices and ROC curves.

Figures are one journal column wide and safe for colour-blind readers. Functions return matplotlib figures and change
no global state. After a split that is not by subject, the figure itself shows the warning.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from gyrus.evaluation.result import Evaluation, Scores, Unit, percent, unit_name
from gyrus.evaluation.roc import roc_curve
from gyrus.inference.pooling import pool_by_subject
from gyrus.inference.predictions import Predictions
from gyrus.reporting.drawing import Drawing
from gyrus.reporting.figure_style import (
    COLOURS,
    COLUMN,
    INK,
    MUTED,
    STYLE,
    add_warning,
    escape_math,
    line_styles,
    new_figure,
)


def draw_scores(predictions: Predictions, evaluation: Evaluation) -> tuple[Drawing, ...]:
    """Confusion matrix and ROC curves of each unit.

    Args:
        predictions: The predictions that ``evaluation`` was computed from.
        evaluation: The scores.
    """
    drawings = []
    for unit, scores in evaluation.scores.items():
        word = unit_name(evaluation, scores)
        drawings += [
            Drawing(
                f"confusion_{unit}",
                f"Confusion matrix by {word}",
                "Rows: true class; columns: predicted class. Counts, and percentages of each row.",
                confusion_figure(evaluation, unit),
            ),
            Drawing(
                f"roc_{unit}",
                f"ROC curves by {word}",
                "Each class against all others. Dashed diagonal: chance.",
                roc_figure(predictions, evaluation, unit),
            ),
        ]
    return tuple(drawings)


def confusion_figure(evaluation: Evaluation, unit: Unit) -> Figure:
    """The confusion matrix of a unit: counts, and row percentages, which also set the shade."""
    scores = evaluation.scores[unit]
    counts = np.array(scores.confusion)
    support = counts.sum(axis=1, keepdims=True)
    fractions = np.divide(counts, support, out=np.zeros(counts.shape), where=support > 0)
    with mpl.rc_context(STYLE):
        figure, axes = _canvas(evaluation, *_matrix_size(evaluation.classes))
        axes.set(xlim=(-0.5, len(counts) - 0.5), ylim=(len(counts) - 0.5, -0.5))
        for (row, column), fraction in np.ndenumerate(fractions):
            _cell(axes, row, column, int(counts[row, column]), float(fraction))
        _label_classes(axes, scores)
        axes.set_title(f"By {unit_name(evaluation, scores)}")
    return figure


def roc_figure(predictions: Predictions, evaluation: Evaluation, unit: Unit) -> Figure:
    """ROC curves of a unit, each class against all others, with area and interval.

    Args:
        predictions: The predictions that ``evaluation`` was computed from.
        evaluation: For the areas and their intervals.
        unit: "subject" averages the predictions of each subject first.
    """
    scores = evaluation.scores[unit]
    judged = predictions.select(predictions.targets >= 0)
    judged = pool_by_subject(judged) if unit == "subject" else judged
    with mpl.rc_context(STYLE):
        below = 0.16 * (len(predictions.classes) + 1)
        figure, axes = _canvas(evaluation, COLUMN, COLUMN + 0.25 + below)
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle=(0, (3, 3)))
        for index, (name, colour, dashes) in enumerate(line_styles(predictions.classes)):
            estimate = scores.by_class[name]["roc_auc"]
            if estimate.value is None:
                axes.plot([], [], color=colour, label=f"{escape_math(name)}: undefined, {estimate.note}")
                continue
            curve = roc_curve(judged.targets == index, judged.probabilities[:, index])
            label = f"{escape_math(name)}  {estimate.text(2)}"
            axes.plot(*simplify_curve(curve[0], curve[1]), color=colour, linestyle=dashes, label=label)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), box_aspect=1)
        axes.set(xlabel="False positive rate", ylabel="True positive rate")
        axes.set_title(f"By {unit_name(evaluation, scores)} (n = {scores.count:,})")
        figure.legend(loc="outside lower left", title=_area_title(evaluation), alignment="left", title_fontsize=7)
    return figure


def simplify_curve(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A curve without the points on straight stretches and without detail too fine to see."""
    keep = np.ones(len(x), bool)
    keep[1:-1] = (np.diff(x)[:-1] * np.diff(y)[1:]) != (np.diff(y)[:-1] * np.diff(x)[1:])
    x, y = x[keep], y[keep]
    seen = np.unique(np.round(np.column_stack([x, y]) * 2000), axis=0, return_index=True)[1]
    seen.sort()
    return x[seen], y[seen]


def _canvas(evaluation: Evaluation, width: float, height: float) -> tuple[Figure, Axes]:
    figure = new_figure(width, height + 0.32 * bool(evaluation.warning))
    add_warning(figure, evaluation.warning)
    return figure, figure.subplots()


def _matrix_size(classes: Sequence[str]) -> tuple[float, float]:
    """Width and height in inches with room for the class names and for a number in each cell."""
    longest = max(map(len, classes))
    names = 0.6 + 0.065 * longest
    width = max(COLUMN, names + 0.55 * len(classes))
    return width, 0.75 + 0.85 * (width - names) + (0.045 * longest if _is_slanted(classes) else 0)


def _is_slanted(classes: Sequence[str]) -> bool:
    return max(map(len, classes)) * len(classes) > 40


def _cell(axes: Axes, row: int, column: int, count: int, fraction: float) -> None:
    """A number on transparent blue, which works on paper and on a dark page."""
    shade = to_rgba(COLOURS[0], fraction)
    axes.add_patch(Rectangle((column - 0.485, row - 0.485), 0.97, 0.97, facecolor=shade, linewidth=0))
    if not count:
        axes.text(column, row, "0", ha="center", va="center", color=MUTED, fontsize=8)
        return
    colour = "white" if fraction > 0.9 else INK
    style: dict[str, Any] = {"ha": "center", "va": "center", "color": colour, "textcoords": "offset points"}
    axes.annotate(f"{count:,}", (column, row), (0, 4), fontsize=9, **style)
    axes.annotate(percent(fraction), (column, row), (0, -7), fontsize=6.5, **style)


def _label_classes(axes: Axes, scores: Scores) -> None:
    names = [escape_math(name) for name in scores.class_counts]
    counts = [f"{name}\n({count:,})" for name, count in zip(names, scores.class_counts.values(), strict=True)]
    slanted = _is_slanted(tuple(scores.class_counts))
    axes.set_xticks(range(len(names)), names, rotation=35 if slanted else 0, ha="right" if slanted else "center")
    axes.set_yticks(range(len(names)), counts)
    axes.set(xlabel="Predicted class", ylabel="True class (n)")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _area_title(evaluation: Evaluation) -> str:
    return f"Class, ROC AUC [{100 * evaluation.level:g} % CI]"
