"""Figures of scores: confusion matrices, ROC curves, calibration, decision curve, risk by coverage, subgroups.

Figures are one journal column wide and safe for colour-blind readers. Functions return matplotlib figures and change
no global state. After a split that is not by subject, the figure itself shows the warning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from gyrus.evaluation.assessment import Assessment
from gyrus.evaluation.calibration_metrics import Calibration
from gyrus.evaluation.comparison import labelled_rows
from gyrus.evaluation.decision_curve import DecisionCurve
from gyrus.evaluation.metrics import METRICS, stage_scores
from gyrus.evaluation.result import MOST_CLASSES_SHOWN, Estimate, Evaluation, Unit, percent, unit_name
from gyrus.evaluation.roc import roc_curve
from gyrus.evaluation.selective_prediction import SelectivePrediction
from gyrus.evaluation.subgroups import SubgroupTable
from gyrus.inference.predictions import Predictions
from gyrus.reporting.figures import (
    COLOURS,
    COLUMN,
    INK,
    MUTED,
    Drawing,
    escape_math,
    figure_style,
    line_styles,
    new_figure,
    plot_estimate,
)

UNCALIBRATED, CALIBRATED = COLOURS[1], COLOURS[0]

SUBGROUP_METRIC = "accuracy"
"""The score of the subgroup figure; it is defined even if a class is missing."""


def draw_scores(predictions: Predictions, evaluation: Evaluation) -> tuple[Drawing, ...]:
    """Confusion matrix and ROC curves of each unit; ``evaluation`` was computed from ``predictions``."""
    drawings = []
    for scores in evaluation.shown_scores:
        unit, word = scores.unit, unit_name(evaluation, scores)
        drawings += [
            Drawing(
                f"confusion_{unit}",
                f"Confusion matrix by {word}",
                "Rows: true class; columns: predicted class. Counts, and percentages of each row."
                + (" The classes are in the order of their stages." if scores.by_cut else ""),
                confusion_figure(evaluation, unit),
            ),
            Drawing(
                f"roc_{unit}",
                f"ROC curves by {word}",
                "Each class against all others. Dashed diagonal: chance.",
                roc_figure(predictions, evaluation, unit),
            ),
        ]
        if scores.by_cut:
            drawings.append(
                Drawing(
                    f"roc_cuts_{unit}",
                    f"ROC curves of the cuts between stages by {word}",
                    f"Each cut: every {word} of at least this stage against those below it, by the summed probability "
                    "of these stages. Dashed diagonal: chance.",
                    cuts_figure(predictions, evaluation, unit),
                )
            )
    return tuple(drawings)


def confusion_figure(evaluation: Evaluation, unit: Unit) -> Figure:
    """The confusion matrix of a unit: counts, and row percentages, which also set the shade."""
    scores = evaluation.scores[unit]
    shown = tuple(scores.class_counts)[:MOST_CLASSES_SHOWN]
    counts = np.array(scores.confusion)
    support = counts.sum(axis=1, keepdims=True)[: len(shown)]
    counts = counts[: len(shown), : len(shown)]
    fractions = np.divide(counts, support, out=np.zeros(counts.shape), where=support > 0)
    with figure_style():
        figure = new_figure(*_matrix_size(shown), evaluation.warning)
        axes = figure.subplots()
        axes.set(xlim=(-0.5, len(counts) - 0.5), ylim=(len(counts) - 0.5, -0.5))
        for (row, column), fraction in np.ndenumerate(fractions):
            _cell(axes, row, column, int(counts[row, column]), float(fraction))
        _label_classes(axes, {name: scores.class_counts[name] for name in shown})
        axes.set_title(_title(f"By {unit_name(evaluation, scores)}", evaluation))
    return figure


def _title(text: str, evaluation: Evaluation) -> str:
    """A title with the classes that are not drawn, if any."""
    number = len(evaluation.classes)
    return f"{text}, first {MOST_CLASSES_SHOWN} of {number:,} classes" if number > MOST_CLASSES_SHOWN else text


def roc_figure(predictions: Predictions, evaluation: Evaluation, unit: Unit) -> Figure:
    """ROC curves of a unit, each class against all others, with areas and intervals of the evaluation."""
    scores = evaluation.scores[unit]
    rows = labelled_rows(predictions, unit)
    with figure_style():
        shown = predictions.classes[:MOST_CLASSES_SHOWN]
        probabilities = rows.probabilities
        legend = 0.16 * (len(shown) + 1)
        figure = new_figure(COLUMN, COLUMN + 0.25 + legend, evaluation.warning)
        axes = figure.subplots()
        set_roc_axes(axes)
        for index, (name, colour, dashes) in enumerate(line_styles(shown)):
            estimate = scores.by_class[name]["roc_auc"]
            if estimate.value is None:
                axes.plot([], [], color=colour, label=f"{escape_math(name)}: undefined, {estimate.note}")
                continue
            curve = roc_curve(rows.targets == index, probabilities[:, index])
            label = f"{escape_math(name)}  {estimate.text(2)}"
            axes.plot(*simplify_curve(curve[0], curve[1]), color=colour, linestyle=dashes, label=label)
        axes.set_title(_title(f"By {unit_name(evaluation, scores)} (n = {scores.count:,})", evaluation))
        title = f"Class, ROC AUC [{100 * evaluation.level:g} % CI]"
        figure.legend(loc="outside lower left", title=title, alignment="left", title_fontsize=7)
    return figure


def cuts_figure(predictions: Predictions, evaluation: Evaluation, unit: Unit) -> Figure:
    """ROC curves of a unit at the cuts between ordered classes, with areas and intervals of the evaluation."""
    scores = evaluation.scores[unit]
    rows = labelled_rows(predictions, unit)
    at_least = stage_scores(rows.probabilities)
    with figure_style():
        shown = predictions.classes[1:][:MOST_CLASSES_SHOWN]
        figure = new_figure(COLUMN, COLUMN + 0.25 + 0.16 * (len(shown) + 1), evaluation.warning)
        axes = figure.subplots()
        set_roc_axes(axes)
        for index, (name, colour, dashes) in enumerate(line_styles(shown)):
            estimate = scores.by_cut[name]
            if estimate.value is None:
                axes.plot([], [], color=colour, label=f"{escape_math(name)}: undefined, {estimate.note}")
                continue
            curve = roc_curve(rows.targets > index, at_least[:, index])
            label = f"at least {escape_math(name)}  {estimate.text(2)}"
            axes.plot(*simplify_curve(curve[0], curve[1]), color=colour, linestyle=dashes, label=label)
        axes.set_title(_title(f"Cuts by {unit_name(evaluation, scores)} (n = {scores.count:,})", evaluation))
        title = f"Cut, ROC AUC [{100 * evaluation.level:g} % CI]"
        figure.legend(loc="outside lower left", title=title, alignment="left", title_fontsize=7)
    return figure


def set_roc_axes(axes: Axes) -> None:
    """The axes of ROC curves, with the diagonal of chance."""
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle=(0, (3, 3)))
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), box_aspect=1)
    axes.set(xlabel="False positive rate", ylabel="True positive rate")


def simplify_curve(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A curve without the points on straight stretches and without detail too fine to see."""
    keep = np.ones(len(x), bool)
    keep[1:-1] = (np.diff(x)[:-1] * np.diff(y)[1:]) != (np.diff(y)[:-1] * np.diff(x)[1:])
    x, y = x[keep], y[keep]
    seen = np.unique(np.round(np.column_stack([x, y]) * 2000), axis=0, return_index=True)[1]
    seen.sort()
    return x[seen], y[seen]


