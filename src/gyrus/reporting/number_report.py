"""The report of a run that predicts a number: figures, page and model card."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import jinja2
import pandas as pd

from gyrus import __version__
from gyrus.audit.findings import Findings
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
from gyrus.evaluation.result import Baselines, interval_note, unit_name
from gyrus.files import read_json, reading, write_text
from gyrus.inference.number_predictions import NumberPredictions
from gyrus.inference.unlike_training import LikenessSummary
from gyrus.reporting.crossval_report import crossval_facts
from gyrus.reporting.figures import Picture, save_drawings
from gyrus.reporting.html import report_environment
from gyrus.reporting.model_card import shown_in_markdown
from gyrus.reporting.number_figures import (
    draw_number_assessment,
    draw_number_map,
    draw_number_scores,
    draw_number_subgroups,
)
from gyrus.reporting.report_content import Facts, command_text, data_facts, environment_facts
from gyrus.reporting.run_report import (
    explanation_of,
    findings_of,
    read_history,
    report_run,
    split_facts,
    training_facts,
)
from gyrus.reporting.training_figures import draw_training
from gyrus.runs.run_folder import Run

if TYPE_CHECKING:
    from gyrus.reporting.explanation_report import ExplanationContent


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


@dataclass(frozen=True)
class NumberReportContent:
    """The report of one run or cross-validation of a number; the fields are those of ``ReportContent``."""

    title: str
    created: str
    evaluation: NumberEvaluation
    baselines: Baselines | None = None
    assessment: NumberAssessment | None = None
    subgroups: tuple[NumberGroupTable, ...] = ()
    score_pictures: tuple[Picture, ...] = ()
    folds: tuple[tuple[str, ...], ...] = ()
    fold_pictures: tuple[Picture, ...] = ()
    assessment_pictures: tuple[Picture, ...] = ()
    subgroup_pictures: tuple[Picture, ...] = ()
    likeness: LikenessSummary | None = None
    image_pictures: tuple[Picture, ...] = ()
    explanation: ExplanationContent | None = None
    training_pictures: tuple[Picture, ...] = ()
    data: Facts = ()
    split: Facts = ()
    findings: Findings | None = None
    can_be_audited: bool = False
    training: Facts = ()
    config_text: str = ""
    command: str = ""
    environment: Facts = ()


def report_number_run(run: Run, results: NumberResults | None = None) -> None:
    """Write the figures, the page and the model card of a run.

    Args:
        run: The run; its description of model and environment is read from its folder.
        results: The results to show; by default those saved in the folder.
    """
    results = results or NumberResults.load(run)
    predictions, evaluation, assessment = results.predictions, results.evaluation, results.assessment
    subgroups = results.subgroups.tables if results.subgroups else ()
    facts = run.facts
    explanation, _ = explanation_of(run)
    with reading(run.history, "the history of a training"):
        training = draw_training(read_history(run), best_epoch=facts.get("best_epoch"))
    rule = assessment.rule.interval if assessment else None
    drawn = draw_number_assessment(assessment, evaluation.warning) if assessment else ()
    content = NumberReportContent(
        title=run.title,
        created=facts["created"],
        evaluation=evaluation,
        baselines=results.baselines,
        assessment=assessment,
        subgroups=subgroups,
        score_pictures=save_drawings(draw_number_scores(predictions, evaluation, rule), run.figures),
        assessment_pictures=save_drawings(drawn, run.figures),
        subgroup_pictures=save_drawings(draw_number_subgroups(subgroups, evaluation.warning), run.figures),
        likeness=LikenessSummary.load(run.likeness) if run.likeness.is_file() else None,
        image_pictures=save_drawings(draw_number_map(predictions, run.embeddings), run.figures),
        explanation=explanation,
        training_pictures=save_drawings(training, run.figures),
        data=data_facts(results.manifest),
        split=split_facts(results.split),
        findings=findings_of(run, results.manifest),
        can_be_audited=True,
        training=training_facts(facts, run.description),
        config_text=run.config.read_text(encoding="utf-8"),
        command=command_text(facts["command"]),
        environment=environment_facts(run.environment),
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
    facts = read_json(folder / "crossval.json")
    rows = []
    for row in summary.to_dict("records"):
        title = f"{NUMBER_METRICS[row['metric']].title} by {unit_name(evaluation, evaluation.scores[row['unit']])}"
        spread = (
            (f"{row['sd']:.3f}", f"{row['lowest']:.3f} to {row['highest']:.3f}") if row["defined"] > 1 else ("–", "–")
        )
        mean = f"{row['mean']:.3f}" if row["defined"] else "undefined"
        pooled = evaluation.scores[row["unit"]].metrics[row["metric"]].text()
        rows.append((title, f"{row['defined']} of {row['folds']}", mean, *spread, pooled))
    content = NumberReportContent(
        title=folder.resolve().name,
        created=facts["created"],
        evaluation=evaluation,
        baselines=baselines,
        score_pictures=save_drawings(draw_number_scores(predictions, evaluation), folder / "figures"),
        folds=tuple(rows),
        data=data_facts(manifest),
        split=crossval_facts(facts, evaluation.split_unit),
        config_text=(folder / "config.yaml").read_text(encoding="utf-8"),
        command=command_text(facts["command"]),
        environment=environment_facts(facts["environment"]),
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
        "titles": {name: metric.title for name, metric in NUMBER_METRICS.items()},
        "headlines": number_headlines(),
        "verdict": number_verdict,
        "limitations": number_limitations,
        "score_notes": number_notes,
        "assessment_sentences": assessment_sentences,
        "baseline_title": baseline_title,
        "interval_note": interval_note,
    }
    return environment
