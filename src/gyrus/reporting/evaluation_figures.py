"""The figures of an evaluation: sober, colour-blind safe, one column of a journal wide; two fill a double column.

Each function returns a matplotlib Figure and touches no global state. A result of a split that is not by subject
carries its warning in the figure itself.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from gyrus.evaluation.metrics import METRICS
from gyrus.evaluation.result import Evaluation, Scores, Unit
from gyrus.evaluation.roc import roc_curve
from gyrus.evaluation.text import percent, unit_word
from gyrus.files import atomic_path
from gyrus.inference.pooling import pool_by_subject
from gyrus.inference.predictions import Predictions
from gyrus.reporting.figure_style import COLOURS, COLUMN, INK, MUTED, STYLE, WARNING, lines, new_figure, plain, warn


def confusion_figure(evaluation: Evaluation, unit: Unit) -> Figure:
    """The confusion matrix of a unit: counts, and below them the share of the true class, which sets the shade."""
    scores = evaluation.scores[unit]
    counts = np.array(scores.confusion)
    support = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, support, out=np.zeros(counts.shape), where=support > 0)
    with mpl.rc_context(STYLE):
        figure, axes = _canvas(evaluation, *_matrix_size(evaluation.classes))
        axes.set(xlim=(-0.5, len(counts) - 0.5), ylim=(len(counts) - 0.5, -0.5))
        for (row, column), share in np.ndenumerate(shares):
            _cell(axes, row, column, int(counts[row, column]), float(share))
        _label_classes(axes, scores)
        axes.set_title(f"By {unit_word(evaluation, scores)}")
    return figure


def roc_figure(predictions: Predictions, evaluation: Evaluation, unit: Unit) -> Figure:
    """ROC curves of a unit, each class against the rest, with its area and interval.

    Args:
        predictions: The predictions that ``evaluation`` was made from.
        evaluation: For the areas and their intervals.
        unit: "subject" pools the slices first.
    """
    scores = evaluation.scores[unit]
    judged = predictions.select(predictions.targets >= 0)
    judged = pool_by_subject(judged) if unit == "subject" else judged
    with mpl.rc_context(STYLE):
        below = 0.16 * (len(predictions.classes) + 1)
        figure, axes = _canvas(evaluation, COLUMN, COLUMN + 0.25 + below)
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle=(0, (3, 3)))
        for index, (name, colour, dashes) in enumerate(lines(predictions.classes)):
            estimate = scores.by_class[name]["roc_auc"]
            if estimate.value is None:
                axes.plot([], [], color=colour, label=f"{plain(name)}: undefined, {estimate.note}")
                continue
            curve = roc_curve(judged.targets == index, judged.probabilities[:, index])
            label = f"{plain(name)}  {estimate.text(2)}"
            axes.plot(*corners(curve[0], curve[1]), color=colour, linestyle=dashes, label=label)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), box_aspect=1)
        axes.set(xlabel="False positive rate", ylabel="True positive rate")
        axes.set_title(f"By {unit_word(evaluation, scores)} ({scores.count:,})")
        figure.legend(loc="outside lower left", title=_area_title(evaluation), alignment="left", title_fontsize=7)
    return figure


def comparison_figure(evaluations: Mapping[str, Evaluation], metric: str = "accuracy") -> Figure:
    """One score of several evaluations side by side with intervals, by subject and by image.

    Args:
        evaluations: By the name to show.
        metric: A name of :data:`gyrus.evaluation.metrics.METRICS`.
    """
    rows = [(name, each, scores) for name, each in evaluations.items() for scores in each.scores.values()]
    with mpl.rc_context(STYLE):
        figure = new_figure(COLUMN, 1.4 + 0.42 * len(rows))
        warn(figure, next((f"Orange bars, {each.statement}" for _, each, _ in rows if each.statement), ""))
        axes = figure.subplots()
        for height, (_, evaluation, scores) in enumerate(rows):
            _bar(axes, height, evaluation, scores, metric)
        labels = [f"{plain(name)},\njudged by {unit_word(each, scores)}" for name, each, scores in rows]
        axes.set_yticks(range(len(rows)), labels)
        axes.set(ylim=(len(rows) - 0.5, -0.5), xlim=(0, 1.0))
        axes.tick_params(axis="y", length=0)
        axes.set_title(METRICS[metric].title)
        figure.supxlabel(_bar_key(rows[0][1], metric), fontsize=6.5, x=0.02, ha="left", color=MUTED)
    return figure


def save_png(figure: Figure, path: Path) -> None:
    """Write a figure, 150 dpi, atomically; the same figure, the same bytes."""
    with atomic_path(path) as temporary:
        _draw(figure, temporary, dpi=150, metadata={"Software": None})


def draw_svg(figure: Figure) -> str:
    """The figure as an SVG document without a background; the same figure, the same text."""
    text = io.StringIO()
    _draw(figure, text, format="svg", transparent=True, metadata={"Date": None})
    return text.getvalue()


def on_white(svg: str) -> str:
    """An SVG document of :func:`draw_svg` with a white background, for a file by itself."""
    start = svg.index(">", svg.index("<svg")) + 1
    return f'{svg[:start]}\n <rect width="100%" height="100%" fill="#ffffff"/>{svg[start:]}'


def inline(svg: str, name: str) -> str:
    """An SVG document of :func:`draw_svg` as an element of a page, in the page's own colours of text and warning.

    Args:
        svg: The document.
        name: Unique in the page; put before all ids, so that figures do not share any.
    """
    svg = re.sub(
        r"<metadata>.*?</metadata>|\s?xmlns(:xlink)?=\"[^\"]*\"", "", svg[svg.index("<svg") :], flags=re.DOTALL
    )
    svg = svg.replace(INK, "currentColor").replace(WARNING, "var(--warn)").replace("xlink:href", "href")
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    return re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", svg)


def corners(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A curve without the points on its straight stretches, and no finer than can be seen."""
    keep = np.ones(len(x), bool)
    keep[1:-1] = (np.diff(x)[:-1] * np.diff(y)[1:]) != (np.diff(y)[:-1] * np.diff(x)[1:])
    x, y = x[keep], y[keep]
    seen = np.unique(np.round(np.column_stack([x, y]) * 2000), axis=0, return_index=True)[1]
    seen.sort()
    return x[seen], y[seen]


