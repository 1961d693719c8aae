from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from gyrus.errors import ConfigError, DataError
from gyrus.evaluation.added_value import AddedValue
from gyrus.evaluation.result import Evaluation
from gyrus.export.bundle import read_manifest
from gyrus.export.hub import is_own_file
from gyrus.export.manifest import write_checksums
from gyrus.inference.late_fusion import LateFusion
from gyrus.inference.predictions import Predictions
from gyrus.runs.run_folder import Run
from gyrus.serving.app import create_app
from gyrus.synthetic.phantom import generate
from gyrus.synthetic.phantom_layouts import write
from gyrus.workflows.experiment_config import DataConfig
from gyrus.workflows.explain.explain import explain
from gyrus.workflows.external_validation import external_validation
from gyrus.workflows.predict import predict
from gyrus.workflows.train import train
from gyrus.workflows.verify_bundle import verify_bundle
from tests.conftest import SMALL
from tests.support.command_line import refused, succeeded, without_torch


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    phantom = generate(subjects=24, slices=2, classes=2, size=32, seed=0)
    return write(phantom, tmp_path_factory.mktemp("data") / "phantom", "csv")


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    small = {**SMALL, "evaluation.baselines": False, "evaluation.unlike_training": False, "training.epochs": 1}
    out = tmp_path_factory.mktemp("runs") / "run"
    return train("dementia-baseline", data=data, out=out, overrides={**small, "data.table_columns": ["age", "sex"]})


def test_the_three_scores_are_on_the_same_subjects(run):
    both, image, table = (Predictions.load(run.predictions(f"test{part}")) for part in ("", "-image", "-table"))
    assert both.table["sample"].tolist() == image.table["sample"].tolist() == table.table["sample"].tolist()
    added = AddedValue.load(run.added_value)
    assert added.count == both.table["subject"].nunique()
    assert added.columns == ("age", "sex")
    for text in (run.classification_report.read_text(), run.report.read_text()):
        assert "Does the image add to age and sex?" in text
        assert "Table alone" in text
    assert not run.foreign_files


def test_the_answer_of_both_is_the_weighted_one_of_the_parts(run):
    both, image, table = (Predictions.load(run.predictions(f"test{part}")) for part in ("", "-image", "-table"))
    stack = LateFusion.load(run.fusion).stack
    subjects = both.table["subject"].to_numpy()

    def mean(predictions):
        return pd.DataFrame(predictions.probabilities).groupby(subjects).transform("mean").to_numpy()

    logits = stack.image * np.log(mean(image)) + stack.table * np.log(mean(table)) + np.array(stack.offsets)
    powers = np.exp(logits)
    np.testing.assert_allclose(both.probabilities, powers / powers.sum(axis=1, keepdims=True), atol=1e-9)


def test_new_images_are_predicted_with_their_table(run, data, tmp_path):
    test = Predictions.load(run.predictions("test")).table.set_index("sample")
    people = pd.read_csv(data / "labels.csv").groupby("subject")[["age", "sex"]].first().reset_index()
    people.to_csv(tmp_path / "people.csv", index=False)
    found = predict(run, [data / "images"], data=DataConfig(table=str(tmp_path / "people.csv")), device="cpu")
    logits = found.table.assign(sample=[f"images/{name.rpartition('/')[2]}" for name in found.table["sample"]])
    columns = [name for name in logits if name.startswith("logit:")]
    again = logits.set_index("sample").loc[test.index, columns]
    np.testing.assert_allclose(again, test[columns], atol=1e-4)
    people.assign(sex=None).to_csv(tmp_path / "gaps.csv", index=False)
    gaps = predict(run, [data / "images"], data=DataConfig(table=str(tmp_path / "gaps.csv")), device="cpu")
    assert len(gaps) == len(found)


def test_what_lacks_the_table_is_refused(run, data, tmp_path):
    with pytest.raises(DataError, match=r"needs the column 'age'.*with --table"):
        predict(run, [data / "images"], device="cpu")
    (tmp_path / "people.csv").write_text("subject,age\nnobody,7\n")
    with pytest.raises(DataError, match=r"No id of people\.csv is that of a sample"):
        predict(run, [data / "images"], data=DataConfig(table=str(tmp_path / "people.csv")), device="cpu")


