"""One page that a person reads: self-contained, no network, on a phone, in print, light and dark."""

from __future__ import annotations

from pathlib import Path

import jinja2
from markupsafe import Markup

from gyrus.evaluation.assessment_words import assessment_sentences
from gyrus.evaluation.baselines import TITLES as BASELINE_TITLES
from gyrus.evaluation.baselines import baseline_sentences
from gyrus.evaluation.result import Estimate, Scores
from gyrus.evaluation.text import CLASS_TITLES, INTERVAL_WORDS, TITLES, cautions, score_notes, unit_word, verdict
from gyrus.files import write_text
from gyrus.reporting.assessment_section import GOAL_TITLES, RATE_TITLES
from gyrus.reporting.report_content import Comparison, ReportContent
from gyrus.reporting.score_differences import reasons

HEADLINES = {"accuracy": "Accuracy", "balanced_accuracy": "Balanced accuracy", "macro_roc_auc": "Macro ROC AUC"}


def render(content: ReportContent | Comparison) -> str:
    """The page as text. Whatever is not a figure of ours is escaped."""
    name = "comparison.html.j2" if isinstance(content, Comparison) else "report.html.j2"
    return report_environment().get_template(name).render(content=content)


def write_report(path: Path, content: ReportContent | Comparison) -> None:
    """Write the page, atomically.

    Raises:
        GyrusError: The file cannot be written.
    """
    write_text(Path(path), render(content))


def page_environment() -> jinja2.Environment:
    """What every page of ours is made with: everything is escaped but what is marked as drawn by us."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("gyrus.reporting"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["drawn"] = Markup
    return environment


def report_environment() -> jinja2.Environment:
    """What the pages that show scores are made with: :func:`page_environment`, and the words for scores."""
    environment = page_environment()
    environment.globals |= {
        "titles": TITLES,
        "class_titles": CLASS_TITLES,
        "interval_rules": INTERVAL_WORDS,
        "headlines": HEADLINES,
        "verdict": verdict,
        "baseline_sentences": baseline_sentences,
        "assessment_sentences": assessment_sentences,
        "rate_titles": RATE_TITLES,
        "goal_titles": GOAL_TITLES,
        "baseline_titles": BASELINE_TITLES,
        "cautions": cautions,
        "reasons": reasons,
        "score_notes": score_notes,
        "unit_word": unit_word,
        "range_style": range_style,
        "chance": chance,
    }
    environment.filters |= {"number": _number, "interval": _interval}
    return environment


def chance(scores: Scores, metric: str) -> tuple[float, str] | None:
    """What a metric comes to without any skill, and how; None where there is no such number."""
    present = sum(count > 0 for count in scores.class_counts.values())
    values = {
        "accuracy": (scores.majority_share, f"always '{scores.majority_class}'"),
        "balanced_accuracy": (1 / present, "guessing"),
        "macro_recall": (1 / present, "guessing"),
        "macro_roc_auc": (0.5, "guessing"),
    }
    return values.get(metric)


def range_style(estimate: Estimate, mark: float | None = None) -> str:
    """Where value, interval and a mark stand on a line from 0 to 1, as CSS properties; the numbers are ours."""
    places = {"value": estimate.value, "low": estimate.low, "high": estimate.high, "mark": mark}
    return ";".join(f"--{name}:{place:.4f}" for name, place in places.items() if place is not None)


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.2f}".replace("-", "−")


def _interval(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return "no interval" if estimate.value is not None else ""
    between = " to " if estimate.low < 0 else "–"
    return _number(estimate.low) + between + _number(estimate.high)