def _draw(figure: Figure, target: Path | IO[str], **how: Any) -> None:
    with mpl.rc_context(STYLE):
        figure.savefig(target, **how)
    # Its parts are in place now; to fit them together takes half of the time of a drawing.
    figure.set_layout_engine("none")


def _canvas(evaluation: Evaluation, width: float, height: float) -> tuple[Figure, Axes]:
    figure = new_figure(width, height + 0.32 * bool(evaluation.statement))
    warn(figure, evaluation.statement)
    return figure, figure.subplots()


def _matrix_size(classes: Sequence[str]) -> tuple[float, float]:
    """Width and height in inches that leave room for the names and for a number in each cell."""
    longest = max(map(len, classes))
    names = 0.6 + 0.065 * longest
    width = max(COLUMN, names + 0.55 * len(classes))
    return width, 0.75 + 0.85 * (width - names) + (0.045 * longest if _is_slanted(classes) else 0)


def _is_slanted(classes: Sequence[str]) -> bool:
    return max(map(len, classes)) * len(classes) > 40


def _cell(axes: Axes, row: int, column: int, count: int, share: float) -> None:
    """A number on a blue that fades into the background, so that it works on paper and on a dark page."""
    shade = to_rgba(COLOURS[0], share)
    axes.add_patch(Rectangle((column - 0.485, row - 0.485), 0.97, 0.97, facecolor=shade, linewidth=0))
    if not count:
        axes.text(column, row, "0", ha="center", va="center", color=MUTED, fontsize=8)
        return
    colour = "white" if share > 0.9 else INK
    style: dict[str, Any] = {"ha": "center", "va": "center", "color": colour, "textcoords": "offset points"}
    axes.annotate(f"{count:,}", (column, row), (0, 4), fontsize=9, **style)
    axes.annotate(percent(share), (column, row), (0, -7), fontsize=6.5, **style)


def _label_classes(axes: Axes, scores: Scores) -> None:
    names = [plain(name) for name in scores.class_counts]
    counts = [f"{name}\n({count:,})" for name, count in zip(names, scores.class_counts.values(), strict=True)]
    slanted = _is_slanted(tuple(scores.class_counts))
    axes.set_xticks(range(len(names)), names, rotation=35 if slanted else 0, ha="right" if slanted else "center")
    axes.set_yticks(range(len(names)), counts)
    axes.set(xlabel="Predicted class", ylabel="True class (number)")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _area_title(evaluation: Evaluation) -> str:
    return f"Class against the rest, ROC AUC [{evaluation.level:.0%} interval]"


def _bar(axes: Axes, height: int, evaluation: Evaluation, scores: Scores, metric: str) -> None:
    estimate = scores.metrics[metric]
    colour = COLOURS[1] if evaluation.statement else COLOURS[0]
    axes.barh(height, estimate.value or 0.0, height=0.56, color=colour, alpha=0.85, linewidth=0)
    end = estimate.value or 0.0
    if estimate.low is not None and estimate.high is not None:
        axes.plot([estimate.low, estimate.high], [height, height], color=INK, linewidth=1.1)
        end = max(end, estimate.high)
    axes.text(end + 0.015, height, estimate.text(2).split(" ")[0], va="center", fontsize=7.5)
    if metric == "accuracy":
        axes.plot([scores.majority_share] * 2, [height - 0.36, height + 0.36], color=INK, linewidth=1.1, linestyle=":")


def _bar_key(evaluation: Evaluation, metric: str) -> str:
    interval = f"Line: {evaluation.level:.0%} interval"
    return f"{interval}; dots: always saying the most frequent class" if metric == "accuracy" else interval
