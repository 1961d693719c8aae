"""Scores of predicted numbers: by subject, with intervals, compared with baselines and other models."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gyrus.datasets.targets import Target
from gyrus.errors import ConfigError, DataError
from gyrus.evaluation.number_evaluate import compare_numbers, evaluate_number_baselines, evaluate_numbers
from gyrus.evaluation.number_result import NumberEvaluation, load_evaluation
from gyrus.evaluation.result import Evaluation
from gyrus.inference.number_predictions import NumberPredictions

AGE = Target("number", "age")


def predictions(subjects: int = 30, images: int = 2, noise: float = 4.0, seed: int = 0, **about: object):
    random = np.random.default_rng(seed)
    truth = np.random.default_rng(99).uniform(20, 80, subjects)
    found = truth + random.normal(0, noise, subjects)
    rows = [
        {"sample": f"p{n}-{i}", "subject": f"p{n}", "target": truth[n], "prediction": found[n] + random.normal(0, 1)}
        for n in range(subjects)
        for i in range(images)
    ]
    return NumberPredictions.from_table(
        pd.DataFrame(rows),
        target=AGE,
        **({"split_unit": "subject"} | about),  # type: ignore[arg-type]
    )


def test_scores_by_subject_pool_the_images_and_survive_the_file(tmp_path: Path) -> None:
    table = predictions()
    found = evaluate_numbers(table, resamples=200)
    assert list(found.scores) == ["subject", "image"]
    assert (found.headline.count, found.scores["image"].count) == (30, 60)
    means = table.table.groupby("subject")[["target", "prediction"]].mean()
    mae = found.headline.metrics["mae"]
    assert mae.value == pytest.approx((means["prediction"] - means["target"]).abs().mean())
    assert mae.low is not None
    assert mae.high is not None
    assert mae.low < mae.value < mae.high
    shuffled = table.select(np.random.default_rng(1).permutation(len(table)))
    assert evaluate_numbers(shuffled, resamples=200) == found

    found.save(tmp_path / "metrics.json")
    assert load_evaluation(tmp_path / "metrics.json") == found
    document = json.loads((tmp_path / "metrics.json").read_text())
    assert document["schema"] == "gyrus.metrics/2"
    assert document["target"] == {"kind": "number", "name": "age"}
    with pytest.raises(DataError, match="scores of the number 'age', and scores of classes are needed"):
        Evaluation.load(tmp_path / "metrics.json")
    assert NumberEvaluation.load(tmp_path / "metrics.json").text() == found.text()


def test_intervals_cover_the_error_of_the_population() -> None:
    covered = 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        truth = random.uniform(20, 80, 40)
        rows = {"sample": [f"p{n}" for n in range(40)], "target": truth, "prediction": truth + random.normal(0, 5, 40)}
        table = pd.DataFrame(rows).assign(subject=rows["sample"])
        found = evaluate_numbers(NumberPredictions.from_table(table, target=AGE, split_unit="subject"), resamples=300)
        mae = found.headline.metrics["mae"]
        covered += mae.low <= 5 * np.sqrt(2 / np.pi) <= mae.high  # type: ignore[operator]
    assert 0.85 <= covered / 60 <= 1


def test_the_verdict_names_the_baselines_that_are_beaten_and_those_that_are_not() -> None:
    network, mean = predictions(noise=4), predictions(noise=0, images=1)
    table = network.table.assign(prediction=50.0)
    mean = NumberPredictions.from_table(table, target=AGE, split_unit="subject")
    same = predictions(noise=4, seed=5)
    found = evaluate_number_baselines(
        network, {"mean": ("50.0", mean), "ridge": ("", same)}, unit="subject", resamples=300
    )
    assert found.results["mean"].gains["mae"].high < 0  # type: ignore[operator]
    assert found.results["mean"].p_values["mae"] < 0.01  # type: ignore[operator]
    text = evaluate_numbers(network, resamples=300).text(found)
    assert "Not better than ridge regression on raw voxels (MAE " in text
    assert "Better than always predicting the mean of the training set (MAE 1" in text
    assert "Mean absolute error of age on 30 unseen subjects: " in text
    leaky = evaluate_numbers(predictions(split_unit="image"), resamples=100).text()
    assert "WARNING: image-level split" in leaky
    assert "does not estimate performance" in leaky


def test_noise_is_not_better_than_the_mean() -> None:
    """Ten networks that have learned nothing: none may be called better than the mean."""
    claims = 0
    for seed in range(10):
        random = np.random.default_rng(seed)
        noise = predictions(images=1)
        table = noise.table.assign(prediction=50 + random.normal(0, 8, len(noise)))
        network = NumberPredictions.from_table(table, target=AGE, split_unit="subject")
        mean = NumberPredictions.from_table(table.assign(prediction=50.0), target=AGE, split_unit="subject")
        found = compare_numbers(network, mean, resamples=200)
        claims += found.estimate.high < 0  # type: ignore[operator]
    assert claims == 0


def test_pairs_are_compared_on_the_same_subjects_only() -> None:
    first, second = predictions(noise=3, seed=1), predictions(noise=9, seed=2)
    for metric in ("mae", "spearman"):
        found = compare_numbers(first, second, metric=metric, resamples=200)
        assert found.p_value is not None
        assert found.p_value < 0.05
        assert found.estimate.value == pytest.approx(found.first - found.second)
    with pytest.raises(DataError, match="other samples or other true numbers"):
        compare_numbers(first, predictions(29))
    with pytest.raises(DataError, match="not comparable"):
        compare_numbers(first, predictions(split_unit="image"))


def test_what_cannot_be_evaluated_is_said() -> None:
    table = predictions()
    with pytest.raises(ConfigError, match="level"):
        evaluate_numbers(table, level=1)
    unknown = NumberPredictions.from_table(table.table.assign(target=np.nan), target=AGE, split_unit="subject")
    with pytest.raises(DataError, match="has a true age"):
        evaluate_numbers(unknown)
    equal = NumberPredictions.from_table(table.table.assign(target=5.0), target=AGE, split_unit="subject")
    found = evaluate_numbers(equal, resamples=50)
    assert found.headline.metrics["r2"].value is None
    assert "all true or all predicted numbers are equal" in found.text()
    nameless = NumberPredictions.from_table(table.table.drop(columns="subject"), target=AGE, split_unit="subject")
    found = evaluate_numbers(nameless, resamples=50)
    assert list(found.scores) == ["image"]
    assert "intervals resample images" in found.text()
