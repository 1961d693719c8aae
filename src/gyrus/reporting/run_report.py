"""The reports of run folders: everything that they say is read from what the runs have saved."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from gyrus.audit.findings import Findings
from gyrus.datasets.manifest import Manifest
from gyrus.datasets.splits import Split
from gyrus.evaluation.assessment import Assessment
from gyrus.evaluation.baselines import Baselines
from gyrus.evaluation.result import Evaluation
from gyrus.evaluation.subgroups import Subgroups
from gyrus.evaluation.text import TITLES
from gyrus.files import read_json
from gyrus.inference.predictions import Predictions
from gyrus.reporting.assessment_section import draw_assessment, draw_groups
from gyrus.reporting.explanation_report import example_maps, section
from gyrus.reporting.html import write_report
from gyrus.reporting.image_figures import draw_images
from gyrus.reporting.model_card import write_card
from gyrus.reporting.report_content import (
    ComparedRun,
    Comparison,
    Drawing,
    Facts,
    Picture,
    ReportContent,
    draw_comparison,
    draw_scores,
    draw_training,
)
from gyrus.reporting.score_differences import reasons
from gyrus.runs.run_folder import Run
from gyrus.types import SUBSETS

TEXT_METRICS = ("accuracy", "balanced_accuracy", "macro_roc_auc")


def report_run(run: Run) -> None:
    """Write the figures, the page and the model card of a run.

    Args:
        run: It must have its predictions on the test set, its metrics and its history.
    """
    facts = read_json(run.folder / "run.json")
    predictions, evaluation = Predictions.load(run.predictions("test")), Evaluation.load(run.metrics)
    scores = draw_scores(predictions, evaluation)
    training = draw_training(pd.read_csv(run.history), best_epoch=facts.get("best_epoch"))
    manifest, split, model = Manifest.load(run.manifest), Split.load(run.split), read_json(run.model)
    assessment = Assessment.load(run.assessment) if run.assessment.is_file() else None
    groupings = Subgroups.load(run.subgroups).groupings if run.subgroups.is_file() else ()
    images = draw_images(predictions, run.examples, run.embeddings, example_maps(run.explanation))
    content = ReportContent(
        title=run.title,
        created=facts["created"],
        evaluation=evaluation,
        baselines=Baselines.load(run.baselines) if run.baselines.is_file() else None,
        assessment=assessment,
        groupings=groupings,
        score_pictures=_saved(run, scores),
        assessment_pictures=_saved(run, draw_assessment(assessment)) if assessment else (),
        group_pictures=_saved(run, draw_groups(groupings, evaluation.statement)),
        image_pictures=_saved(run, images),
        explanation=section(run.explanation),
        training_pictures=_saved(run, training),
        data=data_facts(manifest),
        split=_split_facts(split),
        findings=_findings(run, manifest),
        training=_training_facts(facts, model),
        config_text=run.config.read_text(encoding="utf-8"),
        command=command_text(facts),
        environment=_environment_facts(run),
    )
    write_report(run.report, content)
    write_card(run.card, content)


def report_predictions(predictions: Predictions, evaluation: Evaluation, folder: Path) -> Path:
    """Write the figures and the page of predictions whose training is not known.

    Args:
        predictions: They have targets.
        evaluation: Made from them.
        folder: Where to write ``report.html`` and ``figures``.

    Returns:
        The page.
    """
    drawings = draw_scores(predictions, evaluation)
    for drawing in drawings:
        drawing.save(folder / "figures")
    page = folder / "report.html"
    write_report(
        page,
        ReportContent(
            title=folder.resolve().name,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            evaluation=evaluation,
            score_pictures=tuple(Picture.of(drawing) for drawing in drawings),
        ),
    )
    return page


def report_comparison(runs: Mapping[str, Run], path: Path) -> str:
    """Write one page that sets runs side by side.

    Args:
        runs: Finished runs, by the name to show.
        path: Where to write the page; its figure goes into ``figures`` beside it.

    Returns:
        The same in words, for the terminal.
    """
    evaluations = {name: Evaluation.load(run.metrics) for name, run in runs.items()}
    drawing = draw_comparison(evaluations)
    drawing.save(path.parent / "figures")
    compared = tuple(
        ComparedRun(
            name,
            evaluations[name],
            command_text(read_json(run.folder / "run.json")),
            tuple(
                Picture.of(each, prefix=f"run{number}_")
                for each in draw_scores(Predictions.load(run.predictions("test")), evaluations[name])
            ),
        )
        for number, (name, run) in enumerate(runs.items())
    )
    created = read_json(next(iter(runs.values())).folder / "run.json")["created"]
    title = path.parent.resolve().name
    write_report(path, Comparison(title, created, compared, (Picture.of(drawing),)))
    return _comparison_text(evaluations, {name: Split.load(run.split) for name, run in runs.items()})


def shared_subjects(split: Split) -> tuple[int, int]:
    """How many subjects of the test set are also in training, and how many there are."""
    tested = set(split.subjects["test"])
    return len(tested & set(split.subjects["train"])), len(tested)


def _saved(run: Run, drawings: tuple[Drawing, ...]) -> tuple[Picture, ...]:
    for drawing in drawings:
        drawing.save(run.figures)
    return tuple(Picture.of(drawing) for drawing in drawings)


def data_facts(manifest: Manifest) -> Facts:
    """What the data consist of."""
    table = manifest.table
    counts = [
        (name, f"{_count(inside['subject'].nunique(), manifest)}{len(inside):,} images")
        for name in manifest.classes
        for inside in [table[table["label"] == name]]
    ]
    rule = "unknown" if manifest.subject_kind == "unknown" else f"by {manifest.subject_rule}"
    return (
        *counts,
        ("Subjects", rule if manifest.subject_kind != "scan" else f"{rule} (scan ids, not people)"),
        ("Left out", f"{len(manifest.problems)} samples"),
        ("Digest", manifest.digest[:16]),
    )


def _count(subjects: int, manifest: Manifest) -> str:
    noun = "scans" if manifest.subject_kind == "scan" else "subjects"
    return "" if manifest.subject_kind == "unknown" else f"{subjects:,} {noun}, "


def _split_facts(split: Split) -> Facts:
    subsets = [
        (subset, f"{len(split.subjects[subset]):,} subjects, {len(split.samples[subset]):,} images")
        if split.subjects[subset]
        else (subset, f"{len(split.samples[subset]):,} images")
        for subset in SUBSETS
    ]
    shared, tested = shared_subjects(split)
    how = split.method if split.fold is None else f"{split.method}, fold {split.fold}"
    facts = [("Kept whole", split.unit), ("Method", f"{how}, seed {split.seed}"), *subsets]
    if tested:
        facts.append(("Test subjects also in training", f"{shared} of {tested}"))
    return (*facts, *[("Note", note) for note in split.notes])


def _findings(run: Run, manifest: Manifest) -> Findings | None:
    """What an audit of this run found out; None where there was none, or of other data."""
    path = run.audit / "findings.json"
    found = Findings.load(path) if path.is_file() else None
    return found if found and found.manifest_digest == manifest.digest else None


def _training_facts(facts: Mapping[str, Any], model: Mapping[str, Any]) -> Facts:
    size = " x ".join(map(str, model["image_size"]))
    return (
        ("Model", model["model"]["name"]),
        ("Parameters", f"{model['parameters']:,}"),
        ("Input", f"{model['in_channels']} x {size}"),
        ("Weights at the start", (model["pretrained"] or {}).get("source", "random")),
        ("Best epoch", f"{facts.get('best_epoch')}, chosen on the validation set"),
    )


def _environment_facts(run: Run) -> Facts:
    environment = read_json(run.folder / "environment.json")
    return (("python", environment["python"]), ("system", environment["system"]), *environment["libraries"].items())


def command_text(facts: Mapping[str, Any]) -> str:
    """The command that a folder was made by, from the facts that it keeps."""
    program, *arguments = facts["command"]
    return shlex.join([Path(program).name, *arguments])


def _comparison_text(evaluations: Mapping[str, Evaluation], splits: Mapping[str, Split]) -> str:
    units = list(dict.fromkeys(unit for evaluation in evaluations.values() for unit in evaluation.scores))
    lines = [_line("", list(evaluations))]
    for metric in TEXT_METRICS:
        for unit in units:
            scores = [evaluation.scores.get(unit) for evaluation in evaluations.values()]
            texts = [each.metrics[metric].text() if each else "" for each in scores]
            lines.append(_line(f"{TITLES[metric]} by {unit}", texts))
    overlaps = []
    for name, split in splits.items():
        shared, tested = shared_subjects(split)
        if tested:
            overlaps.append(f"{name}: {shared} of {tested} test subjects are also in training.")
    return "\n".join([*lines, "", *overlaps, *reasons(evaluations)])


def _line(title: str, cells: Sequence[str]) -> str:
    return f"{title:44}" + "".join(f"{cell:25}" for cell in cells).rstrip()
