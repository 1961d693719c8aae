"""Compare scans with the training data of a run: the reference is fitted after training, and used for new scans."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gyrus.inference.number_predictions import AnyPredictions
from gyrus.inference.unlike_training import (
    MOST_TRAINING_SUBJECTS,
    MOST_VALIDATION_SUBJECTS,
    Columns,
    Measured,
    UnlikeTraining,
    combine_likeness,
    likeness_columns,
    measure_images,
    some_of_each,
    summarise_likeness,
)
from gyrus.runs.run_folder import Run
from gyrus.types import Subset
from gyrus.workflows.display import Display

if TYPE_CHECKING:
    from gyrus.datasets.manifest import Manifest
    from gyrus.datasets.splits import Split
    from gyrus.datasets.store import Store
    from gyrus.models.classifier import Classifier
    from gyrus.workflows.classical import ClassicalClassifier
    from gyrus.workflows.data_module import DataModule

MOST_TEST_SUBJECTS = 500
"""Subjects of the test set that are compared with the training set, drawn at random."""


Measure = Callable[[np.ndarray], Measured]
"""From rows of a manifest to what is compared of them."""


def measure_by_network(model: Classifier, data: DataModule) -> Measure:
    """What is compared of images of the data of a network."""
    from gyrus.inference.predict import predict_embeddings

    dataset = data.all_images()
    return lambda rows: measure_images(data.manifest, data.store, predict_embeddings(model, dataset, rows), rows)


def measure_by_features(classifier: ClassicalClassifier, manifest: Manifest, store: Store) -> Measure:
    """What is compared of images by a classifier without a network: the features of each image by itself."""
    from gyrus.inference.features.base import Samples
    from gyrus.workflows.classical_network import network_steps

    steps, names = network_steps(classifier), manifest.table["sample"].to_numpy(str)

    def measure(rows: np.ndarray) -> Measured:
        found, features = classifier.features.of_units(Samples(manifest, store, rows, names[rows]))
        return measure_images(manifest, store, features[np.searchsorted(found, names[rows])], rows, steps)

    return measure


def save_unlike_training(
    run: Run, manifest: Manifest, split: Split, measure: Measure, test: AnyPredictions, seed: int, display: Display
) -> None:
    """Fit the reference of the training data, and count the test subjects that are unlike it.

    Args:
        run: Receives ``unlike_training.npz`` and ``likeness.json``.
        manifest: The data.
        split: Their split. Of many subjects of a subset some are drawn.
        measure: From rows of the manifest to what is compared.
        test: The predictions for the test set.
        seed: Seed of the draws.
        display: Where progress is shown.
    """
    display.say("Measuring how much new scans may differ from the training data")
    subjects = manifest.table["subject"]
    by_subject = split.kept_together not in ("image", "copy") and bool(subjects.notna().all())
    names = (subjects if by_subject else manifest.table["sample"]).to_numpy(dtype=object)

    def picked(subset: Subset, most: int) -> np.ndarray:
        rows = np.flatnonzero(manifest.table["sample"].isin(split.samples[subset]))
        return rows[some_of_each(names[rows], most, seed)]

    def measured(subset: Subset, most: int) -> tuple[Measured, np.ndarray]:
        rows = picked(subset, most)
        return measure(rows), np.unique(names[rows].astype(str), return_inverse=True)[1]

    train, val = measured("train", MOST_TRAINING_SUBJECTS), measured("val", MOST_VALIDATION_SUBJECTS)
    unlike = UnlikeTraining.fit(*train, *val, by_subject=by_subject)
    unlike.save(run.unlike_training)
    rows = picked("test", MOST_TEST_SUBJECTS)
    columns = likeness_columns(unlike, unlike.distances(measure(rows)), subjects.iloc[rows].tolist())
    places = {name: place for place, name in enumerate(test.table["sample"])}
    tested = with_likeness(test.select([places[name] for name in manifest.table["sample"].iloc[rows]]), [columns])
    summary = summarise_likeness(tested, unlike.count)
    if summary:
        summary.save(run.likeness)


def load_unlike_training(run: Run) -> UnlikeTraining | None:
    """The reference of the training data of a run; None in runs that have none.

    Raises:
        DataError: The file is damaged.
    """
    return UnlikeTraining.load(run.unlike_training) if run.unlike_training.is_file() else None


def with_likeness(predictions: AnyPredictions, members: Sequence[Columns]) -> AnyPredictions:
    """Predictions with the columns about their likeness to the training data.

    Args:
        predictions: One row per image.
        members: The columns of :func:`gyrus.inference.unlike_training.likeness_columns` of each classifier of an
            ensemble.
    """
    return replace(predictions, table=predictions.table.assign(**combine_likeness(members)))
