"""Figures of an assessment: reliability diagram, decision curve, risk-coverage curve, scores of subgroups."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gyrus.evaluation.assessment import Assessment
from gyrus.evaluation.calibration_metrics import Calibration
from gyrus.evaluation.decision_curve import DecisionCurve
from gyrus.evaluation.metrics import METRICS
from gyrus.evaluation.result import Estimate
from gyrus.evaluation.selective_prediction import SelectivePrediction
from gyrus.evaluation.subgroups import SubgroupTable
from gyrus.reporting.drawing import Drawing
from gyrus.reporting.figure_style import COLOURS, COLUMN, INK, MUTED, STYLE, add_warning, escape_math, new_figure

UNCALIBRATED, CALIBRATED = COLOURS[1], COLOURS[0]


SUBGROUP_METRIC = "accuracy"
"""The score of the subgroup figure; it is defined even if a class is missing."""


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
    """The accuracy of every subgroup; empty if there is none.

    Args:
        tables: On the test set.
        warning: The warning of the split.
    """
    if not any(table.groups for table in tables):
        return ()
    caption = "In brackets: number evaluated. Small subgroups differ by chance alone."
    figure = subgroups_figure(tables, SUBGROUP_METRIC, METRICS[SUBGROUP_METRIC].title, warning)
    return (Drawing("groups", "Subgroups", caption, figure),)


def reliability_figure(assessment: Assessment) -> Figure:
    """Accuracy by predicted probability, before and after calibration."""
    with mpl.rc_context(STYLE):
        figure = new_figure(COLUMN, COLUMN + 0.45 + 0.3 * bool(assessment.warning))
        add_warning(figure, assessment.warning)
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
    """Net benefit by threshold probability.

    Args:
        curve: On the test set.
        warning: The warning of the split.
    """
    thresholds = [point.threshold for point in curve.points]
    with mpl.rc_context(STYLE):
        figure = new_figure(COLUMN, COLUMN + 0.3 * bool(warning))
        add_warning(figure, warning)
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
    """Error rate by coverage, the most confident predictions first.

    Args:
        selective: On the test set.
        warning: The warning of the split.
    """
    with mpl.rc_context(STYLE):
        figure = new_figure(COLUMN, 0.85 * COLUMN + 0.3 * bool(warning))
        add_warning(figure, warning)
        axes = figure.subplots()
        coverages = sorted(selective.risks)
        risks = [selective.risks[coverage] for coverage in coverages]
        _band(axes, coverages, risks, "")
        axes.set(xlim=(0, 1.02), ylim=(0, max(0.2, *(1.1 * (each.high or each.value or 0.0) for each in risks))))
        axes.set(xlabel="Coverage (most confident first)", ylabel="Error rate")
        axes.set_title("Selective prediction")
    return figure


def subgroups_figure(tables: Sequence[SubgroupTable], metric: str, title: str, warning: str) -> Figure:
    """One score of every subgroup as a dot with its interval.

    Args:
        tables: At least one with subgroups.
        metric: A score of the subgroups.
        title: Title of the score.
        warning: The warning of the split.
    """
    rows = [(table, group) for table in tables for group in table.groups]
    with mpl.rc_context(STYLE):
        figure = new_figure(COLUMN * 1.3, 0.75 + 0.25 * len(rows) + 0.12 * len(tables) + 0.3 * bool(warning))
        add_warning(figure, warning)
        axes = figure.subplots()
        heights, height = [], 0.0
        for number, (table, group) in enumerate(rows):
            height += 1.5 if number and rows[number - 1][0] is not table else float(number > 0)
            heights.append(height)
            _dot(axes, height, group.metrics[metric])
        names = [f"{escape_math(table.column)} {escape_math(group.name)} ({group.count:,})" for table, group in rows]
        axes.set_yticks(heights, names)
        axes.set(xlim=(0, 1), ylim=(heights[-1] + 0.6, -0.6), xlabel=title)
        axes.tick_params(axis="y", length=0)
        axes.set_title(f"{title} by subgroup")
    return figure


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


def _dot(axes: Axes, height: float, estimate: Estimate) -> None:
    if estimate.value is None:
        axes.text(0.02, height, "undefined", va="center", color=MUTED, fontsize=7)
        return
    if estimate.low is not None and estimate.high is not None:
        axes.plot([estimate.low, estimate.high], [height] * 2, color=CALIBRATED, linewidth=1.6, alpha=0.55)
    axes.plot(estimate.value, height, "o", color=CALIBRATED, markersize=4.5, clip_on=False, zorder=3)
