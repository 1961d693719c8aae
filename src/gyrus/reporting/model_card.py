"""The model card of a run, in the form of Mitchell et al. 2019, "Model cards for model reporting"."""

from __future__ import annotations

from pathlib import Path

from gyrus import __version__
from gyrus.evaluation.result import interval_note, join_words
from gyrus.files import write_text
from gyrus.reporting.html import report_environment
from gyrus.reporting.report_content import ReportContent


def write_card(path: Path, content: ReportContent) -> None:
    """Write the card as Markdown, atomically, from the content of the report of the same run."""
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
        classes=join_words(evaluation.classes, "and"),
        interval_words=interval_note(evaluation),
        gyrus=__version__,
    )