def draw_assessment(assessment: Assessment) -> tuple[Drawing, ...]:
    """Reliability diagram, decision curve and risk-coverage curve."""
    drawings = [
        Drawing(
            "reliability",
            "Reliability diagram",
            "Accuracy by predicted probability, in bins. On the diagonal the probabilities are calibrated.",
            reliability_figure(assessment),
        )
    ]
    if assessment.curve:
        positive = " or ".join(assessment.curve.positive)
        caption = (
            f"Net benefit of treating subjects with a predicted probability of '{positive}' above the threshold. The "
            "classifier is useful where its curve lies above both others. A threshold of 20 % weighs one missed case "
            "like four false positives."
        )
        drawings.append(
            Drawing("decision_curve", "Decision curve", caption, decision_figure(assessment.curve, assessment.warning))
        )
    caption = (
        "Error rate on the most confident predictions, by the fraction of predictions kept (coverage). A curve that "
        "rises to the right shows that confidence separates correct from wrong predictions."
    )
    figure = risk_coverage_figure(assessment.selective_prediction, assessment.warning)
    return (*drawings, Drawing("risk_coverage", "Risk-coverage curve", caption, figure))


def draw_subgroups(tables: tuple[SubgroupTable, ...], warning: str) -> tuple[Drawing, ...]:
    """The accuracy of every subgroup of the test set; empty if there is none."""
    if not any(table.groups for table in tables):
        return ()
    caption = "In brackets: number evaluated. Small subgroups differ by chance alone."
    figure = subgroups_figure(tables, SUBGROUP_METRIC, METRICS[SUBGROUP_METRIC].title, warning)
    return (Drawing("groups", "Subgroups", caption, figure),)


def reliability_figure(assessment: Assessment) -> Figure:
    """Accuracy by predicted probability, before and after calibration."""
    with figure_style():
        figure = new_figure(COLUMN, COLUMN + 0.45, assessment.warning)
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle=(0, (3, 3)))
        if assessment.after is None:
            _reliability(axes, assessment.before, CALIBRATED, "Uncalibrated", 0.0)
        else:
            _reliability(axes, assessment.before, UNCALIBRATED, "Uncalibrated", -0.006)
            _reliability(axes, assessment.after, CALIBRATED, "Calibrated on the validation set", 0.006)
        axes.set(xlim=(0, 1.02), ylim=(-0.02, 1.02), box_aspect=1)
        axes.set(xlabel="Probability of the predicted class", ylabel="Accuracy")
        axes.set_title(f"Reliability (n = {assessment.test_count:,})")
        figure.legend(loc="outside lower left")
    return figure


