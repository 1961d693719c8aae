from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from gyrus.datasets.manifest import Manifest
from gyrus.datasets.splits import Split
from gyrus.errors import ConfigError, DataError, GyrusError
from gyrus.evaluation.matching import MatchedScores
from gyrus.evaluation.number_external import NumberExternalValidation
from gyrus.evaluation.site_check import SiteCheck
from gyrus.export.manifest import write_checksums
from gyrus.inference.number_predictions import NumberPredictions
from gyrus.inference.predictions import Predictions
from gyrus.runs.run_folder import Run
from gyrus.workflows.classical import ClassicalClassifier
from gyrus.workflows.compare import compare
from gyrus.workflows.crossval import crossval
from gyrus.workflows.crossval_folder import CrossValidation
from gyrus.workflows.display import SILENT
from gyrus.workflows.experiment_config import load_config
from gyrus.workflows.explain.config import ExplainConfig
from gyrus.workflows.explain.explain import explain
from gyrus.workflows.export import export
from gyrus.workflows.external_validation import external_validation
from gyrus.workflows.harmonisation import require_harmonisable
from gyrus.workflows.predict import predict
from gyrus.workflows.train import resume, train
from gyrus.workflows.training_plan import data_to_train, plan_training
from gyrus.workflows.verify_bundle import verify_bundle
from tests.support.command_line import gyrus, refused, succeeded, without_torch

SETTINGS = {
    "model.name": "logistic-regression",
    "data.table_columns": ["age", "sex"],
    "evaluation.resamples": 0,
}


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """80 people whose class depends on age and sex; some cells are missing."""
    random = np.random.default_rng(0)
    age, man = random.normal(70, 8, 80).round(), random.integers(0, 2, 80)
    sick = age / 8 + man + random.logistic(size=80) > 9.2
    table = pd.DataFrame(
        {
            "subject": [f"p{number:02}" for number in range(80)],
            "diagnosis": np.where(sick, "AD", "CN"),
            "age": age,
            "sex": np.where(man, "M", "F"),
        }
    )
    table.loc[::9, "age"] = np.nan
    table.loc[::11, "sex"] = None
    path = tmp_path_factory.mktemp("people") / "people.csv"
    table.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def run(people, tmp_path_factory):
    return train(data=people, out=tmp_path_factory.mktemp("runs") / "table", overrides=SETTINGS)


def test_the_numbers_of_a_run_are_those_of_scikit_learn(run, people):
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    split, table = Split.load(run.split), pd.read_csv(people, index_col="subject")
    frame = pd.DataFrame({"age": table["age"], "man": table["sex"].map({"M": 1.0, "F": 0.0})})
    pipeline = make_pipeline(
        make_column_transformer(
            (make_pipeline(SimpleImputer(), StandardScaler()), ["age"]), (SimpleImputer(), ["man"])
        ),
        LogisticRegression(C=run.description["chosen"]["C"], tol=1e-10),
    )
    train_set, test_set = (list(split.samples[subset]) for subset in ("train", "test"))
    pipeline.fit(frame.loc[train_set], table.loc[train_set, "diagnosis"])
    predictions = Predictions.load(run.predictions("test"))
    expected = pipeline.predict_proba(frame.loc[predictions.table["sample"]])
    assert set(predictions.table["sample"]) == set(test_set)
    np.testing.assert_allclose(predictions.probabilities, expected, atol=1e-6)


def test_a_run_has_the_files_of_every_run_and_no_pickle(run):
    assert not run.foreign_files
    assert not Manifest.load(run.manifest).has_images
    assert run.description["features"] == ["age", "sex=M"]
    assert json.loads(run.preprocessing.read_text())["table"]["columns"][0]["name"] == "age"
    page = run.report.read_text()
    assert "logistic-regression" in page
    assert "age, sex=M" in page
    # Every person is one row, so scores by image would repeat those by subject.
    assert "By image" not in run.classification_report.read_text()
    assert "By image" not in page


