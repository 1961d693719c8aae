"""The model card of a run, in the form of Mitchell et al. 2019, "Model cards for model reporting"."""

from __future__ import annotations

from pathlib import Path

from gyrus import __version__
from gyrus.evaluation.text import interval_line
from gyrus.files import write_text
from gyrus.reporting.html import report_environment
from gyrus.reporting.report_content import ReportContent


def write_card(path: Path, content: ReportContent) -> None:
    """Write the card, Markdown, atomically.

    Args:
        path: Where to write, ``model_card.md``.
        content: What the report of the same run says.
    """
    write_text(path, render_card(content))


def render_card(content: ReportContent) -> str:
    """The card as Markdown."""
    environment = report_environment().overlay(autoescape=False)
    evaluation = content.evaluation
    return environment.get_template("model_card.md.j2").render(
        content=content,
        evaluation=evaluation,
        headline=evaluation.headline,
        pooled=evaluation.headline.unit == "subject",
        classes=" and ".join([", ".join(evaluation.classes[:-1]), evaluation.classes[-1]]),
        factors=_factors(content),
        interval_words=interval_line(evaluation),
        gyrus=__version__,
    )


def _factors(content: ReportContent) -> str:
    """What is known of the scores of groups of people."""
    if not content.groupings:
        return "This run was not judged by group: its scores say nothing about any of these."
    return "Judged by group: " + " ".join(each.text(content.evaluation.level) for each in content.groupings)
