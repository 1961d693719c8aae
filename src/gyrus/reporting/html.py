"""HTML pages: self-contained, no network access, readable on a phone, in print, in light and dark mode."""

from __future__ import annotations

from pathlib import Path

import jinja2
from markupsafe import Markup

from gyrus.evaluation.added_value import PART_TITLES
from gyrus.evaluation.assessment import assessment_sentences, operating_classes
from gyrus.evaluation.metrics import CLASS_METRIC_TITLES, HEADLINE_METRICS, METRIC_TITLES, ORDERED_TITLES
from gyrus.evaluation.result import (
    BASELINE_TITLES,
    INTERVAL_METHODS,
    MOST_CLASSES_SHOWN,
    Estimate,
    Scores,
    classes_not_shown,
    headlines_of,
    limitations,
    middle_stage,
    resampled_units,
    score_notes,
    subset_name,
    titles_of,
    unit_name,
    verdict,
)
from gyrus.evaluation.thresholds import RATES
from gyrus.files import write_text
from gyrus.text import visible


def render(template: str, content: object) -> str:
    """A page as text; everything is escaped except figures.

    Args:
        template: File name in the folder ``templates``.
        content: What the template shows as ``content``.
    """
    return report_environment().get_template(template).render(content=content)


def write_page(path: Path, template: str, content: object) -> Path:
    """Write a page, atomically; see :func:`render`.

    Raises:
        GyrusError: The file cannot be written.
    """
    write_text(Path(path), render(template, content))
    return path


def page_environment() -> jinja2.Environment:
    """The template environment of all pages: everything is escaped, except what the filter ``drawn`` marks as ours."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("gyrus.reporting"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_without_controls,
    )
    environment.filters["drawn"] = Markup
    return environment


def _without_controls(value: object) -> object:
    """A value as pages show it: control characters of names, which a browser would leave out, as escapes."""
    return visible(value, keep="\n\t") if isinstance(value, str) and not isinstance(value, Markup) else value


def report_environment() -> jinja2.Environment:
    """:func:`page_environment` with titles, sentences and number formats for scores."""
    environment = page_environment()
    environment.globals |= {
        "titles": METRIC_TITLES | ORDERED_TITLES,
        "titles_of": titles_of,
        "class_titles": CLASS_METRIC_TITLES,
        "most_classes": MOST_CLASSES_SHOWN,
        "classes_not_shown": classes_not_shown,
        "interval_rules": INTERVAL_METHODS,
        "resampled_units": resampled_units,
        "headlines": HEADLINE_METRICS,
        "headlines_of": headlines_of,
        "verdict": verdict,
        "assessment_sentences": assessment_sentences,
        "operating_classes": operating_classes,
        "rate_titles": {name: _short_title(rate.title) for name, rate in RATES.items()},
        "baseline_titles": BASELINE_TITLES,
        "part_titles": PART_TITLES,
        "limitations": limitations,
        "score_notes": score_notes,
        "unit_name": unit_name,
        "subset_title": subset_title,
        "range_style": range_style,
        "chance_level": chance_level,
    }
    environment.filters |= {"number": _number, "interval": _interval}
    return environment


def subset_title(subset: str) -> str:
    """The name of a subset as a title."""
    name = subset_name(subset)
    return name[:1].upper() + name[1:]


def chance_level(scores: Scores, metric: str) -> tuple[float, str] | None:
    """The value of a metric without any skill, and the rule that reaches it; None where there is no such value."""
    present = sum(count > 0 for count in scores.class_counts.values())
    values = {
        "accuracy": (scores.majority_fraction, f"majority class '{scores.majority_class}'"),
        "balanced_accuracy": (1 / present, "chance"),
        "macro_recall": (1 / present, "chance"),
        "macro_roc_auc": (0.5, "chance"),
        "quadratic_kappa": (0.0, "chance"),
    }
    if metric == "stage_error":
        stage, error = middle_stage(scores)
        return error, f"always '{stage}'"
    return values.get(metric)


def range_style(estimate: Estimate, mark: float | None = None) -> str:
    """Positions of value, interval and mark on a line from 0 to 1, as CSS properties."""
    places = {"value": estimate.value, "low": estimate.low, "high": estimate.high, "mark": mark}
    return ";".join(f"--{name}:{place:.4f}" for name, place in places.items() if place is not None)


def _short_title(title: str) -> str:
    """The abbreviation in brackets, if there is one, else the title without brackets."""
    name, _, brackets = title.partition(" (")
    return brackets.removesuffix(")") if brackets.isupper() else name


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.2f}".replace("-", "−")


def _interval(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return "no interval" if estimate.value is not None else ""
    between = " to " if estimate.low < 0 else "–"
    return _number(estimate.low) + between + _number(estimate.high)
