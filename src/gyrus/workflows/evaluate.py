"""Evaluate a run, or a table of predictions of any tool: scores, baselines, subgroups, figures and report."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import overload

import pandas as pd

from gyrus.configuration import parse
from gyrus.datasets.manifest import Manifest
from gyrus.datasets.splits import Split
from gyrus.errors import ConfigError, DataError, RunError
from gyrus.evaluation.assessment import assess
from gyrus.evaluation.bootstrap import BootstrapConfig
from gyrus.evaluation.evaluate import affordable_resamples
from gyrus.evaluation.evaluate import evaluate as measure
from gyrus.evaluation.matching import MatchedScores
from gyrus.evaluation.number_result import NumberEvaluation
from gyrus.evaluation.result import Evaluation, Interval
from gyrus.evaluation.subgroups import Subgroups, evaluate_subgroups
from gyrus.evaluation.visit_scores import VisitScores, score_visits
from gyrus.files import refuse_links, write_text
from gyrus.inference.number_predictions import AnyPredictions, NumberPredictions, holds_numbers, load_predictions
from gyrus.inference.predictions import TABLES, Predictions, is_saved_predictions
from gyrus.reporting.run_report import RunResults, read_history, report_predictions, report_run
from gyrus.runs.run_folder import Run
from gyrus.text import one_per_line
from gyrus.types import SplitUnit, Subset
from gyrus.workflows.baselines import evaluate_run_baselines
from gyrus.workflows.crossval_folder import CrossValidation, is_crossval
from gyrus.workflows.experiment_config import EvaluationConfig, ExperimentConfig, load_run_config
from gyrus.workflows.harmonisation import check_sites
from gyrus.workflows.matched_scores import score_matched_crossval, score_matched_run
from gyrus.workflows.number_evaluation import evaluate_number_file, evaluate_number_run, evaluate_number_table
from gyrus.workflows.saved_outputs import QUALITY, load_quality
from gyrus.workflows.table_fusion import evaluate_added_value

GROUP_COLUMNS = (
    "age",
    "sex",
    "gender",
    "m/f",
    "site",
    "scanner",
    "manufacturer",
    "field_strength",
    "slice",
    "sequences",
)
"""Columns of a manifest, in any case, that define subgroups by default."""

HEALTHY = (
    "healthy",
    "healthycontrol",
    "healthycontrols",
    "healthysubject",
    "control",
    "controls",
    "normal",
    "normalcontrol",
    "nc",
    "cn",
    "hc",
    "cognitivelynormal",
    "nondemented",
    "notdemented",
    "nodementia",
    "nondementia",
    "notumor",
    "notumour",
    "none",
    "stable",
)
"""Names of the healthy class, in lower case and letters only, by which it is recognised."""


def evaluate(
    source: Run | str | Path,
    *,
    out: str | Path | None = None,
    split_unit: SplitUnit | None = None,
    config: EvaluationConfig | None = None,
    resamples: int | None = None,
    level: float | None = None,
    interval: Interval | None = None,
    matched: Sequence[str] = (),
) -> Evaluation | NumberEvaluation:
    """Evaluate a finished run again from its predictions, or a table of predictions of any tool.

    The metrics, figures and report of a run are written again. Of a table they are written to ``out``;
    :func:`report_page` returns the path of the page.

    Args:
        source: A run, a run folder, or a table; see :func:`read_predictions`.
        out: For a table: the folder to write into; by default ``<name>-evaluation`` beside the table.
        split_unit: For a table of another tool: how the data were split.
        config: Settings; by default those of the run.
        resamples: Bootstrap resamples of the subjects; by default as in ``config``.
        level: Coverage of the confidence intervals; by default as in ``config``.
        interval: "bca" or "percentile"; by default as in ``config``.
        matched: For a run, or a cross-validation, of which nothing else is evaluated again: columns such as age and
            sex. Writes ``matched_scores.json``; see :mod:`gyrus.evaluation.matching`.

    Raises:
        RunError: There is no finished run in the folder.
        DataError: The table cannot be read, or lacks the true classes, or a cell of ``matched`` cannot be used.
        ConfigError: A setting is out of range, the table does not record its split and ``split_unit`` is not given,
            or ``out`` or ``split_unit`` is given for a run.
    """
    options = {"resamples": resamples, "level": level, "interval": interval}
    given = {name: value for name, value in options.items() if value is not None}
    if _is_table(source):
        if matched:
            raise ConfigError("--matched is for runs and cross-validations: their data have the columns.")
        settings = _changed(config or EvaluationConfig(), given)
        return _evaluate_table(Path(str(source)), report_page(source, out).parent, split_unit, settings)
    if out or split_unit:
        raise ConfigError("--out and --split-unit are for tables of predictions: a run records its split and folder.")
    if matched and not isinstance(source, Run) and is_crossval(Path(source)):
        crossval = CrossValidation.load(Path(source))
        score_matched_crossval(crossval, matched, given)
        return crossval.pooled[0]
    run = source if isinstance(source, Run) else Run.open(Path(source))
    experiment = load_run_config(run)
    settings = _changed(config or experiment.evaluation, given)
    manifest, split = Manifest.load(run.manifest), Split.load(run.split)
    val, test = (_predictions_of(run, manifest, split, subset) for subset in ("val", "test"))
    if matched:
        score_matched_run(run, test, manifest, matched, settings, seed=experiment.seed)
    return evaluate_run(
        run, experiment.model_copy(update={"evaluation": settings}), manifest, split, val=val, test=test
    )


def _predictions_of(run: Run, manifest: Manifest, split: Split, subset: Subset) -> AnyPredictions:
    """The saved predictions of a run, which must be those of its own images."""
    path = run.predictions(subset)
    predictions = load_predictions(path)
    expected = manifest.select(split.samples[subset])
    if len(expected) != len(split.samples[subset]):
        raise DataError(f"{run.manifest} lacks images of {run.split}: one of them is damaged or of another run.")
    number = isinstance(predictions, NumberPredictions)
    truth = expected.targets if number and manifest.target.is_number else expected.table["label"]
    labels = dict(zip(expected.table["sample"], truth, strict=True))
    found = dict(zip(predictions.table["sample"], predictions.table["target"], strict=True))
    classes = () if isinstance(predictions, NumberPredictions) else predictions.classes
    if labels != found or classes != expected.classes or predictions.target != manifest.target:
        raise DataError(
            f"{path} does not hold the images, labels and classes of the {subset} set in {run.split}: one of them is "
            "damaged or of another run."
        )
    return predictions


def report_page(source: Run | str | Path, out: str | Path | None = None) -> Path:
    """The page that :func:`evaluate` writes for the same arguments."""
    if isinstance(source, Run):
        return source.report
    path = Path(source)
    if not _is_table(path):
        return Run(path).report
    return (Path(out) if out else path.parent / f"{path.stem}-evaluation") / "report.html"


def evaluate_run(
    run: Run, settings: ExperimentConfig, manifest: Manifest, split: Split, *, val: AnyPredictions, test: AnyPredictions
) -> Evaluation | NumberEvaluation:
    """Evaluate the predictions of a run; write metrics, baselines, assessment, subgroups, text, figures and report.

    With ``evaluation.report: false`` only the metrics are written.

    All scores are those of the test set: the validation set chose the weights, so its scores are too high.

    Args:
        run: The run; its training history and the predictions of its baselines are read from its folder.
        settings: Its config.
        manifest: Its data.
        split: The split of the data.
        val: The predictions for the validation set.
        test: The predictions for the test set.

    Raises:
        DataError: A file of the run is damaged.
        RunError: A link leads out of its folder.
    """
    refuse_links(run.folder, error=RunError)
    config = settings.evaluation
    columns = group_columns(manifest, load_quality(run), config.groups)
    site = check_sites(run, manifest, split, settings)
    sites = [one_per_line([site.text()]) + "\n"] if site else []
    if isinstance(test, NumberPredictions) or isinstance(val, NumberPredictions):
        assert isinstance(test, NumberPredictions)
        assert isinstance(val, NumberPredictions)
        return evaluate_number_run(run, settings, manifest, split, val=val, test=test, groups=columns, further=sites)
    evaluation = evaluate_predictions(test, config, seed=settings.seed)
    evaluation.save(run.metrics)
    if not config.report:
        return evaluation
    config = config.model_copy(update={"resamples": affordable_resamples(config.resamples, test.classes)})
    baselines = evaluate_run_baselines(run, test, config, seed=settings.seed)
    healthy = config.healthy or healthy_class(test.classes)
    assessment = assess(
        val,
        test,
        healthy=healthy,
        at_least=config.at_least,
        resamples=config.resamples,
        seed=settings.seed,
        level=config.level,
    )
    assessment.save(run.assessment)
    sampling = BootstrapConfig(config.resamples, settings.seed, config.level)
    groups = Subgroups(evaluate_subgroups(test, columns, bootstrap=sampling))
    groups.save(run.subgroups)
    added = evaluate_added_value(run, manifest, test, experiment=settings, config=config)
    by_visit = score_own_visits(run, test, manifest, settings)
    of_visits = [by_visit.text() + "\n"] if by_visit else []
    question = [one_per_line(added.text().splitlines()) + "\n"] if added else []
    files = [one_per_line([f"Files of the data: {manifest.files.summary}."]) + "\n"] if manifest.files else []
    matched = MatchedScores.load(run.matched_scores) if run.matched_scores.is_file() else None
    alike = [matched.text() + "\n"] if matched else []
    texts = [*question, evaluation.text(baselines), *of_visits, *alike, *sites, assessment.text(), *files]
    write_text(run.classification_report, "\n".join(texts))
    results = RunResults(
        predictions=test,
        evaluation=evaluation,
        manifest=manifest,
        split=split,
        history=read_history(run),
        baselines=baselines,
        assessment=assessment,
        subgroups=groups,
        added_value=added,
        visit_scores=by_visit,
        matched_scores=matched,
    )
    report_run(run, results)
    return evaluation


def score_own_visits(
    run: Run, test: AnyPredictions, manifest: Manifest, settings: ExperimentConfig
) -> VisitScores | None:
    """Score predictions by visit and by person, and write ``visit_scores.json``.

    Args:
        run: The run, or the folder of a cross-validation.
        test: The predictions for the test set, or out of fold.
        manifest: The data.
        settings: The config.

    Returns:
        None for numbers, and where no subject has several visits.
    """
    if isinstance(test, NumberPredictions):
        return None
    config = settings.evaluation
    sessions = dict(zip(manifest.table["sample"], manifest.table["session"], strict=True))
    resamples = affordable_resamples(config.resamples, test.classes)
    found = score_visits(test, sessions, resamples=resamples, seed=settings.seed, level=config.level)
    if found:
        found.save(run.visit_scores)
    return found


@overload
def evaluate_predictions(predictions: Predictions, config: EvaluationConfig, *, seed: int = 0) -> Evaluation: ...


@overload
def evaluate_predictions(
    predictions: NumberPredictions, config: EvaluationConfig, *, seed: int = 0
) -> NumberEvaluation: ...


def evaluate_predictions(
    predictions: AnyPredictions, config: EvaluationConfig, *, seed: int = 0
) -> Evaluation | NumberEvaluation:
    """The scores of predictions with the settings of a config; see :func:`gyrus.evaluation.evaluate.evaluate`."""
    if isinstance(predictions, NumberPredictions):
        return evaluate_number_table(predictions, config, seed=seed)
    return measure(predictions, resamples=config.resamples, level=config.level, interval=config.interval, seed=seed)


def read_predictions(path: Path, split_unit: SplitUnit | None = None) -> AnyPredictions:
    """Read a table of predictions, of Gyrus or of another tool.

    Args:
        path: A .csv, .parquet or .json file; see :meth:`gyrus.inference.predictions.Predictions.from_file`. With a
            column ``prediction`` and no probabilities it holds numbers; see
            :meth:`gyrus.inference.number_predictions.NumberPredictions.from_file`.
        split_unit: How the data were split; not needed for a table that Gyrus saved in a run.

    Raises:
        DataError: The file is missing, or is no table of predictions.
        ConfigError: The table does not record its split, and ``split_unit`` is not given.
    """
    if not path.is_file():
        raise DataError(f"There is no file {path}. Name a table of predictions: {', '.join(TABLES)}.")
    if path.suffix.lower() == ".parquet" and is_saved_predictions(path):
        return load_predictions(path)
    if split_unit is None:
        raise ConfigError(
            f"{path} does not record how its data were split, and a score cannot be interpreted without that. Give "
            "--split-unit subject if no subject is both in the training and in the test set, else --split-unit image."
        )
    if holds_numbers(path):
        return NumberPredictions.from_file(path, split_unit=split_unit)
    return Predictions.from_file(path, split_unit=split_unit)


def healthy_class(classes: Sequence[str]) -> str | None:
    """The class that is healthy by its name; None if no class or several have such a name."""
    found = [name for name in classes if re.sub(r"[^a-z]", "", name.lower()) in HEALTHY]
    return found[0] if len(found) == 1 else None


def require_evaluable(manifest: Manifest, config: EvaluationConfig) -> None:
    """Refuse, before training, a config whose evaluation would fail after it.

    Raises:
        ConfigError: The data lack a class or a column that the config names.
    """
    if config.healthy is not None and config.healthy not in manifest.classes:
        raise ConfigError(f"evaluation.healthy is '{config.healthy}', but the classes are {list(manifest.classes)}.")
    if config.at_least is not None and not manifest.target.is_ordered:
        raise ConfigError(
            f"evaluation.at_least is '{config.at_least}', but the classes {list(manifest.classes)} have no order. "
            "State it, the lowest first: --ordered 'a<b<c'."
        )
    if config.at_least is not None and config.at_least not in manifest.classes[1:]:
        raise ConfigError(
            f"evaluation.at_least must be a class above the first, one of {list(manifest.classes[1:])}; got "
            f"'{config.at_least}'."
        )
    known = [*manifest.table.columns, *QUALITY]
    missing = [column for column in config.groups or () if column not in known]
    if missing:
        raise ConfigError(f"evaluation.groups names {missing}, but the data have the columns {known}.")


def _is_table(source: Run | str | Path) -> bool:
    return not isinstance(source, Run) and Path(source).is_file()


def _changed(config: EvaluationConfig, changes: Mapping[str, object]) -> EvaluationConfig:
    return parse(EvaluationConfig, {**config.model_dump(), **changes}, where="The evaluation")


def _evaluate_table(
    path: Path, folder: Path, split_unit: SplitUnit | None, config: EvaluationConfig
) -> Evaluation | NumberEvaluation:
    predictions = read_predictions(path, split_unit)
    if isinstance(predictions, NumberPredictions):
        return evaluate_number_file(predictions, folder, config)
    evaluation = evaluate_predictions(predictions, config)
    evaluation.save(folder / "metrics.json")
    write_text(folder / "classification_report.txt", evaluation.text())
    report_predictions(predictions, evaluation, folder)
    return evaluation


def group_columns(manifest: Manifest, quality: pd.DataFrame, asked: Sequence[str] | None) -> pd.DataFrame:
    """The columns that define subgroups, indexed by sample."""
    measured = [column for column in quality if column not in manifest.table]
    table = manifest.table.set_index("sample").join(quality[measured])
    if asked is not None:
        return table[[column for column in asked if column in table]]
    named = [column for column in table if str(column).lower() in GROUP_COLUMNS or column in measured]
    return table[[column for column in named if table[column].nunique() > 1]]
