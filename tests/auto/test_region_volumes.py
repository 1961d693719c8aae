"""Whole heads, whose volumes are measured before the trainings; the measurement itself is replaced here."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest

import gyrus
from gyrus.auto.budget import TimeSheet
from gyrus.errors import ConfigError, DataError
from gyrus.inference import head_volumes
from gyrus.synthetic.phantom_nifti import save_volume, write_tables
from gyrus.volumetry.measure import FEATURE_NAMES

OPTIONS = {
    "candidates": ("region-volumes", "svm-region-volumes", "linear-voxels"),
    "folds": 3,
    "overrides": {
        "evaluation.resamples": 20,
        "linear-voxels.model.options": {"features": ["voxels"], "cells": 60, "C": 1e-3},
        "region-volumes.model.options": {"features": ["volumes"], "C": 1.0},
        "svm-region-volumes.model.options": {"features": ["volumes"], "C": 1.0},
    },
}


FAST = {"evaluation.resamples": 0, "evaluation.baselines": False}


class Remembering(gyrus.Display):
    """Keeps what it is told."""

    text = ""

    def say(self, text):
        self.text += text + "\n"

    def progress(self, _):
        return nullcontext(lambda *_: None)


@pytest.fixture
def measured(monkeypatch, tmp_path) -> list[float]:
    """Eighteen heads in tmp_path/bids, and the means of those that are measured: the class is their mean."""
    generator = np.random.default_rng(0)
    names = [f"sub-{number:02}" for number in range(18)]
    for number, name in enumerate(names):
        low = 40 + 100 * (number % 2)
        voxels = generator.integers(low, low + 60, (12, 12, 12)).astype(np.uint8)
        save_volume(voxels, np.eye(4), tmp_path / "bids" / name / "anat" / f"{name}_T1w.nii.gz")
    ages = [60 + number for number in range(18)]
    write_tables(tmp_path / "bids", {"participant_id": names, "diagnosis": list("ab" * 9), "age": ages})
    calls: list[float] = []

    def measure(volume, _):
        mean = float(volume.array.mean())
        calls.append(mean)
        return SimpleNamespace(features={name: mean * (1 + number) for number, name in enumerate(FEATURE_NAMES)})

    monkeypatch.setenv("GYRUS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(head_volumes, "measure_head", measure)
    monkeypatch.setattr(head_volumes, "load_template", lambda: None)
    return calls


def test_heads_are_measured_once_for_all_trainings(measured, tmp_path):
    result = gyrus.auto(tmp_path / "bids", out=tmp_path / "out", **OPTIONS)
    assert len(measured) == len(set(measured)) == 18
    assert result.choices.final.chosen == "region-volumes"
    assert result.evaluation.headline.metrics["macro_roc_auc"].value == 1.0
    assert len(gyrus.predict(result.classifier, [tmp_path / "bids"])) == 18
    assert len(measured) == 18


@pytest.mark.parametrize("more", [(), ("table",)])
def test_a_bundle_on_volumes_of_heads_measures_new_heads(more, measured, tmp_path, monkeypatch):
    data = {"data.table_columns": ["age"]} if more else {}
    run = gyrus.train(
        "linear-voxels",
        data=tmp_path / "bids",
        out=tmp_path / "run",
        overrides={**data, "model.options": {"features": ["volumes", *more], "C": 1.0}, **FAST},
    )
    about = gyrus.export(run.folder, out=tmp_path / "bundle").manifest
    assert about.members[0].head_volumes == FEATURE_NAMES
    assert about.members[0].in_channels == 0
    assert about.proof.compared
    assert about.proof.saved_difference < 1e-5
    assert "Python package SimpleITK" in about.programs
    gyrus.verify_bundle(tmp_path / "bundle").require_passed()
    before = len(measured)
    by_bundle, by_run = (gyrus.predict(each, [tmp_path / "bids"]) for each in (tmp_path / "bundle", run.folder))
    assert len(measured) == before
    np.testing.assert_allclose(by_bundle.probabilities, by_run.probabilities, atol=1e-5)

    if more:
        return

    def fail(*_):
        raise DataError("no brain is found")

    monkeypatch.setattr(head_volumes, "measure_head", fail)
    voxels = np.random.default_rng(1).integers(0, 90, (12, 12, 12)).astype(np.uint8)
    save_volume(voxels, np.eye(4), tmp_path / "new" / "sub-x_T1w.nii.gz")
    for each in (tmp_path / "bundle", run.folder):
        display = Remembering()
        gyrus.predict(each, [tmp_path / "new"], display=display)
        assert "Warning: 1 of 1 head could not be measured, so their volumes count as average" in display.text


@pytest.mark.usefixtures("measured")
def test_volumes_of_heads_together_with_voxels_are_no_bundle(tmp_path):
    run = gyrus.train(
        "linear-voxels",
        data=tmp_path / "bids",
        out=tmp_path / "run",
        overrides={"model.options": {"features": ["volumes", "voxels"], "C": 1.0}, **FAST},
    )
    with pytest.raises(ConfigError, match=r"features of this classifier \(volumes, voxels\) need different input"):
        gyrus.export(run.folder, out=tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_heads_that_would_take_too_long_to_measure_are_left_out(measured, tmp_path, monkeypatch):
    monkeypatch.setattr("gyrus.auto.procedure.LONGEST_MEASUREMENT", 0.0)
    gyrus.auto(tmp_path / "bids", out=tmp_path / "out", **OPTIONS)
    assert 0 < len(measured) < 18
    left_out = TimeSheet.load(tmp_path / "out" / "time.json").left_out
    assert set(left_out) == {"region-volumes", "svm-region-volumes"}
    assert all(reason.startswith("measuring the volumes of 18 heads would take") for reason in left_out.values())
