"""The page of an external validation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gyrus.evaluation.external_validation import REASONS, ExternalValidation
from gyrus.inference.predictions import Predictions
from gyrus.reporting.evaluation_figures import draw_scores, draw_subgroups
from gyrus.reporting.figures import Picture, save_drawings
from gyrus.reporting.html import write_page


@dataclass(frozen=True)
class ExternalContent:
    """What the page shows.

    Attributes:
        title: Name of the cohort and the run.
        found: The result.
        reasons: How people were recognised, in words.
        pictures: Figures of the scores on the cohort.
        group_pictures: Figures of the groups.
    """

    title: str
    found: ExternalValidation
    reasons: dict[str, str]
    pictures: tuple[Picture, ...]
    group_pictures: tuple[Picture, ...]


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
