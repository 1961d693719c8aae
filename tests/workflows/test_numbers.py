"""The whole road of a number: train, evaluate, predict, cross-validate, compare, explain, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from gyrus.datasets.manifest import Manifest
from gyrus.datasets.scan import scan
from gyrus.datasets.splits import split
from gyrus.datasets.store import open_store
from gyrus.errors import ConfigError, DataError
from gyrus.evaluation.number_evaluate import compare_numbers
from gyrus.evaluation.number_external import NumberExternalValidation
from gyrus.evaluation.number_result import NumberEvaluation
from gyrus.explanation.attribution import Attribution
from gyrus.explanation.explanation_folder import ExplanationFolder
from gyrus.inference.number_predictions import NumberPredictions
from gyrus.runs.run_folder import Run
from gyrus.synthetic.phantom import generate
from gyrus.synthetic.phantom_layouts import write
from gyrus.workflows.checklist import checklist
from gyrus.workflows.compare import compare
from gyrus.workflows.convert import convert
from gyrus.workflows.crossval import crossval
from gyrus.workflows.evaluate import evaluate
from gyrus.workflows.experiment_config import DataConfig, load_config
from gyrus.workflows.explain.config import ExplainConfig
from gyrus.workflows.explain.explain import explain
from gyrus.workflows.external_validation import external_validation
from gyrus.workflows.number_baselines import predict_number_baselines
from gyrus.workflows.predict import predict
from gyrus.workflows.split_unit_comparison import train_both
from gyrus.workflows.train import train
from tests.support.command_line import succeeded

QUICK: dict[str, Any] = {
    "data.target": "age",
    "training.epochs": 1,
    "training.batch_size": 8,
    "preprocessing.steps": [{"step": "grayscale"}, {"step": "resize", "size": [16, 16]}],
    "model.options": {"channels": [4, 4]},
    "evaluation.resamples": 30,
    "evaluation.unlike_training": False,
}


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(generate(30, 2, 2, 32, age_effect=6), tmp_path_factory.mktemp("ages") / "heads", "csv")


@pytest.fixture(scope="module")
def run(heads: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(None, data=heads, out=tmp_path_factory.mktemp("run") / "age", overrides=QUICK)


def test_a_run_holds_numbers_scores_baselines_and_a_report(run: Run, heads: Path) -> None:
    test = NumberPredictions.load(run.predictions("test"))
    ages = pd.read_csv(heads / "labels.csv").set_index("path")["age"]
    assert test.targets.tolist() == pytest.approx(ages.loc[test.table["sample"]].tolist())
    evaluation = NumberEvaluation.load(run.metrics)
    mae = np.abs(test.predicted - test.targets).mean()
    assert evaluation.scores["image"].metrics["mae"].value == pytest.approx(mae)
    assert set(json.loads(run.baselines.read_text())["results"]) == {"mean", "ridge"}
    assert pd.read_csv(run.history).columns.tolist()[:4] == ["epoch", "lr", "train_loss", "train_mae"]
    page = run.report.read_text()
    for words in ("Bland-Altman plot by subject", "Error along the range of age", "predicting age", "ridge regression"):
        assert words in page
    assert "predicted from images like the training data" in run.card.read_text()
    # The network itself gives years: its first prediction is near the mean of the training set.
    train_mean = Manifest.load(run.manifest).targets.mean()
    assert abs(test.predicted.mean() - train_mean) < 5


def test_a_run_and_a_table_are_evaluated_again(run: Run, tmp_path: Path) -> None:
    before = run.metrics.read_text()
    evaluate(run)
    assert run.metrics.read_text() == before
    NumberPredictions.load(run.predictions("test")).export(tmp_path / "table.csv")
    found = evaluate(tmp_path / "table.csv", split_unit="subject", resamples=30)
    assert isinstance(found, NumberEvaluation)
    assert found.headline.metrics["mae"].value == pytest.approx(
        NumberEvaluation.load(run.metrics).headline.metrics["mae"].value
    )
    assert "Bland-Altman" in (tmp_path / "table-evaluation" / "report.html").read_text()


def test_new_images_get_the_numbers_that_the_test_set_got(run: Run, heads: Path, tmp_path: Path) -> None:
    test = NumberPredictions.load(run.predictions("test"))
    found = predict(run, [heads / name for name in test.table["sample"]], out=tmp_path / "new.csv", engine="torch")
    assert isinstance(found, NumberPredictions)
    assert found.predicted.tolist() == pytest.approx(test.predicted.tolist(), abs=1e-3)
    assert pd.read_csv(tmp_path / "new.csv")["prediction"].tolist() == pytest.approx(test.predicted.tolist(), abs=1e-3)


def test_quantiles_through_a_cross_validation_and_a_comparison(run: Run, heads: Path, tmp_path: Path) -> None:
    loss = {"name": "quantile", "levels": [0.1, 0.5, 0.9]}
    changes = {**QUICK, "training.loss": loss, "split.val": 0.7}  # nine validation subjects allow an interval
    found = crossval(None, data=heads, out=tmp_path / "folds", folds=2, overrides=changes)
    predictions = found.predictions()
    assert isinstance(predictions, NumberPredictions)
    assert len(predictions) == 60
    assert predictions.levels == (0.1, 0.5, 0.9)
    assert (np.diff(predictions.quantiles, axis=1) >= 0).all()
    assert "Mean absolute error (MAE)" in found.text()
    assert "The folds are not independent" in found.text()
    assert "cross-validation" in found.report.read_text()
    image = heads / "images" / "P001_00.png"
    alone, together = (predict(each, [image], engine="torch") for each in (found.runs[0], found.folder))
    assert isinstance(together, NumberPredictions)
    assert together.levels == (0.1, 0.5, 0.9)
    assert "interval_low" in " ".join(alone.table)
    assert "interval_low" not in " ".join(together.table)
    table = run.predictions("test")
    ranked = compare({"a": table, "b": run.folder}, out=tmp_path / "comparison", resamples=30)
    assert "none of the others is significantly worse" in ranked.text()
    assert (tmp_path / "comparison" / "leaderboard.csv").is_file()


@pytest.mark.usefixtures("drawn_figures")
def test_heat_maps_of_the_number_are_drawn_without_the_checks_of_classes(run: Run, tmp_path: Path) -> None:
    config = ExplainConfig(methods=("integrated-gradients", "occlusion"), shown=2, images=2, engine="torch")
    folder = explain(run, config=config, out=tmp_path / "maps")
    page = folder.report.read_text()
    assert "The heat maps of a number are not checked" in page
    assert "predicted age" in page
    shown = ExplanationFolder(folder.folder).attribution("integrated-gradients", 0)
    found = Attribution.load(shown)
    assert found.classes == ("age",)
    assert found.number == pytest.approx(
        NumberPredictions.load(run.predictions("test")).table.set_index("sample").loc[found.sample, "prediction"],
        abs=1e-3,
    )
    with pytest.raises(ConfigError, match="Heat maps by rise need classes, but this predicts the number 'age'"):
        explain(run, config=ExplainConfig(methods=("rise",)), out=tmp_path / "other")


def test_a_run_is_validated_on_another_cohort(run: Run, heads: Path, tmp_path: Path) -> None:
    cohort = write(generate(12, 2, 2, 32, age_effect=6, seed=5), tmp_path / "cohort", "csv")
    table = pd.read_csv(cohort / "labels.csv").rename(columns={"age": "years"})
    table["subject"] = "X" + table["subject"].astype(str)
    table.to_csv(cohort / "labels.csv", index=False)
    words = succeeded(
        *("test", run.folder, cohort / "labels.csv", "--target", "years", "--out", tmp_path / "out"),
        *("--resamples", 30, "-q"),
    )
    assert "Mean absolute error of age on the cohort" in words
    found = NumberExternalValidation.load(tmp_path / "out" / "external_validation.json")
    predictions = NumberPredictions.load(tmp_path / "out" / "predictions.parquet")
    assert found.external.scores["image"].metrics["mae"].value == pytest.approx(
        np.abs(predictions.predicted - predictions.targets).mean()
    )
    assert found.set_aside == ()
    page = (tmp_path / "out" / "report.html").read_text()
    assert "External validation of predicted age" in page
    assert "Slope (1 is right)" in page
    with pytest.raises(DataError, match="nobody is left to evaluate"):
        external_validation(run, heads, out=tmp_path / "own", resamples=0)
    with pytest.raises(ConfigError, match="--map is for classes"):
        external_validation(run, cohort, out=tmp_path / "own", class_map={"a": "b"})


def test_checklists_are_filled_with_the_number(run: Run, tmp_path: Path) -> None:
    evaluation = NumberEvaluation.load(run.metrics)
    for standard in ("tripod-ai", "claim"):
        filled = checklist(run, standard, out=tmp_path / f"{standard}.md")
        text = (tmp_path / f"{standard}.md").read_text()
        assert f"{evaluation.headline.metrics['mae'].text()}" in text.replace("\\", "")
        assert "A number, age; in the test set mean" in text
        assert "probability for each class" not in text
        assert any("few subjects in the test set" in risk for risk in filled.risks)


def test_what_needs_classes_is_refused_before_anything_is_written(run: Run, heads: Path, tmp_path: Path) -> None:
    image = heads / "images" / "P001_00.png"
    with pytest.raises(ConfigError, match="DICOM Structured Reports need classes"):
        predict(run, [image], dicom_sr=tmp_path / "reports")
    with pytest.raises(ConfigError, match="Weights fitted on the validation set need classes"):
        predict(run, [image], weights="validation")
    with pytest.raises(ConfigError, match=r"Conversions .* need classes"):
        convert(heads, "folder", tmp_path / "converted", data=DataConfig(target="age"))
    with pytest.raises(ConfigError, match=r"Comparisons of two splits .* need classes"):
        train_both(None, data=heads, out=tmp_path / "both", overrides=QUICK)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training.loss.name": "focal"}, "training.loss focal is for classes"),
        ({"training.monitor": "val_auc"}, "val_auc is a score of classes"),
        ({"training.sampler": "balanced"}, "sampler balanced"),
        ({"data.classes": ["a", "b"]}, "give neither classes, ordered nor merge"),
        ({"evaluation.healthy": "a"}, "healthy names a class"),
        ({"evaluation.at_least": "a"}, "at_least names a class"),
        ({"data.target": None, "training.loss.name": "l1"}, "training.loss l1 is for numbers"),
        ({"data.target": None, "training.monitor": "val_mae"}, "val_mae is a score of numbers"),
    ],
)
def test_settings_that_do_not_fit_the_target_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(None, {"data.target": "age", **changes})


def test_recipes_for_classes_work_for_numbers() -> None:
    settings = load_config("dementia-hem", {"data.target": "age"})
    assert (settings.training.loss.name, settings.training.monitor) == ("huber", "val_mae")
    assert settings.data.merge == {}
    settings = load_config("dementia-hem", {"data.target": "age", "training.loss.name": "l1"})
    assert settings.training.loss.name == "l1"
    assert load_config(settings) == settings


@pytest.mark.parametrize(("age_effect", "found"), [(10, True), (0, False)])
def test_voxels_tell_the_age_where_it_shows_and_nothing_where_it_does_not(
    tmp_path: Path, age_effect: float, found: bool
) -> None:
    """Ridge regression on phantoms of known truth, against the mean of the training set."""
    folder = write(generate(120, 1, 2, 32, age_effect=age_effect), tmp_path / "heads", "csv")
    manifest = scan(folder, target="age")
    settings = load_config(None, {**QUICK, "preprocessing.steps.1.size": [32, 32]})
    parts = split(manifest, settings.split)
    store = open_store(manifest, settings.preprocessing, cache=tmp_path)
    answers, _ = predict_number_baselines(manifest, parts, store, seed=0)
    difference = compare_numbers(answers["ridge"][1], answers["mean"][1], resamples=300)
    assert difference.estimate.high is not None
    assert (difference.estimate.high < 0) == found
    assert (difference.p_value is not None and difference.p_value < 0.05) == found
