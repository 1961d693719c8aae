"""Bundles of numbers and of ordered classes: exported with proof, verified, used and validated without PyTorch."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pandas as pd
import pytest

from gyrus.evaluation.number_assessment import NumberAssessment
from gyrus.evaluation.number_external import NumberExternalValidation
from gyrus.export.bundle import read_manifest
from gyrus.export.manifest import BUNDLE, TOLERANCE, write_checksums
from gyrus.inference.number_predictions import NumberPredictions
from gyrus.runs.run_folder import Run
from gyrus.synthetic.phantom import generate
from gyrus.synthetic.phantom_layouts import write
from gyrus.workflows.crossval import crossval
from gyrus.workflows.ensemble import ensemble
from gyrus.workflows.export import export
from gyrus.workflows.predict import predict
from gyrus.workflows.predict_bundle import predict_bundle
from gyrus.workflows.train import train
from gyrus.workflows.verify_bundle import verify_bundle
from tests.support.command_line import refused, succeeded, without_torch
from tests.support.external_validation import require_same_results

QUICK: dict[str, Any] = {
    "training.epochs": 1,
    "training.batch_size": 8,
    "training.device": "cpu",
    "preprocessing.steps": [{"step": "grayscale"}, {"step": "resize", "size": [16, 16]}],
    "model.options": {"channels": [4, 4]},
    "evaluation.resamples": 30,
    "evaluation.baselines": False,
}
AGE = {**QUICK, "data.target": "age", "split.val": 0.4}  # twelve validation subjects allow intervals and a correction


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(generate(40, 2, 4, 32, age_effect=6), tmp_path_factory.mktemp("ages") / "heads", "csv")


@pytest.fixture(scope="module")
def run(heads: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    found = train(None, data=heads, out=tmp_path_factory.mktemp("run") / "age", overrides=AGE)
    # A network that has hardly learned has no correction; bundles must carry one, so one is put in.
    assessment = json.loads(found.assessment.read_text())
    assessment["correction"] = {"slope": 0.5, "intercept": 30.0}
    found.assessment.write_text(json.dumps(assessment))
    return found


@pytest.fixture(scope="module")
def bundle(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bundles") / "age"
    text = succeeded("export", run.folder, "--out", out, "--format", "onnx,openvino", "-q")
    assert "test samples: largest difference of age" in text
    assert "standard deviations of the training set" in text
    return out


def test_the_manifest_and_the_card_hold_the_number(bundle: Path, run: Run) -> None:
    manifest = read_manifest(bundle)
    jsonschema.validate(
        json.loads((bundle / BUNDLE).read_text()), json.loads((bundle / "bundle.schema.json").read_text())
    )
    assert (manifest.target.kind, manifest.target.name, manifest.classes) == ("number", "age", ())
    assert manifest.proof.compared
    assert manifest.proof.largest_difference is not None
    assert manifest.proof.largest_difference < 1e-5
    assessment = NumberAssessment.load(run.assessment)
    assert manifest.number is not None
    assert manifest.number.rule == assessment.rule
    assert manifest.number.coverage == assessment.intervals[-1].coverage
    scaling = manifest.members[0].scaling
    assert scaling is not None
    assert scaling.scale == pytest.approx(manifest.number_sd)
    assert 5 < scaling.scale < 30
    card = (bundle / "model_card.md").read_text()
    for words in ("Predicts the number age", "Prediction intervals with a target coverage of 90 %", "bias towards"):
        assert words in card


def test_numbers_and_intervals_are_those_of_the_run(bundle: Path, run: Run, heads: Path, tmp_path: Path) -> None:
    image = heads / "images" / "P001_00.png"
    for name, source in (("image", image), ("folder", heads / "images")):
        for suffix in ("csv", "json"):
            ours, theirs = (tmp_path / f"{kind}-{name}.{suffix}" for kind in ("bundle", "run"))
            succeeded("predict", bundle, source, "--out", ours, "-q")
            succeeded("predict", run.folder, source, "--out", theirs, "-q", "--engine", "torch", "--device", "cpu")
            read = pd.read_csv if suffix == "csv" else pd.read_json
            pd.testing.assert_frame_equal(read(ours), read(theirs), atol=1e-3, rtol=0)
    found = pd.read_csv(tmp_path / "bundle-folder.csv")
    assert (found["subject_interval_low"] < found["subject_interval_high"]).all()
    by_subject = found.groupby("subject")["prediction"].transform("mean")
    np.testing.assert_allclose(found["subject_corrected_prediction"], (by_subject - 30) / 0.5)
    assert found["p_like_training"].between(0, 1).all()
    loaded = without_torch("predict", bundle, image, "--out", tmp_path / "p.csv", "-q")
    assert not {"matplotlib", "pandas", "rich", "scipy"} & loaded
    assert "need classes" in refused("predict", bundle, image, "--dicom-sr", tmp_path / "sr")


def test_a_bundle_is_verified_and_a_wrong_scale_is_caught(bundle: Path, tmp_path: Path) -> None:
    without_torch("export", "verify", bundle, "-q")
    copy = Path(shutil.copytree(bundle, tmp_path / "bundle"))
    manifest = read_manifest(copy)
    first = manifest.references[0]
    wrong = replace(first, logits=((first.logits[0][0] + 2 * TOLERANCE * manifest.number_sd,),))
    replace(manifest, references=(wrong, *manifest.references[1:])).save(copy / BUNDLE)
    write_checksums(copy)
    problem, *_ = verify_bundle(copy).problems
    assert "the largest difference of age 2.0e-04 standard deviations" in problem


def test_a_cohort_gives_the_results_of_the_run_without_torch(bundle: Path, run: Run, tmp_path: Path) -> None:
    cohort = write(generate(12, 2, 2, 32, age_effect=6, seed=5), tmp_path / "cohort", "csv") / "labels.csv"
    table = pd.read_csv(cohort).rename(columns={"age": "years"})
    table["subject"] = "X" + table["subject"].astype(str)
    table.to_csv(cohort, index=False)
    ours, theirs = tmp_path / "bundle", tmp_path / "run"
    arguments = (cohort, "--target", "years", "-q", "--out")
    without_torch("test", bundle, *arguments, ours)
    succeeded("test", run.folder, *arguments, theirs, "--device", "cpu")
    found, wanted = (NumberExternalValidation.load(each / "external_validation.json") for each in (ours, theirs))
    require_same_results(wanted, found)
    assert found.coverage is not None
    assert found.corrected is not None


def test_quantiles_folds_and_ensembles_are_one_bundle(heads: Path, tmp_path: Path) -> None:
    loss = {"name": "quantile", "levels": [0.1, 0.5, 0.9]}
    changes = {**AGE, "training.loss": loss, "evaluation.unlike_training": False}
    runs = [
        train(None, data=heads, out=tmp_path / str(seed), overrides={**changes, "seed": seed, "split.seed": 0})
        for seed in (1, 2)
    ]
    together = ensemble(runs, out=tmp_path / "ensemble")
    folds = crossval(None, data=heads, out=tmp_path / "folds", folds=2, overrides=changes)
    inputs = [heads / "images"]
    for source in (together.folder, folds.folder):
        made = export(source, out=tmp_path / f"{source.name}-bundle")
        assert made.manifest.levels == (0.1, 0.5, 0.9)
        assert made.manifest.proof.largest_difference is not None
        assert made.manifest.proof.largest_difference < TOLERANCE
        assert not verify_bundle(made.folder).problems
        ours, theirs = (
            predict_bundle(made.folder, inputs).predictions(),
            predict(source, inputs, engine="torch", device="cpu"),
        )
        assert isinstance(ours, NumberPredictions)
        pd.testing.assert_frame_equal(ours.table, theirs.table, atol=1e-3, rtol=0)
        # Members that share a validation set have an interval; the folds of a cross-validation share none.
        assert ("subject_interval_low" in ours.table) == (source == together.folder)
        assert made.folder.joinpath("internal_scores.json").is_file()


@pytest.mark.parametrize("loss", ["cumulative_link", "corn"])
@pytest.mark.filterwarnings("ignore:parsing config_file:UserWarning")
def test_networks_of_ordered_classes_are_exported(loss: str, heads: Path, tmp_path: Path) -> None:
    table = pd.read_csv(heads / "labels.csv")
    stages = list(table["label"].unique())
    changes = {**QUICK, "training.loss.name": loss, "data.ordered": stages, "evaluation.unlike_training": False}
    found = train(None, data=heads, out=tmp_path / "run", overrides=changes)
    made = export(found.folder, out=tmp_path / "bundle", formats=["onnx", "monai"])
    assert made.manifest.classes == tuple(stages)
    assert made.manifest.proof.largest_difference is not None
    assert made.manifest.proof.largest_difference < 1e-5
    assert not verify_bundle(made.folder).problems
    ours, theirs = (
        predict_bundle(made.folder, [heads / "images"]).predictions(),
        predict(found, [heads / "images"], engine="torch", device="cpu"),
    )
    pd.testing.assert_frame_equal(ours.table, theirs.table, atol=1e-5, rtol=0)