def test_new_people_are_predicted_from_a_table_with_missing_cells(run, people, tmp_path):
    new = pd.read_csv(people).drop(columns="diagnosis")
    new.loc[len(new)] = ["new", None, None]
    new.to_csv(tmp_path / "new.csv", index=False)
    told = gyrus("predict", run.folder, "--table", tmp_path / "new.csv", "--out", tmp_path / "out.csv")
    assert "'age' is missing in 10 of 81 rows" in told.stderr
    assert "81 predictions by a linear model" in told.stdout
    found = pd.read_csv(tmp_path / "out.csv").set_index("sample")
    test = Predictions.load(run.predictions("test"))
    np.testing.assert_allclose(
        found.loc[test.table["sample"], "probability:AD"], test.probabilities[:, test.classes.index("AD")], atol=1e-12
    )
    assert "new" in found.index


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sex": "X"}, "'sex' that no training subject has; the first is 'X' (p00). Known: F, M"),
        ({"age": "old"}, "'age' must hold numbers"),
    ],
)
def test_cells_that_do_not_fit_are_refused(run, people, tmp_path, change, words):
    table = pd.read_csv(people).astype(object)
    for column, cell in change.items():
        table.loc[0, column] = cell
    table.to_csv(tmp_path / "new.csv", index=False)
    with pytest.raises(DataError) as error:
        predict(run, [tmp_path / "new.csv"])
    assert words in str(error.value)


def test_stages_keep_their_order(people, tmp_path):
    table = pd.read_csv(people)
    table["diagnosis"] = np.resize(["AD", "CN", "MCI"], len(table))
    table.to_csv(tmp_path / "stages.csv", index=False)
    settings = load_config(None, SETTINGS | {"data.path": str(tmp_path / "stages.csv")})
    manifest, split = data_to_train(settings, SILENT)
    predictions = ClassicalClassifier.fit(manifest, split, settings).predict(manifest, split, "test")
    assert predictions.classes == ("CN", "MCI", "AD")
    assert predictions.target.is_ordered


def test_a_missing_column_is_named(run, people, tmp_path):
    pd.read_csv(people).drop(columns="age").to_csv(tmp_path / "new.csv", index=False)
    out = tmp_path / "out.csv"
    words = refused("predict", run.folder, tmp_path / "new.csv", "--out", out)
    assert "needs the column 'age', which the table lacks. It has: sex" in " ".join(words.split())
    assert not out.exists()


@pytest.mark.parametrize("kind", ["classes", "trees", "number"])
def test_a_bundle_on_a_table_predicts_without_torch_what_the_run_predicts(kind, run, people, ages, tmp_path):
    data = ages if kind == "number" else people
    if kind != "classes":
        trees = {**SETTINGS, "model.name": "boosted-trees", "model.options": {"features": ["table"], "trees": 5}}
        settings = NUMBER if kind == "number" else trees
        run = train(data=data, out=tmp_path / "run", overrides={**settings, "evaluation.baselines": False})
    bundle = export(run.folder, out=tmp_path / "bundle")
    assert bundle.manifest.inputs == "table"
    assert (bundle.manifest.members[0].scaling is not None) == (kind == "number")
    assert bundle.manifest.proof.compared
    assert max(bundle.manifest.proof.largest_difference, bundle.manifest.proof.saved_difference) < 1e-5
    assert "rows of a table" in (tmp_path / "bundle" / "model_card.md").read_text()
    verify_bundle(tmp_path / "bundle").require_passed()
    columns = ["diagnosis", "age"] if kind == "number" else ["diagnosis"]
    pd.read_csv(data).drop(columns=columns).to_csv(tmp_path / "new.csv", index=False)
    by_bundle = predict(tmp_path / "bundle", [tmp_path / "new.csv"]).table
    modules = without_torch(
        "predict", tmp_path / "bundle", "--table", tmp_path / "new.csv", "--out", tmp_path / "p.csv"
    )
    assert "torch" not in modules
    written = pd.read_csv(tmp_path / "p.csv")
    by_run = predict(run.folder, [tmp_path / "new.csv"]).table
    answers = [name for name in by_run if name.startswith(("logit:", "prediction"))]
    for found in (by_bundle, written):
        assert found["sample"].tolist() == by_run["sample"].tolist()
    np.testing.assert_allclose(by_bundle[answers], by_run[answers], atol=1e-4)
    for name in ("probability:AD", "subject_interval_high"):
        if name in written and name in by_run:
            np.testing.assert_allclose(written[name], by_run[name], atol=1e-4)


