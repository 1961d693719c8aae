"""The page of an external validation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gyrus.evaluation.external_validation import REASONS, ExternalValidation
from gyrus.evaluation.number_external import NumberExternalValidation
from gyrus.evaluation.result import interval_note
from gyrus.inference.number_predictions import NumberPredictions
from gyrus.inference.predictions import Predictions
from gyrus.reporting.evaluation_figures import draw_scores, draw_subgroups
from gyrus.reporting.figures import Picture, save_drawings
from gyrus.reporting.html import write_page
from gyrus.reporting.number_figures import draw_number_scores, draw_number_subgroups


@dataclass(frozen=True)
class ExternalContent:
    """What the page shows.

    Attributes:
        title: Name of the cohort and the run.
        found: The result.
        reasons: How people were recognised, in words.
        pictures: Figures of the scores on the cohort.
        group_pictures: Figures of the groups.
        interval_words: How the intervals of a number were computed.
    """

    title: str
    found: ExternalValidation | NumberExternalValidation
    reasons: dict[str, str]
    pictures: tuple[Picture, ...]
    group_pictures: tuple[Picture, ...]
    interval_words: str = ""


def report_external(found: ExternalValidation, predictions: Predictions, folder: Path) -> Path:
    """Write ``report.html`` and ``figures``, and return the page.

    Args:
        found: The result.
        predictions: For the cohort.
        folder: The folder to write into.
    """
    content = ExternalContent(
        title=f"{found.run} on {found.cohort}",
        found=found,
        reasons={str(name): text for name, text in REASONS.items()},
        pictures=save_drawings(draw_scores(predictions, found.external), folder / "figures"),
        group_pictures=save_drawings(draw_subgroups(found.groups, found.external.warning), folder / "figures"),
    )
    return write_page(folder / "report.html", "external.html.j2", content)


def report_number_external(found: NumberExternalValidation, predictions: NumberPredictions, folder: Path) -> Path:
    """As :func:`report_external`, for a number."""
    warning = found.external.warning
    rule = found.interval.rule if found.interval else None
    content = ExternalContent(
        title=f"{found.run} on {found.cohort}",
        found=found,
        reasons={str(name): text for name, text in REASONS.items()},
        pictures=save_drawings(draw_number_scores(predictions, found.external, rule), folder / "figures"),
        group_pictures=save_drawings(draw_number_subgroups(found.groups, warning), folder / "figures"),
        interval_words=interval_note(found.external),
    )
    return write_page(folder / "report.html", "number_external.html.j2", content)
