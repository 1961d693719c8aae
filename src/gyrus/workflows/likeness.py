"""Compare scans with the training data of a run: the reference is fitted after training, and used for new scans."""

from __future__ import annotations

from collections.abc import Sequence
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
    from gyrus.models.classifier import Classifier
    from gyrus.workflows.data_module import DataModule

MOST_TEST_SUBJECTS = 500
"""Subjects of the test set that are compared with the training set, drawn at random."""


def save_unlike_training(run: Run, model: Classifier, data: DataModule, test: AnyPredictions, display: Display) -> None:
    """Fit the reference of the training data, and count the test subjects that are unlike it.

    Args:
        run: Receives ``unlike_training.npz`` and ``likeness.json``.
        model: The trained network.
        data: The training, validation and test sets. Of many subjects some are drawn.
        test: The predictions for the test set.
        display: Where progress is shown.
    """
    from gyrus.inference.predict import predict_embeddings

    display.say("Measuring how much new scans may differ from the training data")
    subjects = data.manifest.table["subject"]
    by_subject = data.split.kept_together not in ("image", "copy") and bool(subjects.notna().all())
    names = (subjects if by_subject else data.manifest.table["sample"]).to_numpy(dtype=object)
    dataset = data.all_images()

    def measure(rows: np.ndarray) -> Measured:
        return measure_images(data.manifest, data.store, predict_embeddings(model, dataset, rows), rows)

    def measured(subset: Subset, most: int) -> tuple[Measured, np.ndarray]:
        rows = data.rows(subset)
        rows = rows[some_of_each(names[rows], most, data.settings.seed)]
        codes = np.unique(names[rows].astype(str), return_inverse=True)[1]
        return measure(rows), codes

    train, val = measured("train", MOST_TRAINING_SUBJECTS), measured("val", MOST_VALIDATION_SUBJECTS)
    unlike = UnlikeTraining.fit(*train, *val, by_subject=by_subject)
    unlike.save(run.unlike_training)
    rows = data.rows("test")
    picked = some_of_each(names[rows], MOST_TEST_SUBJECTS, data.settings.seed)
    distances = unlike.distances(measure(rows[picked]))
    columns = likeness_columns(unlike, distances, subjects.iloc[rows[picked]].tolist())
    tested = with_likeness(test.select(picked), [columns])
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