def test_a_bundle_on_a_table_is_validated_on_a_cohort_and_a_changed_mean_is_found(run, people, tmp_path):
    export(run.folder, out=tmp_path / "bundle")
    cohort = pd.read_csv(people)
    cohort.loc[10:, "subject"] = "x" + cohort.loc[10:, "subject"]
    cohort.to_csv(tmp_path / "cohort.csv", index=False)
    found = [
        external_validation(each, tmp_path / "cohort.csv", out=tmp_path / f"{number}", resamples=20)
        for number, each in enumerate((run.folder, tmp_path / "bundle"))
    ]
    ours, theirs = (each.external.headline for each in found)
    assert ours.count == theirs.count == 70
    assert ours.metrics["macro_roc_auc"].value == pytest.approx(theirs.metrics["macro_roc_auc"].value, abs=1e-6)
    path = tmp_path / "bundle" / "bundle.json"
    document = json.loads(path.read_text())
    document["members"][0]["table"]["columns"][0]["mean"] = [60.0]
    path.write_text(json.dumps(document))
    write_checksums(tmp_path / "bundle")
    with pytest.raises(GyrusError, match="are not those of the runs"):
        verify_bundle(tmp_path / "bundle").require_passed()


NUMBER = {
    "data.target": "age",
    "data.table_columns": ["volume", "sex"],
    "model.name": "ridge",
    "evaluation.resamples": 50,
}


@pytest.fixture(scope="module")
def ages(people, tmp_path_factory):
    """The people with a volume that falls with age."""
    table = pd.read_csv(people).dropna(subset="age")
    table["volume"] = 100 - table["age"] + np.random.default_rng(2).normal(size=len(table))
    path = tmp_path_factory.mktemp("ages") / "people.csv"
    table.to_csv(path, index=False)
    return path


def test_a_number_is_predicted_from_a_table_along_the_whole_road(ages, tmp_path):
    run = train(data=ages, out=tmp_path / "run", overrides=NUMBER)
    test = NumberPredictions.load(run.predictions("test"))
    assert np.abs(test.predicted - test.targets).mean() < 1.5
    assert set(json.loads(run.baselines.read_text())["results"]) == {"mean"}
    assert "always predicting the mean of the training set" in run.report.read_text()
    assert not run.foreign_files
    pd.read_csv(ages).drop(columns=["diagnosis", "age"]).to_csv(tmp_path / "new.csv", index=False)
    succeeded("predict", run.folder, "--table", tmp_path / "new.csv", "--out", tmp_path / "out.csv")
    new = pd.read_csv(tmp_path / "out.csv").set_index("sample")
    np.testing.assert_allclose(new.loc[test.table["sample"], "prediction"], test.predicted, atol=1e-8)
    assert (new["subject_interval_high"] > new["prediction"]).all()
    cohort = pd.read_csv(ages).rename(columns={"age": "years"})
    cohort.loc[10:, "subject"] = "x" + cohort.loc[10:, "subject"]
    cohort.to_csv(tmp_path / "cohort.csv", index=False)
    succeeded("test", run.folder, tmp_path / "cohort.csv", "--target", "years", "--out", tmp_path / "external")
    validation = NumberExternalValidation.load(tmp_path / "external" / "external_validation.json")
    found = NumberPredictions.load(tmp_path / "external" / "predictions.parquet")
    np.testing.assert_allclose(
        validation.external.headline.metrics["mae"].value, np.abs(found.predicted - found.targets).mean()
    )
    assert {each.subject for each in validation.set_aside} == {
        name for name in cohort["subject"] if name.startswith("p")
    }
    assert validation.coverage is not None
    assert "There are no images to compare" in validation.text()
    assert "chose the weights of the network" not in run.classification_report.read_text()
    sex = train(data=ages, out=tmp_path / "sex", overrides=NUMBER | {"data.table_columns": ["sex"]})
    board = compare({"sex": sex.folder, "volume": run.folder}, out=tmp_path / "board", resamples=50)
    assert board.text().index("volume") < board.text().index("sex")
    with pytest.raises(ConfigError, match=r"model\.name=ridge"):
        train(data=ages, out=tmp_path / "other", overrides=NUMBER | {"model.name": "linear-svm"})


