"""Compare scans with the training data of a run: the reference is fitted after training, and used for new scans."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from gyrus.datasets.manifest import Manifest
from gyrus.datasets.store import Store
from gyrus.inference.acquisition_facts import facts_of
from gyrus.inference.predictions import LIKE_TRAINING, MOST_UNLIKE, SUBJECT_LIKE_TRAINING, Predictions
from gyrus.inference.unlike_training import (
    MOST_TRAINING_SUBJECTS,
    MOST_VALIDATION_SUBJECTS,
    Measured,
    UnlikeTraining,
    coarse_pictures,
    likeness_columns,
    some_of_each,
    summarise_likeness,
)
from gyrus.runs.run_folder import Run
from gyrus.types import Subset
from gyrus.workflows.display import Display

if TYPE_CHECKING:
    from gyrus.models.classifier import Classifier
    from gyrus.workflows.data_module import DataModule

NO_REFERENCE = (
    "The run holds no reference of its training data (it was trained with an earlier version of Gyrus, or with "
    "evaluation.unlike_training=false), so scans unlike the training data are not recognised. Train again to add it."
)

MOST_TEST_SUBJECTS = 500
"""Subjects of the test set that are compared with the training set, drawn at random."""

PIXELS_AT_ONCE = 256
"""Prepared images that are averaged together."""


def save_unlike_training(run: Run, model: Classifier, data: DataModule, test: Predictions, display: Display) -> None:
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


def measure_images(manifest: Manifest, store: Store, features: np.ndarray, rows: np.ndarray) -> Measured:
    """What is compared with the training data, of some rows.

    Args:
        manifest: The images.
        store: Their prepared pixels.
        features: Embeddings of the chosen images (n, F).
        rows: Positions of these in the manifest and the store (n,).
    """
    names, facts = facts_of(manifest, rows.tolist())
    blocks = np.array_split(rows, max(1, -(-len(rows) // PIXELS_AT_ONCE)))
    pictures = np.concatenate([coarse_pictures(store.pixels[block]) for block in blocks])
    return Measured(features.astype(np.float64), pictures, facts, names)


def load_unlike_training(run: Run) -> UnlikeTraining | None:
    """The reference of the training data of a run; None in runs that have none.

    Raises:
        DataError: The file is damaged.
    """
    return UnlikeTraining.load(run.unlike_training) if run.unlike_training.is_file() else None


def with_likeness(predictions: Predictions, members: Sequence[pd.DataFrame]) -> Predictions:
    """Predictions with the columns about their likeness to the training data.

    Args:
        predictions: One row per image.
        members: The columns of :func:`gyrus.inference.unlike_training.likeness_columns` of each classifier of an
            ensemble. The largest p-value counts, so that a scan is unlike only if it is so for every classifier.
    """
    columns = [name for name in (LIKE_TRAINING, SUBJECT_LIKE_TRAINING) if all(name in each for each in members)]
    combined = {name: np.max([each[name].to_numpy() for each in members], axis=0) for name in columns}
    added = {**combined, MOST_UNLIKE: members[0][MOST_UNLIKE].to_numpy()}
    table = predictions.table.assign(**added)
    return Predictions.from_table(
        table,
        classes=predictions.classes,
        split_unit=predictions.split_unit,
        subset=predictions.subset,
        subject_kind=predictions.subject_kind,
    )
