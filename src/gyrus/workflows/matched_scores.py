"""Scores of a run or a cross-validation on subjects alike in columns such as age and sex."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from gyrus.configuration import parse
from gyrus.datasets.manifest import Manifest
from gyrus.datasets.table_features import column_kinds
from gyrus.errors import ConfigError
from gyrus.evaluation.bootstrap import BootstrapConfig
from gyrus.evaluation.matching import MatchedScores, matched_scores
from gyrus.files import write_text
from gyrus.inference.number_predictions import AnyPredictions, NumberPredictions
from gyrus.runs.run_folder import Run
from gyrus.workflows.crossval_folder import CrossValidation
from gyrus.workflows.experiment_config import EvaluationConfig, load_run_config


def score_matched_run(
    run: Run,
    test: AnyPredictions,
    manifest: Manifest,
    columns: Sequence[str],
    config: EvaluationConfig,
    *,
    seed: int,
) -> MatchedScores:
    """Score the test set of a run on subjects alike in some columns; writes ``matched_scores.json``.

    Args:
        run: Receives the file.
        test: The predictions for its test set, or out-of-fold predictions.
        manifest: Its data, which have the columns.
        columns: Names of columns; ``name:number`` and ``name:category`` state what they hold.
        config: Resamples and level of the intervals.
        seed: Seed of resamples and permutations.

    Raises:
        ConfigError: The data lack a column, or a number is predicted.
        DataError: A cell is not what its column holds.
    """
    if isinstance(test, NumberPredictions):
        raise ConfigError("--matched is for classes, and this classifier predicts a number.")
    rows = manifest.table[manifest.table["sample"].isin(set(test.table["sample"]))]
    sampling = BootstrapConfig(config.resamples, seed, config.level)
    found = matched_scores(test, rows, column_kinds(columns), bootstrap=sampling)
    found.save(run.matched_scores)
    return found


def score_matched_crossval(
    crossval: CrossValidation, columns: Sequence[str], changes: Mapping[str, object]
) -> MatchedScores:
    """Score the out-of-fold predictions of the first repeat; as :func:`score_matched_run`.

    Args:
        crossval: A finished cross-validation; its text is written again, with these scores.
        columns: Names of columns.
        changes: Settings of the evaluation other than those of the folds.
    """
    fold = crossval.runs[0]
    experiment = load_run_config(fold)
    config = parse(EvaluationConfig, {**experiment.evaluation.model_dump(), **changes}, where="The evaluation")
    manifest = Manifest.load(fold.manifest)
    folder = Run(crossval.folder)
    found = score_matched_run(folder, crossval.predictions(), manifest, columns, config, seed=experiment.seed)
    write_text(folder.classification_report, crossval.text())
    return found


def saved_matched_scores(folder: Path) -> MatchedScores:
    """The matched scores of a run or cross-validation."""
    return MatchedScores.load(Run(Path(folder)).matched_scores)