HARMONISED = SETTINGS | {
    "data.table_columns": ["age", "volume", "cortex"],
    "data.harmonise": {"columns": ["volume", "cortex"], "site": "site", "keep": ["age"]},
    "evaluation.resamples": 100,
}


@pytest.fixture(scope="module")
def sites(people, tmp_path_factory):
    """The people at two sites, one of which shifts volumes."""
    table, random = pd.read_csv(people), np.random.default_rng(1)
    table["site"] = np.resize(["north", "south"], len(table))
    for name in ("volume", "cortex"):
        table[name] = random.normal(size=len(table)) + 4 * (table["site"] == "south")
    path = tmp_path_factory.mktemp("sites") / "people.csv"
    table.to_csv(path, index=False)
    return path


def test_columns_are_harmonised_by_the_training_set_and_the_site_is_checked(sites, tmp_path):
    run = train(data=sites, out=tmp_path / "run", overrides=HARMONISED)
    check = SiteCheck.load(run.site_check)
    assert check.before.value > 0.95 > 0.7 > check.after.value
    assert "Harmonised between sites" in run.report.read_text()
    assert check.text() in run.classification_report.read_text()
    assert not run.foreign_files
    folds = crossval(data=sites, out=tmp_path / "folds", folds=2, overrides=HARMONISED | {"evaluation.resamples": 0})
    pooled = SiteCheck.load(folds.folder / "site_check.json")
    assert pooled.count == 80
    assert pooled.before.value > 0.95 > 0.7 > pooled.after.value
    assert pooled.text() in (folds.folder / "classification_report.txt").read_text()
    assert "Harmonised between sites" in folds.report.read_text()
    test = Predictions.load(run.predictions("test"))
    pd.read_csv(sites).drop(columns="diagnosis").to_csv(tmp_path / "new.csv", index=False)
    new = predict(run, [tmp_path / "new.csv"]).table.set_index("sample")
    columns = [f"logit:{name}" for name in test.classes]
    np.testing.assert_allclose(new.loc[test.table["sample"], columns], test.table[columns], atol=1e-10)
    pd.read_csv(sites).replace({"site": {"south": "east"}}).to_csv(tmp_path / "new.csv", index=False)
    words = " ".join(refused("predict", run.folder, tmp_path / "new.csv", "--out", tmp_path / "out.csv").split())
    assert "of a site without training subjects, first: 'east'" in words
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"split.method": "leave-one-group-out", "split.group": "site"}, "the test set is a group that the training"),
        ({"data.table_columns": ["age", "volume"]}, "names 'cortex', which is not among table_columns"),
        ({"data.harmonise": {"columns": ["volume"], "site": "scanner"}}, "no column 'scanner'"),
    ],
)
def test_what_cannot_be_harmonised_is_refused_before_training(sites, tmp_path, change, words):
    with pytest.raises(ConfigError, match=words):
        train(data=sites, out=tmp_path / "run", overrides=HARMONISED | change)
    assert not (tmp_path / "run").exists()


def test_a_site_without_training_subjects_is_refused_before_training(sites):
    settings = load_config(None, HARMONISED | {"data.path": str(sites)})
    manifest, split = data_to_train(settings, SILENT)
    moved = manifest.table["sample"].isin(split.samples["test"])
    table = manifest.table.assign(site=manifest.table["site"].where(~moved, "east"))
    with pytest.raises(DataError, match="without training subjects, first: 'east'"):
        require_harmonisable(replace(manifest, table=table), split, settings)


