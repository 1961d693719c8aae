"""The sections of a report on what was chosen on the validation set, and on groups of people."""

from __future__ import annotations

from gyrus.evaluation.assessment import Assessment
from gyrus.evaluation.metrics import METRICS
from gyrus.evaluation.subgroups import SubgroupTable
from gyrus.evaluation.thresholds import GOALS, RATES
from gyrus.reporting.assessment_figures import abstention_figure, decision_figure, groups_figure, reliability_figure
from gyrus.reporting.report_content import Drawing

RATE_TITLES = {name: rate.title.split(" (")[0] for name, rate in RATES.items()}
GOAL_TITLES = {name: goal.title for name, goal in GOALS.items()}

GROUP_METRIC = "accuracy"
"""The score that groups are drawn by; it needs no class to be frequent."""


def draw_assessment(assessment: Assessment) -> tuple[Drawing, ...]:
    """Reliability diagram, decision curve and risk by coverage."""
    drawings = [
        Drawing(
            "reliability",
            "Reliability",
            "Each dot: those given about this probability. On the diagonal, of those given 80 %, 80 % are right.",
            reliability_figure(assessment),
        )
    ]
    if assessment.curve:
        positive = " or ".join(assessment.curve.positive)
        caption = (
            f"Who acts on '{positive}' from a probability of 20 % on weighs one missed case like four false alarms. "
            "The classifier is worth using where its curve is above both others."
        )
        drawings.append(
            Drawing(
                "decision_curve", "Decision curve", caption, decision_figure(assessment.curve, assessment.statement)
            )
        )
    caption = "A curve that falls to the left: it knows what it does not know."
    figure = abstention_figure(assessment.abstention, assessment.statement)
    return (*drawings, Drawing("abstention", "Risk and coverage", caption, figure))


def draw_groups(groupings: tuple[SubgroupTable, ...], statement: str) -> tuple[Drawing, ...]:
    """The accuracy of every group; nothing where there is no group.

    Args:
        groupings: Of the test set.
        statement: The warning of the split.
    """
    if not any(grouping.groups for grouping in groupings):
        return ()
    caption = "In brackets how many were judged. Small groups differ by chance alone."
    figure = groups_figure(groupings, GROUP_METRIC, METRICS[GROUP_METRIC].title, statement)
    return (Drawing("groups", "Groups", caption, figure),)
