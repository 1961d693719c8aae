"""The model card of a run, in the form of Mitchell et al. 2019, "Model cards for model reporting"."""

from __future__ import annotations

from pathlib import Path

import jinja2

from gyrus import __version__
from gyrus.evaluation.result import interval_note, join_words
from gyrus.files import write_text
from gyrus.reporting.html import report_environment
from gyrus.reporting.report_content import ReportContent
from gyrus.text import markdown, markdown_code


def write_card(path: Path, content: ReportContent) -> None:
    """Write the card as Markdown, atomically, from the content of the report of the same run."""
    write_text(path, render_card(content))


def _shown(value: object) -> object:
    """A value in Markdown: names of classes, files and subjects are text, whatever they contain."""
    return markdown(value) if isinstance(value, str) and not isinstance(value, _Code) else value


class _Code(str):
    """Markdown that the template has made itself."""

    __slots__ = ()


def shown_in_markdown(environment: jinja2.Environment) -> jinja2.Environment:
    """The environment for a template in Markdown, whose values are escaped."""
    environment = environment.overlay(autoescape=False, finalize=_shown)
    environment.filters["code"] = lambda text: _Code(markdown_code(text))
    return environment


def render_card(content: ReportContent) -> str:
    """The card as Markdown."""
    environment = shown_in_markdown(report_environment())
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