def test_it_is_compared_and_cross_validated_like_any_classifier(run, people, tmp_path):
    age = train(data=people, out=tmp_path / "age", overrides={**SETTINGS, "data.table_columns": ["age"]})
    board = compare({"both": run.folder, "age": age.folder}, out=tmp_path / "comparison", resamples=50)
    (table,) = board.leaderboard.tables
    assert {standing.entry.name for standing in table.standings} == {"both", "age"}
    found = crossval(data=people, out=tmp_path / "folds", folds=2, overrides=SETTINGS)
    assert len(found.predictions()) == 80
    together = predict(tmp_path / "folds", [people])
    alone = [predict(each, [people]).probabilities for each in found.runs]
    np.testing.assert_allclose(together.probabilities, np.mean(alone, axis=0), atol=1e-12)


def test_all_visits_of_a_person_are_in_one_fold_and_scored_by_person(tmp_path):
    random = np.random.default_rng(0)
    rows = [
        {"subject": f"p{number:02}", "session": visit, "age": age, "diagnosis": "AD" if age > 70 else "CN"}
        for number, age in enumerate(random.normal(70, 8, 40).round())
        for visit in ("m00", "m12", "m24")[: 1 + number % 3]
    ]
    table = pd.DataFrame(rows)
    table.loc[5, "diagnosis"] = {"AD": "CN", "CN": "AD"}[table.loc[5, "diagnosis"]]  # one person converts
    table.to_csv(tmp_path / "visits.csv", index=False)
    settings = {**SETTINGS, "data.table_columns": ["age"], "data.visits": "each", "evaluation.resamples": 50}
    found = crossval(data=tmp_path / "visits.csv", out=tmp_path / "folds", folds=4, overrides=settings)
    tested = [Split.load(each.split).subjects["test"] for each in found.runs]
    assert sorted(name for names in tested for name in names) == sorted(table["subject"].unique())
    assert len(found.predictions()) == len(table)
    scores = found.visit_scores
    assert scores is not None
    assert (scores.visits, scores.subjects, scores.changing) == (len(table), 40, 1)
    assert scores.text() in found.text()
    assert "By person" in found.report.read_text()
    assert CrossValidation.load(found.folder).visit_scores == scores


def test_a_changed_table_beside_images_is_noticed_where_work_continues(phantom_folder, tmp_path):
    subjects = sorted({image.stem.rpartition("_")[0] for image in phantom_folder.rglob("*.png")})
    table, path = pd.DataFrame({"subject": subjects, "age": range(60, 60 + len(subjects))}), tmp_path / "people.csv"
    table.to_csv(path, index=False)
    settings = {**SETTINGS, "data.table_columns": ["age"], "data.table": str(path)}
    folds = {"data": phantom_folder, "out": tmp_path / "folds", "folds": 2, "overrides": settings}
    before = crossval(**folds)
    assert crossval(**folds).pooled == before.pooled
    run = Run(shutil.copytree(before.runs[0].folder, tmp_path / "run"))
    run.mark("interrupted")

    table.loc[1, "age"] += 1
    table.to_csv(path, index=False)
    with pytest.raises(DataError, match=r"changed since the cross-validation was started: 1 column differs: age\."):
        crossval(**folds)
    with pytest.raises(DataError, match=rf"since the run was started: .*, first .*{subjects[1]}"):
        resume(run.folder, data=f"{phantom_folder}/.")


def test_the_contributions_of_columns_add_up_to_the_answer(run, people, tmp_path):
    found = explain(run, out=tmp_path / "columns", config=ExplainConfig(target="predicted"))
    classifier = ClassicalClassifier.load(run)
    assert list(found.values.columns) == list(classifier.features.names)
    test = Predictions.load(run.predictions("test"))
    intercept = np.array(classifier.model.intercept)
    by_subject = dict(zip(test.table["sample"], test.table["subject"], strict=True))
    order = [by_subject[name] for name in test.table["sample"]]
    answers = test.logits.max(axis=1) - intercept[test.logits.argmax(axis=1)]
    np.testing.assert_allclose(found.values.loc[order].sum(axis=1), answers, atol=1e-5)
    saved = pd.read_csv(found.table)
    assert saved["target"].tolist() == [test.classes[place] for place in _places(found, test)]
    assert "Haufe" in found.report.read_text()
    assert "Mean size of the contributions to the logit of the class (predicted)" in found.text()
    again = explain(run, [people], out=tmp_path / "columns")  # an earlier explanation is replaced
    assert len(again.values) > len(found.values)


