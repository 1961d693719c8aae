"""Example images and embeddings of a run."""

from __future__ import annotations

import numpy as np
from safetensors.numpy import load_file

from gyrus.inference.predictions import Predictions
from gyrus.runs.run_folder import Run


def test_examples_are_of_the_test_set_each_of_another_subject_and_sorted_by_confidence(finished_run):
    run = Run.open(finished_run)
    predictions = Predictions.load(run.predictions("test"))
    with np.load(run.examples) as saved:
        images, rows = saved["images"], saved["rows"]
    assert images.dtype == np.uint8
    assert len(images) == len(rows) > 0
    right = predictions.predicted[rows] == predictions.targets[rows]
    confidence = predictions.probabilities.max(axis=1)
    for group in (rows[right], rows[~right]):
        assert predictions.table["subject"].iloc[group].is_unique
        assert (np.diff(confidence[group]) <= 0).all()
        correct = predictions.predicted == predictions.targets
        of_kind = correct == correct[group[:1]]
        assert not len(group) or confidence[group[0]] == confidence[of_kind].max()


def test_embeddings_are_the_vectors_before_the_last_layer(finished_run):
    run = Run.open(finished_run)
    predictions, weights = Predictions.load(run.predictions("test")), load_file(run.weights)
    with np.load(run.embeddings) as saved:
        rows, vectors, points = saved["rows"], saved["vectors"], saved["map"]
    assert points.shape == (len(rows), 2)
    assert np.isfinite(points).all()
    last = next(name for name, value in weights.items() if value.ndim == 2 and len(value) == 2)
    matrix, bias = weights[last], weights[last.replace("weight", "bias")]
    np.testing.assert_allclose(vectors @ matrix.T + bias, predictions.logits[rows], atol=1e-4)
