"""Figures of an assessment: reliability, decision curve, risk by coverage, scores of groups."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gyrus.evaluation.assessment import Assessment
from gyrus.evaluation.calibration_metrics import Calibration
from gyrus.evaluation.decision_curve import DecisionCurve
from gyrus.evaluation.result import Estimate
from gyrus.evaluation.selective_prediction import SelectivePrediction
from gyrus.evaluation.subgroups import SubgroupTable
from gyrus.reporting.figure_style import COLOURS, COLUMN, INK, MUTED, STYLE, new_figure, plain, warn

RAW, MENDED = COLOURS[1], COLOURS[0]


def reliability_figure(assessment: Assessment) -> Figure:
    """How often the chosen class is right, by the probability it was given; before and after calibration."""
    with mpl.rc_context(STYLE):
        figure = new_figure(COLUMN, COLUMN + 0.45 + 0.3 * bool(assessment.statement))
        warn(figure, assessment.statement)
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle=(0, (3, 3)))
        if assessment.after is None:
            _reliability(axes, assessment.before, MENDED, "As they are", 0.0)
        else:
            _reliability(axes, assessment.before, RAW, "As they are", -0.006)
            _reliability(axes, assessment.after, MENDED, "Calibrated on the validation set", 0.006)
        axes.set(xlim=(0, 1.02), ylim=(-0.02, 1.02), box_aspect=1)
        axes.set(xlabel="Probability of the chosen class", ylabel="Share that is right")
        axes.set_title(f"Reliability ({assessment.test_count:,})")
        figure.legend(loc="outside lower left")
    return figure


def decision_figure(curve: DecisionCurve, statement: str) -> Figure:
    """Net benefit by the probability from which one acts.

    Args:
        curve: Of the test set.
        statement: The warning of the split.
    """
    thresholds = [point.threshold for point in curve.points]
    with mpl.rc_context(STYLE):
        figure = new_figure(COLUMN, COLUMN + 0.3 * bool(statement))
        warn(figure, statement)
        axes = figure.subplots()
        _band(axes, thresholds, [point.model for point in curve.points], "This classifier")
        everybody = [point.everybody for point in curve.points]
        axes.plot(thresholds, everybody, color=RAW, linestyle=(0, (4, 1.5)), label="Act on everybody")
        axes.axhline(0, color=INK, linewidth=0.8, linestyle=":", label="Act on nobody")
        top = max(max(point.model.high or point.model.value or 0.0 for point in curve.points), everybody[0])
        axes.set(xlim=(0, 1), ylim=(-0.12 * max(top, 0.2), 1.1 * max(top, 0.2)))
        axes.set(xlabel="Act from this probability on", ylabel="Net benefit")
        axes.set_title("Decision curve")
        axes.legend(loc="upper right")
    return figure


def abstention_figure(abstention: SelectivePrediction, statement: str) -> Figure:
    """Share of mistakes among the answered, by the share that is answered, the surest first.

    Args:
        abstention: Of the test set.
        statement: The warning of the split.
    """
    with mpl.rc_context(STYLE):
        figure = new_figure(COLUMN, 0.85 * COLUMN + 0.3 * bool(statement))
        warn(figure, statement)
        axes = figure.subplots()
        coverages = sorted(abstention.risks)
        risks = [abstention.risks[coverage] for coverage in coverages]
        _band(axes, coverages, risks, "")
        axes.set(xlim=(0, 1.02), ylim=(0, max(0.2, *(1.1 * (each.high or each.value or 0.0) for each in risks))))
        axes.set(xlabel="Share that is answered, the surest first", ylabel="Mistakes among them")
        axes.set_title("If it may abstain")
    return figure


def groups_figure(groupings: Sequence[SubgroupTable], metric: str, title: str, statement: str) -> Figure:
    """One score of every group as a dot with its interval.

    Args:
        groupings: At least one with groups.
        metric: A score that the groups have.
        title: What it is called.
        statement: The warning of the split.
    """
    rows = [(grouping, group) for grouping in groupings for group in grouping.groups]
    with mpl.rc_context(STYLE):
        figure = new_figure(COLUMN * 1.3, 0.75 + 0.25 * len(rows) + 0.12 * len(groupings) + 0.3 * bool(statement))
        warn(figure, statement)
        axes = figure.subplots()
        heights, height = [], 0.0
        for number, (grouping, group) in enumerate(rows):
            height += 1.5 if number and rows[number - 1][0] is not grouping else float(number > 0)
            heights.append(height)
            _dot(axes, height, group.metrics[metric])
        names = [f"{plain(grouping.column)} {plain(group.name)} ({group.count:,})" for grouping, group in rows]
        axes.set_yticks(heights, names)
        axes.set(xlim=(0, 1), ylim=(heights[-1] + 0.6, -0.6))
        axes.tick_params(axis="y", length=0)
        axes.set_title(f"{title} by group")
    return figure


def _reliability(axes: Axes, calibration: Calibration, colour: str, label: str, shift: float) -> None:
    bins = calibration.diagrams[0].bins
    for each in bins:
        if each.share.low is not None and each.share.high is not None:
            x = each.confidence + shift
            axes.plot([x, x], [each.share.low, each.share.high], color=colour, linewidth=1.2, alpha=0.5)
    points = [(each.confidence + shift, each.share.value) for each in bins if each.share.value is not None]
    axes.plot(*zip(*points, strict=True), "o-", color=colour, markersize=4, linewidth=0.8, label=label)


def _band(axes: Axes, places: Sequence[float], values: Sequence[Estimate], label: str) -> None:
    low = [each.value if each.low is None else each.low for each in values]
    high = [each.value if each.high is None else each.high for each in values]
    axes.fill_between(places, low, high, color=MENDED, alpha=0.18, linewidth=0)  # type: ignore[arg-type]
    axes.plot(places, [each.value for each in values], color=MENDED, label=label)  # type: ignore[arg-type]


def _dot(axes: Axes, height: float, estimate: Estimate) -> None:
    if estimate.value is None:
        axes.text(0.02, height, "undefined", va="center", color=MUTED, fontsize=7)
        return
    if estimate.low is not None and estimate.high is not None:
        axes.plot([estimate.low, estimate.high], [height] * 2, color=MENDED, linewidth=1.6, alpha=0.55)
    axes.plot(estimate.value, height, "o", color=MENDED, markersize=4.5)
