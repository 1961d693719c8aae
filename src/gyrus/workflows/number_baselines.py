"""Baselines of a predicted number: the mean of the training set, and ridge regression on voxels and on volumes.

They are fitted on the training set, tuned on the validation set, and evaluated on the test set, as the network is.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from gyrus.datasets.manifest import Manifest
from gyrus.datasets.splits import Split, is_by_subject
from gyrus.datasets.store import Store
from gyrus.inference.number_predictions import NumberPredictions
from gyrus.workflows.baselines import BaselineData, prediction_facts, rows_of, volume_rows
from gyrus.workflows.classical import facts_of_samples

Floats = npt.NDArray[np.float64]

PENALTIES = tuple(float(penalty) for penalty in np.logspace(-3, 3, 13))
"""Penalties of the ridge regression, times the number of features; the best on the validation set is used."""


def predict_number_baselines(
    manifest: Manifest, split: Split, store: Store, *, seed: int
) -> tuple[dict[str, tuple[str, NumberPredictions]], tuple[str, ...]]:
    """Fit the baselines, and predict the test set; as :func:`gyrus.workflows.baselines.predict_baselines`.

    Args:
        manifest: The data.
        split: The split of the data.
        store: The pixels.
        seed: Not used: nothing is drawn.

    Returns:
        The description and the predictions of each baseline by name, and notes on missing baselines.
    """
    del seed
    rows, firsts = rows_of(manifest, split, store)
    tested, trained = rows.select("test"), rows.select("train")
    mean = np.full(len(tested.targets), trained.targets.mean())
    about, ridge = ridge_regression(rows)
    size = f"{rows.features.shape[1]:,} means of voxels{' of each subject' if is_by_subject(manifest, split) else ''}"
    found = {"mean": (f"{mean[0]:.1f}", mean), "ridge": (f"{size}, {about}", ridge)}
    volumes, notes = volume_rows(manifest, split, store, firsts)
    if volumes is not None:
        text, frame = volumes
        chosen, predicted = ridge_regression(replace(rows, features=_without_missing(frame, rows)))
        found["volumes"] = f"{text}, {chosen.replace('voxel', 'feature')}", predicted
    return {
        name: (
            text,
            NumberPredictions.from_outputs(
                outputs=predicted[:, None], targets=tested.targets, **prediction_facts(tested, manifest, split)
            ),
        )
        for name, (text, predicted) in found.items()
    }, notes


def _without_missing(frame: pd.DataFrame, rows: BaselineData) -> Floats:
    """Numbers (N, F), with the mean of the training set where one is missing."""
    values = frame.to_numpy(np.float64)
    return np.where(np.isnan(values), np.nanmean(values[rows.subsets == "train"], axis=0), values)


def predict_mean(manifest: Manifest, split: Split) -> tuple[dict[str, tuple[str, NumberPredictions]], tuple[str, ...]]:
    """The baseline that needs no images: the mean of the training set, each subject counted once.

    Args:
        manifest: The data.
        split: The split of the data.

    Returns:
        As :func:`predict_number_baselines`.
    """
    train, table = manifest.select(split.samples["train"]), manifest.table
    units = train.scored_units[0] if is_by_subject(manifest, split) else train.table["sample"]
    mean = float(train.targets.groupby(units.to_numpy()).first().mean())
    tested = table["sample"].isin(split.samples["test"])
    found = NumberPredictions.from_outputs(
        outputs=np.full((int(tested.sum()), 1), mean),
        targets=manifest.targets[tested].to_numpy(np.float64),
        **facts_of_samples(manifest, split, "test", table[tested]),
    )
    return {"mean": (f"{mean:.1f}", found)}, ()


def ridge_regression(rows: BaselineData) -> tuple[str, Floats]:
    """Ridge regression (Hoerl and Kennard 1970) on standardised features; the penalty is chosen on the validation set.

    Returns:
        What was chosen, and the predictions for the test set.
    """
    train, val, test = (rows.select(subset) for subset in ("train", "val", "test"))
    mean, scale = train.features.mean(axis=0), train.features.std(axis=0)
    scale = np.where(scale > 0, scale, np.inf)  # a voxel without any variation tells nothing
    scaled = [(each.features - mean) / scale for each in (train, val, test)]
    centre = train.targets.mean()
    left, values, right = np.linalg.svd(scaled[0], full_matrices=False)
    projected = left.T @ (train.targets - centre)
    best: tuple[float, float, Floats] | None = None
    for penalty in PENALTIES:
        weights = right.T @ (values / (values**2 + penalty * scaled[0].shape[1]) * projected)
        error = float(np.abs(centre + scaled[1] @ weights - val.targets).mean())
        if best is None or error < best[0]:
            best = error, penalty, centre + scaled[2] @ weights
    assert best is not None
    return f"penalty {best[1]:g} per voxel chosen on the validation set", best[2]
