"""Predict subjects with classifiers without a network: from images, from a table, or from images with such columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gyrus.datasets.manifest import Manifest, Problem, require_dimensions
from gyrus.datasets.store import Store, open_store, without_unusable
from gyrus.errors import ConfigError, DataError
from gyrus.evaluation.number_assessment import NumberAssessment
from gyrus.executor import folder_for_temporary_files
from gyrus.files import temporary_folder
from gyrus.inference.features.volumes import Volumes
from gyrus.inference.number_predictions import AnyPredictions, NumberPredictions, average
from gyrus.inference.predictions import Predictions
from gyrus.inference.unlike_training import (
    NO_REFERENCE,
    Columns,
    UnlikeTraining,
    likeness_columns,
    reference_count,
    summarise_likeness,
)
from gyrus.models.tree_ensemble import TreeEnsemble
from gyrus.runs.run_folder import Run
from gyrus.workflows.classical import ClassicalClassifier
from gyrus.workflows.display import Display
from gyrus.workflows.ensemble import Weighting, member_weights, shared_choices
from gyrus.workflows.experiment_config import DataConfig, ExperimentConfig, load_run_config
from gyrus.workflows.likeness import load_unlike_training, measure_by_features, with_likeness
from gyrus.workflows.load_data import (
    Input,
    input_text,
    is_people_table,
    measure_and_show_heads,
    read_as_trained,
    scan_unlabelled,
    sessions_of,
    show_missing_cells,
    view_of,
)
from gyrus.workflows.skipped_samples import for_each_input, write_skipped


def predict_without_network(
    runs: Sequence[Run],
    inputs: Sequence[str | Path],
    *,
    out: Path | None,
    data: DataConfig,
    weights: Weighting | Sequence[float],
    display: Display,
) -> AnyPredictions:
    """Predict with one classifier without a network, or with the mean of several.

    Args:
        runs: Runs without a network.
        inputs: Images, or tables for classifiers on the columns of a table. None of these: the table of ``data``.
        out: The table to write.
        data: How to read the inputs.
        weights: "equal" or "validation", or the weight of each run.
        display: Where notes are shown.

    Raises:
        ConfigError: The classifiers cannot be combined.
        DataError: An input cannot be read, a column is missing, or a cell is not what its column holds.
    """
    members = [
        _Member(ClassicalClassifier.load(run), load_run_config(run), run, load_unlike_training(run)) for run in runs
    ]
    if not inputs and data.table and not any(member.needs_images for member in members):
        inputs, data = [data.table], data.model_copy(update={"table": None})
    if not inputs:
        raise DataError("Nothing to predict: name at least one image, folder or table.")
    _require_compatible(members)
    data = _first_of_images(members).reading(data)
    factors = member_weights(runs, weights)
    one = partial(_predict_input, members=members, weights=factors, data=data, display=display)
    found, skipped = for_each_input(sessions_of(inputs, data), one, skip=data.on_bad_file == "skip")
    table = pd.concat([each.table for each in found], ignore_index=True).drop_duplicates("sample")
    engines = tuple(dict.fromkeys(member.engine for member in members))
    first = replace(found[0], table=table, engines=engines)
    predictions: AnyPredictions
    if isinstance(first, NumberPredictions):
        predictions = _with_intervals(first, runs, display)
    else:
        predictions = _decided(first, runs, factors, display)
    if any(member.classifier.takes_image for member in members):
        summary = summarise_likeness(predictions, reference_count([member.unlike for member in members]))
        display.say(summary.text() if summary else NO_REFERENCE)
    if out is not None:
        predictions.export(out)
        write_skipped(skipped, out, display)
    return predictions


@dataclass(frozen=True)
class _Member:
    """A classifier, the config of its run, and the distances of its training data, where it has any."""

    classifier: ClassicalClassifier
    settings: ExperimentConfig
    run: Run
    unlike: UnlikeTraining | None

    @property
    def needs_images(self) -> bool:
        return self.settings.model.needs_images

    @property
    def engine(self) -> str:
        """What predicts."""
        return "boosted trees" if isinstance(self.classifier.model, TreeEnsemble) else "a linear model"

    @property
    def view(self) -> dict[str, object]:
        """The fields of the data config that determine which files and slices of a scan make up a sample."""
        return view_of(self.settings.data)

    def reading(self, config: DataConfig) -> DataConfig:
        """How new data are read: slices, stacks and channels as in training."""
        return read_as_trained(self.settings.data, config) if self.needs_images else config

    def store(self, manifest: Manifest, cache: Path, display: Display) -> Store | None:
        """The preprocessed pixels, where the features need them."""
        if not self.classifier.features.needs_pixels:
            return None
        with display.progress("Decoding images") as progress:
            return open_store(manifest, self.settings.preprocessing, cache=cache, progress=progress)


def _first_of_images(members: Sequence[_Member]) -> _Member:
    """The first that needs images; the first of all where a table is enough."""
    return next((member for member in members if member.needs_images), members[0])


def _require_compatible(members: Sequence[_Member]) -> None:
    first = _first_of_images(members)
    for member in members:
        if member.classifier.target != first.classifier.target:
            raise ConfigError("The models predict different things, classes and numbers: they cannot be combined.")
        if set(member.classifier.classes) != set(first.classifier.classes):
            raise ConfigError(
                f"The classifiers have other classes than {list(first.classifier.classes)}: they cannot be combined."
            )
        if member.needs_images and member.view != first.view:
            raise ConfigError(
                "The classifiers use other slices, stacks or channels of a scan (data.slices, data.stack, "
                "data.channels): they cannot be combined."
            )


def _predict_input(
    path: Input,
    members: Sequence[_Member],
    weights: Sequence[float],
    data: DataConfig,
    display: Display,
) -> tuple[AnyPredictions, tuple[Problem, ...], Path]:
    first = _first_of_images(members)
    people = not isinstance(path, tuple) and data.source is None and is_people_table(path, data.columns)
    if people and first.needs_images:
        raise DataError(
            f"{path} is a table without paths of images, and the classifier needs images. Name the images, and the "
            "table with --table."
        )
    manifest = scan_unlabelled(path, data.model_copy(update={"source": "people"}) if people else data, display)
    if first.needs_images:
        manifest = require_dimensions(manifest, first.classifier.spatial_dims or manifest.spatial_dims, "run")
    for member in members:
        if member.classifier.encoder:
            show_missing_cells(member.classifier.encoder, manifest, display)
    if any(isinstance(maker, Volumes) for member in members for maker in member.classifier.features.makers):
        measure_and_show_heads(manifest, display)
    with temporary_folder(folder_for_temporary_files()) as cache:
        if data.on_bad_file == "skip" and manifest.has_images:
            for member in members:
                if member.classifier.features.needs_pixels:
                    with display.progress(f"Preparing {input_text(path)}") as progress:
                        manifest = without_unusable(
                            manifest, member.settings.preprocessing, cache=cache, progress=progress
                        )
        found, alike = list[AnyPredictions](), list[Columns]()
        for member in members:
            store = member.store(manifest, cache, display)
            found.append(_predictions(member, manifest, store, display))
            if member.unlike and store is not None:
                measured = measure_by_features(member.classifier, manifest, store)(np.arange(len(manifest)))
                distances = member.unlike.distances(measured)
                alike.append(likeness_columns(member.unlike, distances, manifest.table["subject"].tolist()))
    together: AnyPredictions = average(found, weights) if len(found) > 1 else found[0]  # type: ignore[type-var]
    together = with_likeness(together, alike) if alike else together
    return together, manifest.problems, manifest.root


def _predictions(member: _Member, manifest: Manifest, store: Store | None, display: Display) -> AnyPredictions:
    classifier = member.classifier
    outputs = classifier.logits(manifest, store, display)
    about: dict[str, Any] = {
        "split_unit": classifier.split_unit,
        "subset": "new",
        "subjects": manifest.table["subject"].tolist(),
        "target": classifier.target,
    }
    if classifier.target.is_number:
        return NumberPredictions.from_outputs(_names(manifest), outputs, **about)
    return Predictions.from_logits(_names(manifest), outputs, classes=classifier.classes, **about)


def _names(manifest: Manifest) -> list[str]:
    """The paths of images; the ids of subjects without images."""
    names = manifest.table["sample"].tolist()
    return [str(manifest.root / name) for name in names] if manifest.has_images else names


def _with_intervals(predictions: NumberPredictions, runs: Sequence[Run], display: Display) -> NumberPredictions:
    """Predicted numbers with the intervals and the correction of a single run."""
    if len(runs) > 1 or not runs[0].assessment.is_file():
        return predictions
    predicted, sentence = NumberAssessment.load(runs[0].assessment).rule.applied(predictions)
    if sentence:
        display.say(sentence)
    return predicted


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
