"""Everything that is said of a trained network, from what it said of the validation and the test set."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pandas as pd

from gyrus.datasets.manifest import Manifest
from gyrus.errors import ConfigError
from gyrus.evaluation.assessment import assess
from gyrus.evaluation.baselines import baseline_sentences
from gyrus.evaluation.evaluate import Evaluation
from gyrus.evaluation.evaluate import evaluate as evaluate_predictions
from gyrus.evaluation.sampling import BootstrapConfig
from gyrus.evaluation.subgroups import Subgroups, subgroups
from gyrus.files import write_text
from gyrus.inference.predictions import Predictions
from gyrus.reporting.run_report import report_run
from gyrus.runs.run_folder import Run
from gyrus.workflows.baselines import judge_saved
from gyrus.workflows.experiment_config import EvaluationConfig, ExperimentConfig
from gyrus.workflows.image_quality import QUALITY, load_quality

GROUP_COLUMNS = ("age", "sex", "gender", "m/f", "site", "scanner", "manufacturer", "field_strength", "slice")
"""Columns of a manifest, in any case, that groups are made of without being asked for."""

HEALTHY = ("healthy", "healthycontrol", "control", "controls", "normal", "nc", "cn", "hc", "nondemented", "notdemented")
"""Names, without signs and in any case, by which the healthy class is recognised."""


def judge(predictions: Predictions, config: EvaluationConfig, *, seed: int = 0) -> Evaluation:
    """The evaluation of predictions as a config asks for it; see :func:`gyrus.evaluation.evaluate.evaluate`."""
    return evaluate_predictions(
        predictions, resamples=config.resamples, level=config.level, interval=config.interval, seed=seed
    )


def judge_run(run: Run, settings: ExperimentConfig) -> Evaluation:
    """Judge a run from its predictions, and write metrics, baselines, assessment, groups, text, figures and report.

    Scores are of the test set only: the validation set chose the weights, so its scores would flatter.

    Raises:
        DataError: A file of the run is damaged.
    """
    config = settings.evaluation
    test, val = Predictions.load(run.predictions("test")), Predictions.load(run.predictions("val"))
    evaluation = judge(test, config, seed=settings.seed)
    evaluation.save(run.metrics)
    baselines = judge_saved(run, test, config, seed=settings.seed)
    healthy = config.healthy or healthy_class(test.classes)
    sampling = BootstrapConfig(config.resamples, settings.seed, config.level)
    assessment = assess(val, test, healthy=healthy, resamples=config.resamples, seed=settings.seed, level=config.level)
    assessment.save(run.assessment)
    groups = _groups(Manifest.load(run.manifest), load_quality(run), config.groups)
    Subgroups(subgroups(test, groups, sampling=sampling)).save(run.subgroups)
    first = baseline_sentences(evaluation, baselines) if baselines else ()
    write_text(run.classification_report, "\n".join([*first, evaluation.text(), assessment.text()]))
    report_run(run)
    return evaluation


def healthy_class(classes: Sequence[str]) -> str | None:
    """The class that is healthy by its name; None where none or several are."""
    found = [name for name in classes if re.sub(r"[^a-z]", "", name.lower()) in HEALTHY]
    return found[0] if len(found) == 1 else None


def check_asked(manifest: Manifest, config: EvaluationConfig) -> None:
    """Tell before a training what could not be judged after it.

    Raises:
        ConfigError: A class or a column that the config names is not there.
    """
    if config.healthy is not None and config.healthy not in manifest.classes:
        raise ConfigError(f"evaluation.healthy is '{config.healthy}', but the classes are {list(manifest.classes)}.")
    known = [*manifest.table.columns, *QUALITY]
    missing = [column for column in config.groups or () if column not in known]
    if missing:
        raise ConfigError(f"evaluation.groups names {missing}, but the data have the columns {known}.")


def _groups(manifest: Manifest, quality: pd.DataFrame, asked: Sequence[str] | None) -> pd.DataFrame:
    """The columns that groups are made of, indexed by sample."""
    measured = [column for column in quality if column not in manifest.table]
    table = manifest.table.set_index("sample").join(quality[measured])
    if asked is not None:
        return table[[column for column in asked if column in table]]
    named = [column for column in table if str(column).lower() in GROUP_COLUMNS or column in measured]
    return table[[column for column in named if table[column].nunique() > 1]]
