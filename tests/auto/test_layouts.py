"""Data and times that differ from those of test_auto.py."""

from __future__ import annotations

import numpy as np

import gyrus
from gyrus.auto import trainings
from gyrus.auto.budget import Budget
from gyrus.inference.predictions import Predictions

QUICK = {
    "split.unit": "image",
    "evaluation.resamples": 20,
    "linear-voxels.model.options": {"features": ["voxels"], "cells": 60, "C": 1e-3},
    "svm-voxels.model.options": {"features": ["voxels"], "cells": 60, "C": 1e-3},
}


def test_a_set_of_medmnist_split_by_image(tmp_path):
    random = np.random.default_rng(0)
    labels = random.integers(2, size=(50, 1))
    images = random.normal(100, 20, (50, 28, 28)) + labels[:, :, None] * 40 * (np.arange(28) > 14)
    images = images.clip(0, 255).astype(np.uint8)
    parts = {"train": slice(0, 30), "val": slice(30, 40), "test": slice(40, 50)}
    arrays = {f"{name}_images": images[rows] for name, rows in parts.items()}
    arrays |= {f"{name}_labels": labels[rows] for name, rows in parts.items()}
    np.savez(tmp_path / "set.npz", **arrays)
    options = {"candidates": ("linear-voxels", "svm-voxels"), "folds": 3, "overrides": QUICK}
    result = gyrus.auto(tmp_path / "set.npz", out=tmp_path / "out", **options)
    saved = Predictions.load(tmp_path / "out" / "predictions" / "test.parquet")
    assert sorted(saved.table["sample"]) == [f"test/{number:06}.png" for number in range(10)]
    assert result.baselines is not None
    assert result.evaluation.warning
    assert "neither holds for unseen subjects" in result.text()
    assert "honest" not in result.text()


def test_if_the_time_is_over_early_the_finished_folds_are_the_classifier(phantom_folder, tmp_path, monkeypatch):
    train = trainings.train_on_split
    done: list[str] = []

    def slow(*args, out, **more):
        done.append(out.name)
        run = train(*args, out=out, **more)
        if len(done) == 2:
            monkeypatch.setattr(Budget, "left", -1.0)
        return run

    monkeypatch.setattr(trainings, "train_on_split", slow)
    options = {
        "candidates": ("linear-voxels", "svm-voxels"),
        "folds": 3,
        "overrides": {**QUICK, "split.unit": "subject"},
    }
    result = gyrus.auto(phantom_folder, out=tmp_path / "out", **options)
    assert done == ["without-0", "without-1"]
    assert result.choices.scored == "cross-validation"
    assert 0 < result.evaluation.headline.count < 24
    assert any("2 of 3 inner folds" in note for note in result.choices.notes)
    assert len(gyrus.predict(result.classifier, [phantom_folder])) == 96