def _places(found, test):
    by_subject = dict(zip(test.table["subject"], test.logits.argmax(axis=1), strict=True))
    return [by_subject[name] for name in found.values.index]


def test_what_needs_a_network_says_so(run, people, tmp_path):
    with pytest.raises(ConfigError, match="logistic-regression is none"):
        plan_training(data=people, overrides=SETTINGS)
    with pytest.raises(ConfigError, match="no pixels of one image, so there are no heat maps"):
        explain(run.folder, out=tmp_path / "maps", config=ExplainConfig(methods=("occlusion",)))
    with pytest.raises(ConfigError, match="--tta need a network"):
        predict(run, [people], tta=2)


def test_a_run_without_a_report_prints_its_scores(people, tmp_path):
    columns = ("--table-columns", "age,sex", "--set", "model.name=logistic-regression")
    told = succeeded("train", "--data", people, *columns, "--set", "evaluation.report=false", "--out", tmp_path / "run")
    assert f"Scores: {tmp_path / 'run' / 'metrics.json'}" in told
    assert "Accuracy on" in told


def test_models_and_data_must_fit_each_other(people, tmp_path):
    with pytest.raises(DataError, match="has no images, and the model baseline-cnn needs them"):
        train(data=people, out=tmp_path / "run", overrides={"data.source": "people"})
    with pytest.raises(ConfigError, match=r"name them with --table-columns, .* The data have: age, sex"):
        train(data=people, out=tmp_path / "run", overrides={"model.name": "logistic-regression"})
    with pytest.raises(ConfigError, match=r"no column 'agee'\. Did you mean 'age'"):
        train(data=people, out=tmp_path / "run", overrides={**SETTINGS, "data.table_columns": ["agee"]})
    assert not (tmp_path / "run").exists()


def test_a_table_beside_images_is_joined_by_id(phantom_folder, tmp_path):
    subjects = sorted({image.stem.rpartition("_")[0] for image in phantom_folder.rglob("*.png")})
    table = pd.DataFrame({"subject": subjects[1:], "age": range(60, 59 + len(subjects)), "sex": "F"})
    table.loc[::2, "sex"] = "M"
    table.to_csv(tmp_path / "people.csv", index=False)
    settings = {**SETTINGS, "data.table": str(tmp_path / "people.csv")}
    run = train(data=phantom_folder, out=tmp_path / "run", overrides=settings)
    known = Manifest.load(run.manifest).table
    assert known["age"].isna().sum() == (known["subject"] == known["subject"].min()).sum()
    assert known.groupby("subject")["age"].nunique().max() == 1
    assert len(Predictions.load(run.predictions("test"))) > len(Split.load(run.split).subjects["test"])


def test_a_run_is_scored_on_matched_people(run, tmp_path):
    folder = shutil.copytree(run.folder, tmp_path / "run")
    assert "no column 'aeg'. Did you mean 'age'" in refused("evaluate", folder, "--matched", "aeg")
    assert not (folder / "matched_scores.json").exists()
    shown = gyrus("evaluate", folder, "--matched", "age,sex", "--resamples", 20).stdout
    assert "Scores on subjects alike in age and sex" in shown
    saved = MatchedScores.load(folder / "matched_scores.json")
    assert (saved.columns, saved.resamples) == (("age", "sex"), 20)
    assert saved.text() in (folder / "classification_report.txt").read_text()
    page = (folder / "report.html").read_text()
    assert "Subjects alike in age, sex" in page
    assert "Largest imbalance" in page
    assert not Run(folder).foreign_files
    table = next(folder.glob("predictions/test.parquet"))
    assert "--matched is for runs" in refused("evaluate", table, "--matched", "age")
