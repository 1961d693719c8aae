from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from gyrus.errors import ConfigError, DataError
from gyrus.evaluation.added_value import AddedValue
from gyrus.inference.late_fusion import LateFusion
from gyrus.inference.predictions import Predictions
from gyrus.runs.run_folder import Run
from gyrus.synthetic.phantom import generate
from gyrus.synthetic.phantom_layouts import write
from gyrus.workflows.experiment_config import DataConfig
from gyrus.workflows.explain.explain import explain
from gyrus.workflows.export import export
from gyrus.workflows.predict import predict
from gyrus.workflows.train import train
from tests.conftest import SMALL


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
    with pytest.raises(ConfigError, match="a bundle takes images only"):
        export(run.folder, out=tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()
    assert Run(run.folder).status == "finished"


def test_a_network_that_takes_the_table_predicts_new_images_as_in_its_evaluation(data, tmp_path):
    small = {**SMALL, "evaluation.baselines": False, "evaluation.unlike_training": False, "training.epochs": 1}
    table = {"data.table_columns": ["age", "sex"], "model.fusion": "film"}
    run = train("dementia-baseline", data=data, out=tmp_path / "run", overrides={**small, **table})
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
    older.assign(age=older["age"] + 30).to_csv(data / "older.csv", index=False)
    changed = predict(run, [data / "older.csv"], device="cpu").table
    assert not np.allclose(changed[columns], found[columns], atol=1e-3)
    with pytest.raises(ConfigError, match="Explain the same network without the table"):
        explain(run.folder, out=tmp_path / "maps")
