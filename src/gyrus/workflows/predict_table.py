"""Predict subjects with classifiers on the columns of a table: from a table, or from images with such columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd

from gyrus.datasets.manifest import Manifest, Problem
from gyrus.errors import ConfigError, DataError
from gyrus.inference.pooling import average_predictions
from gyrus.inference.predictions import Predictions
from gyrus.runs.run_folder import Run
from gyrus.workflows.classical import TableClassifier, show_missing_cells
from gyrus.workflows.display import Display
from gyrus.workflows.ensemble import Weighting, member_weights, shared_choices
from gyrus.workflows.experiment_config import DataConfig
from gyrus.workflows.load_data import is_people_table, scan_unlabelled
from gyrus.workflows.skipped_samples import for_each_input, write_skipped


def predict_table(
    runs: Sequence[Run],
    inputs: Sequence[str | Path],
    *,
    out: Path | None,
    data: DataConfig,
    weights: Weighting,
    display: Display,
) -> Predictions:
    """Predict with one classifier on the columns of a table, or with the mean of several.

    Args:
        runs: Runs without a network.
        inputs: Tables, or images with the columns beside them. None: the table of ``data``.
        out: The table to write.
        data: How to read the inputs.
        weights: "equal" or "validation".
        display: Where notes are shown.

    Raises:
        ConfigError: The classifiers cannot be combined.
        DataError: An input cannot be read, a column is missing, or a cell is not what its column holds.
    """
    if not inputs and data.table:
        inputs, data = [data.table], data.model_copy(update={"table": None})
    if not inputs:
        raise DataError("Nothing to predict: name a table of subjects.")
    classifiers = [TableClassifier.load(run) for run in runs]
    first = classifiers[0]
    if any(set(each.classes) != set(first.classes) for each in classifiers):
        raise ConfigError(f"The classifiers have other classes than {list(first.classes)}: they cannot be combined.")
    factors = member_weights(runs, weights)
    one = partial(_predict_input, classifiers=classifiers, weights=factors, data=data, display=display)
    found, skipped = for_each_input(inputs, one, skip=data.on_bad_file == "skip")
    table = pd.concat([each.table for each in found], ignore_index=True).drop_duplicates("sample")
    predictions = replace(found[0], table=table, engines=("a linear model",))
    predictions = _decided(predictions, runs, factors, display)
    if out is not None:
        predictions.export(out)
        write_skipped(skipped, out, display)
    return predictions


def _predict_input(
    path: str | Path,
    classifiers: Sequence[TableClassifier],
    weights: Sequence[float],
    data: DataConfig,
    display: Display,
) -> tuple[Predictions, tuple[Problem, ...], Path]:
    if data.source is None and is_people_table(path, data.columns):
        data = data.model_copy(update={"source": "people"})
    manifest = scan_unlabelled(path, data, display)
    show_missing_cells(classifiers[0].encoder, manifest, display)
    found = [
        Predictions.from_logits(
            _names(manifest),
            each.logits(manifest.table, new=True),
            classes=each.classes,
            split_unit=each.split_unit,
            subset="new",
            subjects=manifest.table["subject"].tolist(),
        )
        for each in classifiers
    ]
    together = average_predictions(found, weights) if len(found) > 1 else found[0]
    return together, manifest.problems, manifest.root


def _names(manifest: Manifest) -> list[str]:
    """The paths of images; the ids of subjects without images."""
    names = manifest.table["sample"].tolist()
    return [str(manifest.root / name) for name in names] if manifest.has_images else names


def _decided(predictions: Predictions, runs: Sequence[Run], weights: Sequence[float], display: Display) -> Predictions:
    """Predictions with the columns of calibration and decisions."""
    choices = shared_choices(runs, weights, predictions.classes)
    rule = choices.decision_rule(predictions.classes) if choices else None
    if rule is None:
        return predictions
    decided, sentence = rule.applied(predictions)
    if sentence:
        display.say(sentence)
    return decided
