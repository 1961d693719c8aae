"""The report of a run that predicts a number: figures, page and model card."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import jinja2
import pandas as pd

from gyrus import __version__
from gyrus.datasets.manifest import Manifest
from gyrus.datasets.splits import Split
from gyrus.evaluation.number_assessment import (
    NumberAssessment,
    NumberGroupTable,
    NumberSubgroups,
    assessment_sentences,
)
from gyrus.evaluation.number_metrics import NUMBER_METRICS, number_headlines
from gyrus.evaluation.number_result import (
    NumberEvaluation,
    baseline_title,
    load_evaluation,
    number_limitations,
    number_notes,
    number_verdict,
)
from gyrus.evaluation.result import Baselines, interval_note
from gyrus.files import write_text
from gyrus.inference.number_predictions import NumberPredictions
from gyrus.reporting.crossval_report import content_of_folds
from gyrus.reporting.figures import save_drawings
from gyrus.reporting.html import report_environment
from gyrus.reporting.model_card import shown_in_markdown
from gyrus.reporting.number_figures import (
    draw_number_assessment,
    draw_number_map,
    draw_number_scores,
    draw_number_subgroups,
)
from gyrus.reporting.report_content import PageContent
from gyrus.reporting.run_report import content_of_run, explanation_of, read_history, report_run
from gyrus.runs.run_folder import Run

_TITLES = {name: metric.title for name, metric in NUMBER_METRICS.items()}


@dataclass(frozen=True, eq=False)
class NumberResults:
    """The results that the report of a run shows; as :class:`gyrus.reporting.run_report.RunResults`.

    Attributes:
        predictions: On the test set.
        evaluation: Scores of these predictions.
        manifest: The data.
        split: The split of the data.
        baselines: Judged on the same subjects; None where there are none.
        assessment: Intervals and correction; None in runs that lack them.
        subgroups: Errors of subgroups; None in runs that lack them.
    """

    predictions: NumberPredictions
    evaluation: NumberEvaluation
    manifest: Manifest
    split: Split
    baselines: Baselines | None = None
    assessment: NumberAssessment | None = None
    subgroups: NumberSubgroups | None = None

    @classmethod
    def load(cls, run: Run) -> NumberResults:
        """Read the results from the folder of a finished run.

        Raises:
            DataError: A file is missing or damaged.
        """
        return cls(
            predictions=NumberPredictions.load(run.predictions("test")),
            evaluation=NumberEvaluation.load(run.metrics),
            manifest=Manifest.load(run.manifest),
            split=Split.load(run.split),
            baselines=Baselines.load(run.baselines) if run.baselines.is_file() else None,
            assessment=NumberAssessment.load(run.assessment) if run.assessment.is_file() else None,
            subgroups=NumberSubgroups.load(run.subgroups) if run.subgroups.is_file() else None,
        )


@dataclass(frozen=True, kw_only=True)
class NumberReportContent(PageContent):
    """The report of one run or cross-validation of a number.

    Attributes:
        evaluation: The scores.
        assessment: Intervals and correction; None in runs that lack them.
        subgroups: Errors of subgroups.
    """

    evaluation: NumberEvaluation
    assessment: NumberAssessment | None = None
    subgroups: tuple[NumberGroupTable, ...] = ()


def report_number_run(run: Run, results: NumberResults | None = None) -> None:
    """Write the figures, the page and the model card of a run.

    Args:
        run: The run; its description of model and environment is read from its folder.
        results: The results to show; by default those saved in the folder.
    """
    results = results or NumberResults.load(run)
    predictions, evaluation, assessment = results.predictions, results.evaluation, results.assessment
    subgroups = results.subgroups.tables if results.subgroups else ()
    explanation, _ = explanation_of(run)
    rule = assessment.rule.interval if assessment else None
    drawn = draw_number_assessment(assessment, evaluation.warning) if assessment else ()
    content = NumberReportContent(
        evaluation=evaluation,
        baselines=results.baselines,
        assessment=assessment,
        subgroups=subgroups,
        score_pictures=save_drawings(draw_number_scores(predictions, evaluation, rule), run.figures),
        assessment_pictures=save_drawings(drawn, run.figures),
        subgroup_pictures=save_drawings(draw_number_subgroups(subgroups, evaluation.warning), run.figures),
        image_pictures=save_drawings(draw_number_map(predictions, run.embeddings), run.figures),
        explanation=explanation,
        **content_of_run(run, results.manifest, results.split, read_history(run)),
    )
    write_number_page(run.report, content)
    write_text(run.card, render_number_card(content))


def report_again(run: Run) -> None:
    """Write the report of a finished run again, of classes or of a number, from what its folder holds."""
    if isinstance(load_evaluation(run.metrics), NumberEvaluation):
        report_number_run(run)
    else:
        report_run(run)


def report_number_folds(
    folder: Path,
    *,
    predictions: NumberPredictions,
    evaluation: NumberEvaluation,
    summary: pd.DataFrame,
    manifest: Manifest,
    baselines: Baselines | None = None,
) -> Path:
    """Write the figures and the page of a cross-validation; see ``report_folds`` for the arguments."""
    content = NumberReportContent(
        evaluation=evaluation,
        baselines=baselines,
        score_pictures=save_drawings(draw_number_scores(predictions, evaluation), folder / "figures"),
        **content_of_folds(folder, evaluation, summary, manifest, _TITLES),
    )
    return write_number_page(folder / "report.html", content)


def report_number_predictions(predictions: NumberPredictions, evaluation: NumberEvaluation, folder: Path) -> Path:
    """Write ``report.html`` and ``figures`` of predictions without a run folder, and return the page."""
    content = NumberReportContent(
        title=folder.resolve().name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        evaluation=evaluation,
        score_pictures=save_drawings(draw_number_scores(predictions, evaluation), folder / "figures"),
    )
    return write_number_page(folder / "report.html", content)


def write_number_page(path: Path, content: NumberReportContent) -> Path:
    """Write the page of a report, atomically."""
    write_text(path, _environment().get_template("number_report.html.j2").render(content=content))
    return path


def render_number_card(content: NumberReportContent) -> str:
    """The model card as Markdown."""
    environment = shown_in_markdown(_environment())
    evaluation = content.evaluation
    return environment.get_template("number_card.md.j2").render(
        content=content,
        evaluation=evaluation,
        headline=evaluation.headline,
        pooled=evaluation.headline.unit == "subject",
        interval_words=interval_note(evaluation),
        gyrus=__version__,
    )


def _environment() -> jinja2.Environment:
    environment = report_environment()
    environment.globals |= {
        "titles": _TITLES,
        "headlines": number_headlines(),
        "verdict": number_verdict,
        "limitations": number_limitations,
        "score_notes": number_notes,
        "assessment_sentences": assessment_sentences,
        "baseline_title": baseline_title,
        "interval_note": interval_note,
    }
    return environment