@pytest.fixture(scope="module")
def film(data, tmp_path_factory):
    """A network that takes the table."""
    small = {**SMALL, "evaluation.baselines": False, "training.epochs": 1}
    table = {"data.table_columns": ["age", "sex"], "model.fusion": "film"}
    return train("dementia-baseline", data=data, out=tmp_path_factory.mktemp("film") / "run", overrides=small | table)


def test_a_network_that_takes_the_table_predicts_new_images_as_in_its_evaluation(film, data, tmp_path):
    run = film
    added, alone = AddedValue.load(run.added_value), Run(run.image_alone)
    assert (added.fusion, added.count) == ("film", Predictions.load(run.predictions("test")).table["subject"].nunique())
    image = Predictions.load(run.predictions("test-image"))
    assert image.table.equals(Predictions.load(alone.predictions("test")).table)
    assert not run.foreign_files
    test = Predictions.load(run.predictions("test")).table.set_index("sample")
    columns = [name for name in test if name.startswith("logit:")]
    found = predict(run, [data / "labels.csv"], device="cpu").table
    found["sample"] = [name.removeprefix(f"{data}/") for name in found["sample"]]
    np.testing.assert_allclose(found.set_index("sample").loc[test.index, columns], test[columns], atol=1e-4)
    older = pd.read_csv(data / "labels.csv")
    older["path"] = [str(data / path) for path in older["path"]]
    older.assign(age=older["age"] + 30).to_csv(tmp_path / "older.csv", index=False)
    changed = predict(run, [tmp_path / "older.csv"], device="cpu").table
    assert not np.allclose(changed[columns], found[columns], atol=1e-3)
    with pytest.raises(ConfigError, match="Explain the same network without the table"):
        explain(run.folder, out=tmp_path / "maps")


@pytest.mark.parametrize("fusion", ["late", "film"])
def test_a_bundle_predicts_with_the_table_as_the_run(fusion, run, film, data, tmp_path):
    run = run if fusion == "late" else film
    bundle = tmp_path / "bundle"
    text = succeeded("export", run.folder, "--out", bundle, "-q")
    assert "Compared from the raw files" in text
    manifest = read_manifest(bundle)
    assert manifest.table_columns == ("age", "sex")
    assert manifest.proof.largest_difference is not None
    assert manifest.proof.largest_difference < 1e-5
    assert "age (number), sex (category: F, M)" in (bundle / "model_card.md").read_text()
    assert is_own_file("reference_table.csv")
    without_torch("export", "verify", bundle, "-q")
    people = pd.read_csv(data / "labels.csv").groupby("subject")[["age", "sex"]].first().reset_index()
    people.loc[3, "age"] = None  # cells may be missing
    people.to_csv(tmp_path / "people.csv", index=False)
    ours, theirs = tmp_path / "ours.csv", tmp_path / "theirs.csv"
    inputs = (data / "images", "--table", tmp_path / "people.csv", "-q", "--out")
    without_torch("predict", bundle, *inputs, ours)
    succeeded("predict", run.folder, *inputs, theirs, "--engine", "torch", "--device", "cpu")
    pd.testing.assert_frame_equal(pd.read_csv(ours), pd.read_csv(theirs), atol=1e-5, rtol=0)
    image = next((data / "images").iterdir())
    assert "Give the table of the subjects with --table" in refused("predict", bundle, image, "--out", ours, "-q")
    with pytest.raises(ConfigError, match=r"takes columns of a table \(age, sex\)"):
        create_app(bundle)
    cohort = write(generate(subjects=10, slices=2, classes=2, size=32, seed=5), tmp_path / "cohort", "csv")
    found = external_validation(bundle, cohort, out=tmp_path / "external", same_ids="keep", resamples=10)
    assert found.internal.scores["subject"].count == Evaluation.load(run.metrics).scores["subject"].count
    # Another mean of the age is another classifier, and is noticed.
    document = json.loads((bundle / "bundle.json").read_text())
    encoder = document["members"][0]["fusion"]["encoder"] if fusion == "late" else document["members"][0]["table"]
    encoder["columns"][0]["mean"] = [10.0]
    (bundle / "bundle.json").write_text(json.dumps(document))
    write_checksums(bundle)
    assert "are not those of the runs" in verify_bundle(bundle).problems[0]
