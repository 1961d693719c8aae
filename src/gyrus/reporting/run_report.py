"""The report of a run: figures, page and model card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from gyrus.audit.findings import Findings
from gyrus.datasets.manifest import Manifest
from gyrus.datasets.splits import Split
from gyrus.evaluation.added_value import AddedValue
from gyrus.evaluation.assessment import Assessment
from gyrus.evaluation.matching import MatchedScores
from gyrus.evaluation.result import Baselines, Evaluation
from gyrus.evaluation.site_check import SiteCheck
from gyrus.evaluation.subgroups import Subgroups
from gyrus.evaluation.visit_scores import VisitScores
from gyrus.files import read_lines, reading
from gyrus.inference.predictions import Predictions
from gyrus.inference.unlike_training import LikenessSummary
from gyrus.reporting.evaluation_figures import draw_assessment, draw_scores, draw_subgroups
from gyrus.reporting.figures import save_drawings
from gyrus.reporting.html import subset_title, write_page
from gyrus.reporting.image_figures import Overlays, draw_images
from gyrus.reporting.model_card import write_card
from gyrus.reporting.report_content import Facts, ReportContent, command_text, data_facts, environment_facts
from gyrus.reporting.split_unit_report import shared_subjects
from gyrus.reporting.training_figures import draw_training
from gyrus.runs.run_folder import Run
from gyrus.text import counted, listed
from gyrus.types import SUBSETS

if TYPE_CHECKING:
    from gyrus.reporting.explanation_report import ExplanationContent


@dataclass(frozen=True, eq=False)
class RunResults:
    """The results that the report of a run shows.

    Attributes:
        predictions: On the test set.
        evaluation: Scores of these predictions.
        manifest: The data.
        split: The split of the data.
        history: One row per epoch; see :func:`gyrus.reporting.training_figures.training_figure`.
        baselines: Judged on the same subjects; None where there are none.
        assessment: Choices made on the validation set; None in runs that lack it.
        subgroups: Scores of subgroups; None in runs that lack them.
        added_value: What the image adds to the table; None for classifiers without a table or without images.
        visit_scores: Scores by visit and by person; None where no subject has several visits.
        matched_scores: Scores on subjects alike in some columns; None where they were not asked for.
    """

    predictions: Predictions
    evaluation: Evaluation
    manifest: Manifest
    split: Split
    history: pd.DataFrame
    baselines: Baselines | None = None
    assessment: Assessment | None = None
    subgroups: Subgroups | None = None
    added_value: AddedValue | None = None
    visit_scores: VisitScores | None = None
    matched_scores: MatchedScores | None = None

    @classmethod
    def load(cls, run: Run) -> RunResults:
        """Read the results from the folder of a finished run.

        Raises:
            DataError: A file is missing or damaged.
        """
        return cls(
            predictions=Predictions.load(run.predictions("test")),
            evaluation=Evaluation.load(run.metrics),
            manifest=Manifest.load(run.manifest),
            split=Split.load(run.split),
            history=read_history(run),
            baselines=Baselines.load(run.baselines) if run.baselines.is_file() else None,
            assessment=Assessment.load(run.assessment) if run.assessment.is_file() else None,
            subgroups=Subgroups.load(run.subgroups) if run.subgroups.is_file() else None,
            added_value=AddedValue.load(run.added_value) if run.added_value.is_file() else None,
            visit_scores=VisitScores.load(run.visit_scores) if run.visit_scores.is_file() else None,
            matched_scores=MatchedScores.load(run.matched_scores) if run.matched_scores.is_file() else None,
        )


def read_history(run: Run) -> pd.DataFrame:
    """The history of a training, one row per epoch; empty if the classifier has no network.

    Raises:
        DataError: The file is missing or damaged.
    """
    if not run.has_network:
        return pd.DataFrame()
    with reading(run.history, "the history of a training"):
        history = pd.read_csv(read_lines(run.history))
        history[["epoch", "train_loss", "val_loss"]].astype(float)
        return history


def report_run(run: Run, results: RunResults | None = None) -> None:
    """Write the figures, the page and the model card of a run.

    Sections on explanation and audit appear if the folder of the run holds an explanation and an audit of its data.

    Args:
        run: The run; its description of model and environment is read from its folder.
        results: The results to show; by default those saved in the folder.
    """
    results = results or RunResults.load(run)
    predictions, evaluation, assessment = results.predictions, results.evaluation, results.assessment
    subgroups = results.subgroups.tables if results.subgroups else ()
    explanation, overlays = explanation_of(run)
    images = draw_images(predictions, run.examples, run.embeddings, overlays)
    content = ReportContent(
        evaluation=evaluation,
        baselines=results.baselines,
        assessment=assessment,
        subgroups=subgroups,
        added_value=results.added_value,
        visit_scores=results.visit_scores,
        matched_scores=results.matched_scores,
        score_pictures=save_drawings(draw_scores(predictions, evaluation), run.figures),
        assessment_pictures=save_drawings(draw_assessment(assessment), run.figures) if assessment else (),
        subgroup_pictures=save_drawings(draw_subgroups(subgroups, evaluation.warning), run.figures),
        image_pictures=save_drawings(images, run.figures),
        explanation=explanation,
        **content_of_run(run, results.manifest, results.split, results.history),
    )
    write_page(run.report, "report.html.j2", content)
    write_card(run.card, content)


def report_predictions(predictions: Predictions, evaluation: Evaluation, folder: Path) -> Path:
    """Write ``report.html`` and ``figures`` of predictions without a run folder, and return the page."""
    content = ReportContent(
        title=folder.resolve().name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        evaluation=evaluation,
        score_pictures=save_drawings(draw_scores(predictions, evaluation), folder / "figures"),
    )
    return write_page(folder / "report.html", "report.html.j2", content)


def content_of_run(run: Run, manifest: Manifest, split: Split, history: pd.DataFrame) -> dict[str, Any]:
    """What the reports of classes and of numbers say about a run beside its scores, by field of ``PageContent``.

    Raises:
        DataError: A file is missing or damaged.
    """
    facts = run.facts
    with reading(run.history, "the history of a training"):
        training = draw_training(history, best_epoch=facts.get("best_epoch")) if len(history) else ()
    return {
        "title": run.title,
        "created": facts["created"],
        "likeness": LikenessSummary.load(run.likeness) if run.likeness.is_file() else None,
        "training_pictures": save_drawings(training, run.figures),
        "data": data_facts(manifest),
        "split": split_facts(split),
        "findings": findings_of(run, manifest),
        "can_be_audited": True,
        "training": (*training_facts(facts, run.description), *site_facts(run)),
        "config_text": run.config.read_text(encoding="utf-8"),
        "command": command_text(facts["command"]),
        "environment": environment_facts(run.environment),
    }


def site_facts(run: Run) -> Facts:
    """Which columns were harmonised, and whether the site can still be read from them."""
    return (("Harmonised between sites", SiteCheck.load(run.site_check).text()),) if run.site_check.is_file() else ()


def split_facts(split: Split) -> Facts:
    """The unit, method and sizes of a split, and its notes."""
    sizes = []
    for subset in SUBSETS:
        subjects = f"{counted(len(split.subjects[subset]), 'subject')}, " if split.subjects[subset] else ""
        sizes.append((subset_title(subset), f"{subjects}{counted(len(split.samples[subset]), 'image')}"))
    shared, tested = shared_subjects(split)
    method = split.method if split.fold is None else f"{split.method}, fold {split.fold}"
    facts = [("Split by", split.unit), ("Method", f"{method}, seed {split.seed}"), *sizes]
    if tested:
        facts.append(("Test subjects in training set", f"{shared} of {tested}"))
    if split.copies:
        facts.append(("Images with copies in an earlier subset", f"{split.copies:,}"))
    if split.dropped:
        facts.append(("Images dropped because of copies in a later subset", f"{len(split.dropped):,}"))
    return (*facts, *[("Note", note) for note in split.notes])


def explanation_of(run: Run) -> tuple[ExplanationContent | None, Overlays]:
    """The section on the explanation of a run and overlays of its images; None and empty where there is none."""
    if not run.explanation.is_dir():
        return None, {}
    from gyrus.reporting.explanation_report import example_overlays, explanation_section  # loads torch

    return explanation_section(run.explanation), example_overlays(run.explanation)


def findings_of(run: Run, manifest: Manifest) -> Findings | None:
    """The findings of an audit of this run; None where there was none, or where it audited other data."""
    path = run.audit / "findings.json"
    found = Findings.load(path) if path.is_file() else None
    return found if found and found.manifest_digest == manifest.digest else None


def training_facts(facts: Mapping[str, Any], model: Mapping[str, Any]) -> Facts:
    """Model, input and training, from ``run.json`` and ``model.json``."""
    if "features" in model:
        chosen = [f"{name} = {value:g}" for name, value in model["chosen"].items()]
        return (
            ("Model", model["model"]["name"]),
            ("Features", listed(model["features"], 30)),
            ("Chosen within the training set", listed(chosen)),
        )
    size = " x ".join(map(str, model["image_size"]))
    return (
        ("Model", model["model"]["name"]),
        ("Parameters", f"{model['parameters']:,}"),
        ("Input", f"{model['in_channels']} x {size}"),
        ("Initial weights", (model.get("pretrained") or {}).get("source", "random")),
        ("Best epoch", f"{facts.get('best_epoch')}, chosen on the validation set"),
        *((("Trained on", facts["trained_with"]["text"]),) if "trained_with" in facts else ()),
    )
