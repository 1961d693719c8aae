"""Evaluate the predicted numbers of a run, or a table of numbers: scores, baselines, intervals, figures and report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from gyrus.datasets.manifest import Manifest
from gyrus.datasets.splits import Split
from gyrus.errors import RunError
from gyrus.evaluation.bootstrap import BootstrapConfig
from gyrus.evaluation.number_assessment import assess_numbers, evaluate_number_subgroups
from gyrus.evaluation.number_evaluate import evaluate_numbers
from gyrus.evaluation.number_result import NumberEvaluation
from gyrus.files import refuse_links, write_text
from gyrus.inference.number_predictions import NumberPredictions
from gyrus.reporting.number_report import NumberResults, report_number_predictions, report_number_run
from gyrus.runs.run_folder import Run
from gyrus.text import one_per_line
from gyrus.workflows.baselines import evaluate_run_baselines
from gyrus.workflows.experiment_config import EvaluationConfig, ExperimentConfig


def evaluate_number_run(
    run: Run,
    settings: ExperimentConfig,
    manifest: Manifest,
    split: Split,
    *,
    val: NumberPredictions,
    test: NumberPredictions,
    groups: pd.DataFrame,
    further: Sequence[str] = (),
) -> NumberEvaluation:
    """As :func:`gyrus.workflows.evaluate.evaluate_run`, for a number.

    Args:
        run: The run; its training history and the predictions of its baselines are read from its folder.
        settings: Its config.
        manifest: Its data.
        split: The split of the data.
        val: The predictions for the validation set.
        test: The predictions for the test set.
        groups: The columns that define subgroups, indexed by sample.
        further: Further sections of the text.
    """
    refuse_links(run.folder, error=RunError)
    config = settings.evaluation
    evaluation = evaluate_number_table(test, config, seed=settings.seed)
    evaluation.save(run.metrics)
    baselines = evaluate_run_baselines(run, test, config, seed=settings.seed)
    sampled: dict[str, Any] = {"resamples": config.resamples, "seed": settings.seed, "level": config.level}
    assessment = assess_numbers(val, test, **sampled, of_network=run.has_network)
    assessment.save(run.assessment)
    sampling = BootstrapConfig(config.resamples, settings.seed, config.level)
    subgroups = evaluate_number_subgroups(test, groups, sampling)
    subgroups.save(run.subgroups)
    files = [one_per_line([f"Files of the data: {manifest.files.summary}."]) + "\n"] if manifest.files else []
    write_text(run.classification_report, "\n".join([evaluation.text(baselines), assessment.text(), *further, *files]))
    report_number_run(run, NumberResults(test, evaluation, manifest, split, baselines, assessment, subgroups))
    return evaluation


def evaluate_number_table(
    predictions: NumberPredictions, config: EvaluationConfig, *, seed: int = 0
) -> NumberEvaluation:
    """The scores of predicted numbers with the settings of a config."""
    return evaluate_numbers(
        predictions, resamples=config.resamples, level=config.level, interval=config.interval, seed=seed
    )


def evaluate_number_file(predictions: NumberPredictions, folder: Path, config: EvaluationConfig) -> NumberEvaluation:
    """Evaluate a table of predicted numbers, and write scores, text and page into a folder."""
    evaluation = evaluate_number_table(predictions, config)
    evaluation.save(folder / "metrics.json")
    write_text(folder / "classification_report.txt", evaluation.text())
    report_number_predictions(predictions, evaluation, folder)
    return evaluation