def decision_figure(curve: DecisionCurve, warning: str) -> Figure:
    """Net benefit by threshold probability on the test set."""
    thresholds = [point.threshold for point in curve.points]
    with figure_style():
        figure = new_figure(COLUMN, COLUMN, warning)
        axes = figure.subplots()
        _band(axes, thresholds, [point.model for point in curve.points], "Classifier")
        treat_all = [point.treat_all for point in curve.points]
        axes.plot(thresholds, treat_all, color=UNCALIBRATED, linestyle=(0, (4, 1.5)), label="Treat all")
        axes.axhline(0, color=INK, linewidth=0.8, linestyle=":", label="Treat none")
        top = max(max(point.model.high or point.model.value or 0.0 for point in curve.points), treat_all[0])
        axes.set(xlim=(0, 1), ylim=(-0.12 * max(top, 0.2), 1.1 * max(top, 0.2)))
        axes.set(xlabel="Threshold probability", ylabel="Net benefit")
        axes.set_title("Decision curve")
        axes.legend(loc="upper right")
    return figure


def risk_coverage_figure(selective: SelectivePrediction, warning: str) -> Figure:
    """Error rate by coverage on the test set, the most confident predictions first."""
    with figure_style():
        figure = new_figure(COLUMN, 0.85 * COLUMN, warning)
        axes = figure.subplots()
        coverages = sorted(selective.risks)
        risks = [selective.risks[coverage] for coverage in coverages]
        _band(axes, coverages, risks, "")
        axes.set(xlim=(0, 1.02), ylim=(0, max(0.2, *(1.1 * (each.high or each.value or 0.0) for each in risks))))
        axes.set(xlabel="Coverage (most confident first)", ylabel="Error rate")
        axes.set_title("Selective prediction")
    return figure


def subgroups_figure(tables: Sequence[SubgroupTable], metric: str, title: str, warning: str) -> Figure:
    """One score of every subgroup as a dot with its interval; at least one table has subgroups."""
    rows = [(table, group) for table in tables for group in table.groups]
    with figure_style():
        figure = new_figure(COLUMN * 1.3, 0.75 + 0.25 * len(rows) + 0.12 * len(tables), warning)
        axes = figure.subplots()
        heights, height = [], 0.0
        for number, (table, group) in enumerate(rows):
            height += 1.5 if number and rows[number - 1][0] is not table else float(number > 0)
            heights.append(height)
            plot_estimate(axes, height, group.metrics[metric], CALIBRATED)
        names = [f"{escape_math(table.column)} {escape_math(group.name)} ({group.count:,})" for table, group in rows]
        axes.set_yticks(heights, names)
        axes.set(xlim=(0, 1), ylim=(heights[-1] + 0.6, -0.6), xlabel=title)
        axes.tick_params(axis="y", length=0)
        axes.set_title(f"{title} by subgroup")
    return figure


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


def _label_classes(axes: Axes, class_counts: Mapping[str, int]) -> None:
    names = [escape_math(name) for name in class_counts]
    counts = [f"{name}\n({count:,})" for name, count in zip(names, class_counts.values(), strict=True)]
    slanted = _is_slanted(tuple(class_counts))
    axes.set_xticks(range(len(names)), names, rotation=35 if slanted else 0, ha="right" if slanted else "center")
    axes.set_yticks(range(len(names)), counts)
    axes.set(xlabel="Predicted class", ylabel="True class (n)")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _reliability(axes: Axes, calibration: Calibration, colour: str, label: str, shift: float) -> None:
    bins = calibration.diagrams[0].bins
    for each in bins:
        if each.fraction.low is not None and each.fraction.high is not None:
            x = each.confidence + shift
            axes.plot([x, x], [each.fraction.low, each.fraction.high], color=colour, linewidth=1.2, alpha=0.5)
    points = [(each.confidence + shift, each.fraction.value) for each in bins if each.fraction.value is not None]
    axes.plot(*zip(*points, strict=True), "o-", color=colour, markersize=4, linewidth=0.8, label=label)


def _band(axes: Axes, places: Sequence[float], values: Sequence[Estimate], label: str) -> None:
    low = [each.value if each.low is None else each.low for each in values]
    high = [each.value if each.high is None else each.high for each in values]
    axes.fill_between(places, low, high, color=CALIBRATED, alpha=0.18, linewidth=0)  # type: ignore[arg-type]
    axes.plot(places, [each.value for each in values], color=CALIBRATED, label=label)  # type: ignore[arg-type]
