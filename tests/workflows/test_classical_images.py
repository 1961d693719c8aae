"""Classifiers without a network on images: from files to a report, and from new files to predictions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from PIL import Image
from safetensors import safe_open

from gyrus.errors import ConfigError, DataError, RunError
from gyrus.evaluation.result import Evaluation
from gyrus.explanation.checks import ExplanationChecks
from gyrus.explanation.method_input import MethodSettings
from gyrus.export.bundle import Bundle
from gyrus.inference.predictions import Predictions
from gyrus.inference.unlike_training import LikenessSummary
from gyrus.serving.app import create_app
from gyrus.serving.heat_maps import why_not
from gyrus.synthetic.phantom import generate
from gyrus.synthetic.phantom_layouts import write
from gyrus.workflows.classical import ClassicalClassifier
from gyrus.workflows.compare import compare
from gyrus.workflows.crossval import crossval
from gyrus.workflows.ensemble import ensemble
from gyrus.workflows.experiment_config import DataConfig, EvaluationConfig
from gyrus.workflows.explain.config import ExplainConfig
from gyrus.workflows.explain.explain import explain
from gyrus.workflows.export import export
from gyrus.workflows.external_validation import external_validation
from gyrus.workflows.predict import Predictor, predict
from gyrus.workflows.train import train
from gyrus.workflows.verify_bundle import verify_bundle
from tests.support.command_line import gyrus

SLICES = {
    "preprocessing.steps": [{"step": "grayscale"}, {"step": "resize", "size": [16, 16]}],
    "model.name": "logistic-regression",
    "model.options": {"features": ["voxels", "random-convolutions"], "kernels": 10},
    "evaluation.resamples": 0,
}
STACKS = {
    **SLICES,
    "data.stack": {"slices": 4, "choose": "even", "short": "pad"},
    "model.name": "boosted-trees",
    "model.options": {"features": ["tissue-maps"], "cells": 200, "trees": 5},
    "evaluation.baselines": False,
}


@pytest.fixture(scope="module")
def run(phantom_folder, tmp_path_factory):
    return train(data=phantom_folder, out=tmp_path_factory.mktemp("runs") / "slices", overrides=SLICES)


@pytest.fixture
def _no_page(monkeypatch):
    """Drawing takes much longer than the fit."""
    monkeypatch.setattr("gyrus.workflows.evaluate.report_run", lambda *_: None)


@pytest.fixture(scope="module")
def of_stacks(phantom_folder, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gyrus.workflows.evaluate.report_run", lambda *_: None)
        return train(data=phantom_folder, out=tmp_path_factory.mktemp("runs") / "stacks", overrides=STACKS)


def test_a_run_on_images_has_the_files_of_every_run_and_no_pickle(run):
    assert not run.foreign_files
    about = run.description
    assert about["features"] == ["voxels (16 x 16 means of blocks)", "responses to 10 random kernels"]
    assert about["feature_count"] == 256 + 20
    assert "linear-svm" in run.baselines.read_text()
    with safe_open(run.weights, framework="numpy") as file:
        assert file.get_tensor("weights").shape == (2, 276)
    page = run.report.read_text()
    assert "responses to 10 random kernels" in page
    assert run.card.exists()
    assert run.examples.exists()


def test_all_images_of_a_subject_get_the_prediction_of_the_subject(run):
    table = Predictions.load(run.predictions("test")).table
    assert (table.groupby("subject")["logit:" + table["target"][0]].nunique() == 1).all()
    assert Evaluation.load(run.metrics).headline.metrics["accuracy"].value > 0.5


@pytest.mark.parametrize("which", ["slices", "stacks"])
def test_new_images_get_the_same_probabilities_as_in_the_test_set(which, run, of_stacks, phantom_folder):
    trained = {"slices": run, "stacks": of_stacks}[which]
    test = Predictions.load(trained.predictions("test"))
    new = predict(trained, [phantom_folder])
    known = pd.Series(new.probabilities[:, 0], index=[name.rpartition("/")[2] for name in new.table["sample"]])
    names = [name.rpartition("/")[2] for name in test.table["sample"]]
    np.testing.assert_allclose(known[names], test.probabilities[:, 0], atol=1e-6)


@pytest.mark.usefixtures("_no_page")
def test_a_loaded_classifier_is_the_saved_one_and_the_same_seed_gives_the_same(run, phantom_folder, tmp_path):
    again = train(data=phantom_folder, out=tmp_path / "again", overrides={**SLICES, "evaluation.baselines": False})
    assert again.weights.read_bytes() == run.weights.read_bytes()
    first, second = (ClassicalClassifier.load(each) for each in (run, again))
    assert first.features.document() == second.features.document()


@pytest.mark.usefixtures("_no_page")
def test_it_is_cross_validated_averaged_and_compared(run, phantom_folder, tmp_path):
    quick = {**SLICES, "model.options": {"features": ["voxels"], "C": 1.0}}
    folds = crossval(data=phantom_folder, out=tmp_path / "folds", folds=2, overrides=quick)
    assert len(folds.predictions()) == 96
    together = predict(tmp_path / "folds", [phantom_folder])
    alone = [predict(each, [phantom_folder]).probabilities for each in folds.runs]
    np.testing.assert_allclose(together.probabilities, np.mean(alone, axis=0), atol=1e-12)
    other = train(data=phantom_folder, out=tmp_path / "other", overrides={**quick, "model.name": "ridge"})
    board = compare({"both": run.folder, "voxels": other.folder}, out=tmp_path / "comparison", resamples=20)
    entries = board.leaderboard.tables[0].standings
    assert {each.entry.facts["Model"] for each in entries} == {
        "logistic-regression on voxels, random-convolutions",
        "ridge on voxels",
    }


@pytest.mark.usefixtures("_no_page")
def test_a_table_and_voxels_are_one_classifier(phantom_folder, tmp_path):
    subjects = sorted({image.stem.rpartition("_")[0] for image in phantom_folder.rglob("*.png")})
    table = pd.DataFrame({"subject": subjects, "age": range(60, 60 + len(subjects))})
    table.to_csv(tmp_path / "people.csv", index=False)
    settings = {
        **SLICES,
        "model.options": {"features": ["table", "voxels"], "C": 1.0},
        "data.table": str(tmp_path / "people.csv"),
        "data.table_columns": ["age"],
        "evaluation.baselines": False,
    }
    run = train(data=phantom_folder, out=tmp_path / "run", overrides=settings)
    assert run.description["feature_count"] == 257
    out = tmp_path / "out.csv"
    told = gyrus("predict", run.folder, phantom_folder, "--table", tmp_path / "people.csv", "--out", out)
    assert "96 predictions by a linear model" in told.stdout
    with pytest.raises(ConfigError, match="all images of a subject together by table, which a bundle does not"):
        export(run.folder, out=tmp_path / "bundle")
    with pytest.raises(ConfigError, match="does not use them: add 'table' to"):
        train(
            data=phantom_folder,
            out=tmp_path / "none",
            overrides={**settings, "model.options": {"features": ["voxels"]}},
        )


@pytest.mark.usefixtures("_no_page")
def test_a_classifier_on_a_table_and_one_on_images_are_averaged_and_exported(of_stacks, phantom_folder, tmp_path):
    subjects = sorted({image.stem.rpartition("_")[0] for image in phantom_folder.rglob("*.png")})
    people = tmp_path / "people.csv"
    pd.DataFrame({"subject": subjects, "age": range(60, 60 + len(subjects))}).to_csv(people, index=False)
    table = {"model.name": "logistic-regression", "data.table": str(people), "data.table_columns": ["age"]}
    settings = {**table, "data.stack": STACKS["data.stack"], "evaluation.resamples": 0}
    run = train(data=phantom_folder, out=tmp_path / "table", overrides=settings)
    ensemble([run, of_stacks], out=tmp_path / "both", config=EvaluationConfig(resamples=20))
    assert export(tmp_path / "both", out=tmp_path / "bundle").manifest.proof.compared
    data = DataConfig(table=str(people))
    by_table, by_image = predict(run, [people]), predict(of_stacks, [phantom_folder])
    rows = [by_table.table["subject"].tolist().index(name) for name in by_image.table["subject"]]
    mean = (by_table.probabilities[rows] + by_image.probabilities) / 2
    for each in (tmp_path / "both", tmp_path / "bundle"):
        together = predict(each, [phantom_folder], data=data)
        np.testing.assert_allclose(together.probabilities, mean, atol=1e-5)
    with pytest.raises(DataError, match="is a table without paths of images, and the classifier needs images"):
        predict(tmp_path / "both", [people])


@pytest.fixture(scope="module")
def linear(phantom_folder, tmp_path_factory):
    """A linear classifier on the voxels of stacks."""
    options = {"features": ["voxels"], "cells": 400, "C": 1e-3}
    settings = {**STACKS, "model.name": "logistic-regression", "model.options": options}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gyrus.workflows.evaluate.report_run", lambda *_: None)
        return train(data=phantom_folder, out=tmp_path_factory.mktemp("runs") / "linear", overrides=settings)


def test_a_linear_classifier_is_explained_by_the_contributions_of_its_voxels_and_checked(linear, tmp_path):
    folder = explain(linear, out=tmp_path / "maps", config=ExplainConfig(shown=2, images=3))
    (report,) = ExplanationChecks.load(folder.checks).methods
    assert report.method == "integrated-gradients"  # four slices are too few cells for a map of contributions
    maps = explain(linear, out=tmp_path / "cells", config=ExplainConfig(methods=("contributions",), checks=False))
    shown = maps.attributions("contributions")
    assert min(each.map.min() for each in shown) < 0 < max(each.map.max() for each in shown)


@pytest.mark.usefixtures("_no_page")
def test_a_classifier_on_three_fractions_is_explained_voxel_by_voxel(phantom_folder, tmp_path):
    options = {"features": ["tissue-maps"], "cells": 3, "C": 1.0}
    settings = {**STACKS, "model.name": "logistic-regression", "model.options": options}
    run = train(data=phantom_folder, out=tmp_path / "run", overrides=settings)
    folder = explain(run, out=tmp_path / "maps", config=ExplainConfig(shown=2, images=2, checks=False))
    assert folder.displayed.methods == ("integrated-gradients",)
    assert all(np.ptp(each.map) > 0 for each in folder.attributions("integrated-gradients"))


def test_occlusion_explains_any_classifier_on_images(of_stacks, tmp_path):
    settings = MethodSettings(window=0.5, stride=1.0)
    config = ExplainConfig(shown=2, images=2, checks=False, settings=settings)
    folder = explain(of_stacks, out=tmp_path / "maps", config=config)
    assert folder.displayed.methods == ("occlusion",)
    assert all(np.ptp(each.map) > 0 for each in folder.attributions("occlusion"))


def test_a_bundle_of_trees_predicts_without_torch_what_the_run_predicts(of_stacks, phantom_folder, tmp_path):
    exported = export(of_stacks.folder, out=tmp_path / "bundle")
    proof = exported.manifest.proof
    assert proof.compared
    assert proof.saved_difference < 1e-5
    by_bundle, by_run = (predict(each, [phantom_folder]) for each in (tmp_path / "bundle", of_stacks))
    assert by_bundle.table["sample"].tolist() == by_run.table["sample"].tolist()
    np.testing.assert_allclose(by_bundle.probabilities, by_run.probabilities, atol=1e-5)


@pytest.mark.usefixtures("_no_page")
@pytest.mark.parametrize(("features", "measures"), [("shape", "shape"), ("tissue-fractions", "volumes")])
def test_a_bundle_on_measures_of_images_predicts_without_torch_what_the_run_predicts(
    features, measures, phantom_folder, tmp_path
):
    options = {"features": [features], "C": 1.0}
    settings = {**STACKS, "model.name": "logistic-regression", "model.options": options}
    run = train(data=phantom_folder, out=tmp_path / "run", overrides=settings)
    exported = export(run.folder, out=tmp_path / "bundle")
    assert exported.manifest.members[0].measures == measures
    assert exported.manifest.proof.compared
    assert exported.manifest.proof.saved_difference < 1e-5
    dark = write(generate(subjects=2, slices=4, classes=2, size=32, seed=5), tmp_path / "dark")
    for file in dark.rglob("*.png"):  # no mask, and too few gray values for a mixture
        Image.fromarray(np.eye(32, dtype=np.uint8) * 60).save(file)
    by_bundle, by_run = (predict(each, [phantom_folder, dark]) for each in (tmp_path / "bundle", run))
    assert by_bundle.table["sample"].tolist() == by_run.table["sample"].tolist()
    np.testing.assert_allclose(by_bundle.probabilities, by_run.probabilities, atol=1e-5)
    assert "has no heat map" in why_not(Bundle.open(tmp_path / "bundle"))


@pytest.mark.usefixtures("_no_page")
@pytest.mark.parametrize("features", ["voxels", "random-convolutions", "shape"])
def test_a_bundle_on_images_and_a_table_predicts_what_the_run_predicts(features, phantom_folder, tmp_path):
    subjects = sorted({image.stem.rpartition("_")[0] for image in phantom_folder.rglob("*.png")})
    people = tmp_path / "people.csv"
    ages = [None, *np.random.default_rng(0).normal(70, 8, len(subjects) - 1)]
    pd.DataFrame({"subject": subjects, "age": ages}).to_csv(people, index=False)
    settings = {
        **STACKS,
        "model.name": "logistic-regression",
        "model.options": {"features": ["table", features], "C": 1.0, "kernels": 10, "cells": 200},
        "data.table": str(people),
        "data.table_columns": ["age"],
    }
    run = train(data=phantom_folder, out=tmp_path / "run", overrides=settings)
    exported = export(run.folder, out=tmp_path / "bundle")
    assert exported.manifest.proof.compared
    assert exported.manifest.proof.saved_difference < 1e-5
    data = DataConfig(table=str(people))
    by_bundle, by_run = (predict(each, [phantom_folder], data=data) for each in (tmp_path / "bundle", run))
    assert by_bundle.table["sample"].tolist() == by_run.table["sample"].tolist()
    np.testing.assert_allclose(by_bundle.probabilities, by_run.probabilities, atol=1e-5)
    with pytest.raises(DataError, match="Give the table of the subjects with --table"):
        predict(tmp_path / "bundle", [phantom_folder])


@pytest.mark.usefixtures("_no_page")
def test_runs_and_ensembles_without_a_network_are_validated_on_a_cohort(run, phantom_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("gyrus.reporting.external_report.report_external", lambda *_: None)
    cohort = write(generate(subjects=10, slices=4, classes=2, size=32, seed=5), tmp_path / "cohort")
    found = external_validation(run, cohort, out=tmp_path / "test", same_ids="keep", resamples=20)
    assert found.external.headline.count == 10
    own = predict(run, [cohort])
    saved = Predictions.load(tmp_path / "test" / "predictions.parquet")
    np.testing.assert_allclose(saved.probabilities, own.probabilities, atol=1e-9)

    quick = {**SLICES, "model.options": {"features": ["voxels"], "C": 1.0}, "evaluation.baselines": False}
    crossval(data=phantom_folder, out=tmp_path / "folds", folds=2, overrides=quick)
    both = external_validation(tmp_path / "folds", cohort, out=tmp_path / "both", same_ids="keep", resamples=20)
    assert both.external.headline.count == 10
    together = predict(tmp_path / "folds", [cohort])
    saved = Predictions.load(tmp_path / "both" / "predictions.parquet")
    np.testing.assert_allclose(saved.probabilities, together.probabilities, atol=1e-9)
    with pytest.raises(DataError, match="nobody is left"):
        external_validation(tmp_path / "folds", phantom_folder, out=tmp_path / "none")


@pytest.mark.usefixtures("_no_page")
@pytest.mark.parametrize("features", ["voxels and kernels", "tissue-maps", "pretrained"])
def test_a_bundle_answers_for_all_images_of_a_subject_together_as_the_run_does(features, run, phantom_folder, tmp_path):
    if features != "voxels and kernels":
        options = {"features": [features], "cells": 60, "trees": 5}
        quick = {**SLICES, "evaluation.baselines": False, "model.name": "boosted-trees"}
        if features == "pretrained":
            torch.manual_seed(0)
            torch.save(timm.create_model("test_resnet", num_classes=0).state_dict(), tmp_path / "weights.pt")
            quick |= {"model.name": "logistic-regression", "model.pretrained": str(tmp_path / "weights.pt")}
            options = {"features": [features], "backbone": "test_resnet", "C": 1.0}
        run = train(data=phantom_folder, out=tmp_path / "run", overrides={**quick, "model.options": options})
    about = export(run.folder, out=tmp_path / "bundle", formats=("onnx", "openvino")).manifest
    assert about.proof.compared
    assert about.proof.saved_difference < 1e-5
    assert bool(about.members[0].subject_model.maxima) == (features == "pretrained")
    verify_bundle(tmp_path / "bundle").require_passed()
    one = next(phantom_folder.rglob("*.png"))
    for inputs in ([phantom_folder], [one]):
        by_bundle, by_run = (predict(each, inputs) for each in (tmp_path / "bundle", run))
        assert by_bundle.table["sample"].tolist() == by_run.table["sample"].tolist()
        np.testing.assert_allclose(by_bundle.probabilities, by_run.probabilities, atol=1e-5)
    assert len(by_bundle) == 1
    with pytest.raises(ConfigError, match="for all images of a subject together, and the server for each scan alone"):
        create_app(tmp_path / "bundle")


def test_scans_unlike_the_training_data_are_recognised_by_runs_and_bundles(of_stacks, phantom_folder, tmp_path):
    known = LikenessSummary.load(of_stacks.likeness)
    assert known.reference_count > 0
    noise = write(generate(subjects=3, slices=4, classes=2, size=32, seed=5), tmp_path / "noise")
    random = np.random.default_rng(0)
    for file in noise.rglob("*.png"):
        Image.fromarray(random.integers(0, 256, (32, 32), dtype=np.uint8)).save(file)
    export(of_stacks.folder, out=tmp_path / "bundle")
    smallest = 1 / (known.reference_count + 1)
    by_bundle, by_run = (
        [predict(each, [folder]).table["p_like_training"].to_numpy() for folder in (noise, phantom_folder)]
        for each in (tmp_path / "bundle", of_stacks)
    )
    for unlike, alike in (by_bundle, by_run):
        np.testing.assert_allclose(unlike, smallest)
        assert np.median(alike) > 0.3
    np.testing.assert_allclose(by_bundle[1], by_run[1], atol=1e-9)


def test_what_it_cannot_do_says_so(run, of_stacks, phantom_folder, tmp_path):
    with pytest.raises(ConfigError, match=r"Heat maps by grad-cam need gradients .* Use --method occlusion or rise"):
        explain(of_stacks, out=tmp_path / "maps", config=ExplainConfig(methods=("grad-cam",)))
    with pytest.raises(RunError, match=r"no network, which a Predictor needs\. Predict with gyrus\.predict"):
        Predictor(run)
    people = tmp_path / "people.csv"
    pd.DataFrame({"subject": ["a"], "age": [1]}).to_csv(people, index=False)
    with pytest.raises(DataError, match="is a table without paths of images, and the classifier needs images"):
        predict(run, [people])
    with pytest.raises(ConfigError, match="use other slices, stacks or channels of a scan"):
        predict([run, of_stacks], [phantom_folder])
    with pytest.raises(ConfigError, match=r"data\.patches is set"):
        train(data=phantom_folder, out=tmp_path / "run", overrides={**SLICES, "data.patches": {"size": [8, 8]}})
    assert not (tmp_path / "run").exists()
