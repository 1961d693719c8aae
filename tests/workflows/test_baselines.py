"""Baselines: scores where the result is known, their texts, and shuffled labels."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.neighbors import KNeighborsClassifier

from gyrus.datasets.manifest import Manifest
from gyrus.datasets.splits import Split, SplitConfig, split
from gyrus.datasets.store import Store, open_store
from gyrus.evaluation.evaluate import evaluate
from gyrus.evaluation.result import BASELINE_TITLES, Baselines, Evaluation, verdict
from gyrus.inference.predictions import Predictions
from gyrus.runs.run_folder import Run
from gyrus.workflows import baselines as made
from gyrus.workflows.display import SILENT
from gyrus.workflows.evaluate import evaluate as evaluate_again
from gyrus.workflows.experiment_config import load_config
from gyrus.workflows.load_data import scan_data
from gyrus.workflows.train import train
from tests.conftest import SMALL


@pytest.fixture(scope="module")
def subsets(phantom_folder) -> tuple[Manifest, Split, Store]:
    config = load_config("dementia-baseline", {**SMALL, "data.path": str(phantom_folder)})
    manifest = scan_data(config.data, SILENT)
    return manifest, split(manifest, config.split, seed=0), open_store(manifest, config.preprocessing)


def test_the_nearest_neighbour_is_that_of_scikit_learn_on_mean_images(subsets) -> None:
    manifest, of, store = subsets
    answers, _ = made.predict_baselines(manifest, of, store, seed=0)
    _, said = answers["nearest-neighbour"]
    frame = pd.DataFrame(store.pixels.reshape(len(store), -1).astype(float))
    means = frame.groupby(manifest.table["subject"].to_numpy(str)).mean()
    labels = manifest.table.groupby(manifest.table["subject"].astype(str))["label"].first()
    neighbour = KNeighborsClassifier(1).fit(
        means.loc[sorted(of.subjects["train"])], labels[sorted(of.subjects["train"])]
    )
    expected = neighbour.predict(means.loc[said.table["subject"]])
    assert said.predicted_classes.tolist() == expected.tolist()


def test_baselines_are_evaluated_on_the_subjects_of_the_test_set_only(subsets) -> None:
    manifest, of, store = subsets
    answers, _ = made.predict_baselines(manifest, of, store, seed=0)
    for _, said in answers.values():
        assert set(said.table["subject"]) == set(of.subjects["test"])
        assert len(said) == len(of.subjects["test"])


def test_the_images_of_the_test_set_change_only_their_own_predictions(subsets) -> None:
    """No number of a baseline is fitted on test: other test labels give the same logits."""
    manifest, of, store = subsets
    table = manifest.table.copy()
    inside = table["sample"].isin(of.samples["test"])
    table.loc[inside, "label"] = np.where(table.loc[inside, "label"] == "Control", "Dementia", "Control")
    turned = replace(manifest, table=table)
    for name, (about, said) in made.predict_baselines(manifest, of, store, seed=0)[0].items():
        other_about, other = made.predict_baselines(turned, of, store, seed=0)[0][name]
        assert about == other_about
        np.testing.assert_array_equal(said.logits, other.logits)


def test_metadata_that_determine_the_class_are_detected(subsets) -> None:
    manifest, of, store = subsets
    sick = manifest.table["label"] == "Dementia"
    told = replace(manifest, table=manifest.table.assign(Age=np.where(sick, 80, 60), site="one"))
    answers, notes = made.predict_baselines(told, of, store, seed=0)
    about, said = answers["metadata"]
    assert about == "Age"
    assert (said.predicted == said.targets).all()
    assert notes == ()
    answers, notes = made.predict_baselines(manifest, of, store, seed=0)
    assert "metadata" not in answers
    assert "no age, sex or site" in notes[0]


def test_after_a_split_by_image_the_nearest_neighbour_is_another_slice_of_the_subject(phantom_folder) -> None:
    config = load_config("dementia-baseline", {**SMALL, "data.path": str(phantom_folder)})
    manifest = scan_data(config.data, SILENT)
    by_image = split(manifest, SplitConfig(unit="image"), seed=0)
    answers, _ = made.predict_baselines(manifest, by_image, open_store(manifest, config.preprocessing), seed=0)
    _, said = answers["nearest-neighbour"]
    assert len(said) == len(by_image.samples["test"])
    assert (said.predicted == said.targets).mean() > 0.65  # of two classes, on 32 x 32 pixels


@pytest.mark.parametrize("shape", [(1, 40, 50), (3, 20, 20), (1, 8, 33, 40)])
def test_small_images_are_means_over_blocks(tmp_path, shape) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, size=(3, *shape), dtype=np.uint8)
    np.save(tmp_path / "pixels.npy", pixels)
    small = made._small(Store(tmp_path))
    assert small.shape[0] == 3
    assert small.shape[1] <= made.MOST_PIXELS
    constant = np.full_like(pixels, 7)
    np.save(tmp_path / "pixels.npy", constant)
    assert np.unique(made._small(Store(tmp_path))).tolist() == [7.0]


def test_features_are_means_over_the_blocks_of_each_channel(tmp_path, monkeypatch) -> None:
    """Also where the images are read in several blocks."""
    monkeypatch.setattr(made, "MOST_PIXELS", 8)
    monkeypatch.setattr(made, "BLOCK", 2 * 2 * 4 * 6)
    pixels = np.random.default_rng(0).integers(0, 256, size=(5, 2, 4, 6), dtype=np.uint8)
    np.save(tmp_path / "pixels.npy", pixels)
    expected = pixels.reshape(5, 2, 2, 2, 2, 3).mean(axis=(3, 5)).reshape(5, 8)
    np.testing.assert_allclose(made._small(Store(tmp_path)), expected)


def test_shuffled_labels_keep_counts_subjects_and_the_test_set(subsets) -> None:
    manifest, of, _ = subsets
    shuffled, parts_of_it = made.shuffle_labels(manifest, of, seed=1)
    assert parts_of_it.manifest_digest == shuffled.digest
    table, other = manifest.table, shuffled.table
    for subset in ("train", "val", "test"):
        inside = table["sample"].isin(of.samples[subset])
        people = [each[inside].groupby("subject")["label"] for each in (table, other)]
        assert people[1].nunique().max() == 1
        assert sorted(people[0].first()) == sorted(people[1].first())
    tested = table["sample"].isin(of.samples["test"])
    assert (table["label"][tested] == other["label"][tested]).all()
    assert (table["label"] != other["label"]).any()


def test_labels_of_visits_are_shuffled_by_subject() -> None:
    """Sequences of labels go from subject to subject as a whole, also where subjects have other numbers of visits."""
    rows = [(number, visit) for number in range(40) for visit in range(3)]
    table = pd.DataFrame(
        {
            "sample": [f"s{number:02d}/{visit}.png" for number, visit in rows],
            "path": [f"s{number:02d}/{visit}.png" for number, visit in rows],
            "subject": [f"s{number:02d}" for number, _ in rows],
            "session": [f"m{visit}" for _, visit in rows],
            "label": ["AD" if number % 4 == 3 or (number % 4 == 2 and visit == 2) else "NC" for number, visit in rows],
            "digest": [str(row) for row in range(len(rows))],
        }
    )
    whole = Manifest.from_rows(table, root=Path("data"), subject_kind="subject")
    fewer = replace(whole, table=whole.table.drop(index=[0, 50]).reset_index(drop=True))
    for manifest in (whole, fewer):
        of = split(manifest, SplitConfig(), seed=0)
        shuffled = made.shuffle_labels(manifest, of, seed=1)[0].table
        for subset in ("train", "val"):
            inside = manifest.table["sample"].isin(of.samples[subset])
            before, after = (each[inside].groupby("subject")["label"] for each in (manifest.table, shuffled))
            assert (before.agg(tuple) != after.agg(tuple)).any()
            assert sorted(manifest.table["label"][inside]) == sorted(shuffled["label"][inside])
            if manifest is whole:
                assert sorted(before.agg(tuple)) == sorted(after.agg(tuple))


def test_the_report_starts_with_the_baselines_and_a_run_can_be_evaluated_again(finished_run, tmp_path) -> None:
    run = Run.open(shutil.copytree(finished_run, tmp_path / "run"))
    found, evaluation = Baselines.load(run.baselines), Evaluation.load(run.metrics)
    assert {"nearest-neighbour", "linear-svm"} <= set(found.results)
    sentences = verdict(evaluation, found)
    assert run.classification_report.read_text().startswith("\n".join(["Evaluation on the test set", "", *sentences]))
    assert all(sentence.replace("'", "&#39;") in run.report.read_text() for sentence in sentences)
    evaluate_again(run)
    assert Baselines.load(run.baselines) == found


def test_shuffled_labels_are_trained_beside_the_run(phantom_folder, tmp_path) -> None:
    run = train(
        "dementia-baseline",
        data=phantom_folder,
        out=tmp_path / "run",
        overrides={**SMALL, "training.epochs": 1, "evaluation.shuffled_labels": True},
    )
    assert run.status == "finished"
    assert Run(run.shuffled).status == "finished"
    assert "shuffled-labels" in Baselines.load(run.baselines).results
    assert BASELINE_TITLES["shuffled-labels"] in run.report.read_text()


def test_predictions_of_a_baseline_are_ordinary_predictions(finished_run) -> None:
    said = Predictions.load(Run(finished_run).predictions("baseline-linear-svm"))
    assert evaluate(said, resamples=0).headline.count == len(said)


def few_rows() -> made.BaselineData:
    """Training rows of classes 0 and 2, validation rows and test rows, in two features."""
    features = np.array([[0.0, 0], [0, 2], [9, 9], [9, 7], [1, 1], [8, 8], [0, 1], [9, 8]])
    subsets = np.array(["train"] * 4 + ["val"] * 2 + ["test"] * 2, dtype=object)
    return made.BaselineData(
        features, np.array([0, 0, 2, 2, 0, 2, 0, 2]), np.arange(8).astype(str).astype(object), subsets
    )


def test_the_score_of_a_class_is_minus_the_distance_to_its_nearest_row() -> None:
    about, scores = made.PIXEL_BASELINES["nearest-neighbour"](few_rows(), 0)
    near, far = 1.0, np.array([np.hypot(9, 6), np.hypot(9, 6)])
    distances = [1, 1, np.hypot(9, 8), np.hypot(9, 6), np.hypot(9, 8), np.hypot(9, 6), 1, 1]
    unit = np.median(distances) / 10
    assert about == ""
    np.testing.assert_allclose(scores, [[-near / unit, -100, -far[0] / unit], [-far[1] / unit, -100, -near / unit]])


def test_a_class_that_is_not_in_training_is_never_the_answer_of_a_baseline() -> None:
    for name in made.PIXEL_BASELINES:
        scores = made.PIXEL_BASELINES[name](few_rows(), 0)[1]
        assert scores.argmax(axis=1).tolist() == [0, 2]
        assert (scores[:, 1] == -100).all()


def test_of_many_training_rows_some_are_drawn_by_the_seed() -> None:
    rows = few_rows()
    assert made._drawn(rows, 8, 0) is rows
    drawn = made._drawn(rows, 5, 1)
    assert len(set(drawn.names)) == 5
    assert drawn.names.tolist() == sorted(drawn.names)
    assert any(made._drawn(rows, 5, seed).names.tolist() != drawn.names.tolist() for seed in range(5))
    assert made._drawn(rows, 5, 1).names.tolist() == drawn.names.tolist()


def test_metadata_are_numbers_or_names_and_may_be_missing() -> None:
    """The class depends on the site alone; the age is no help, and both have gaps."""
    subsets = np.array((["train"] * 16 + ["test"] * 4), dtype=object)
    targets = np.tile([0, 2], 10)
    table = pd.DataFrame({"age": [60.0, 60.0, 80.0, 80.0] * 5, "site": ["a", "b"] * 10})
    rows = made.BaselineData(np.zeros((20, 1)), targets, np.arange(20).astype(object), subsets)
    logits = made._from_metadata(table, rows)
    assert logits.argmax(axis=1).tolist() == [0, 2, 0, 2]
    np.testing.assert_allclose(np.exp(logits).sum(axis=1), 1)
    assert (logits[:, 1] == -100).all()
    gaps = table.assign(age=table["age"].mask(table.index % 5 == 0), site=table["site"].mask(table.index == 18))
    gaps.loc[19, "site"] = "never seen"
    assert np.isfinite(made._from_metadata(gaps, rows)).all()
    words = table.assign(age=[str(age) for age in table["age"]])
    np.testing.assert_allclose(made._from_metadata(words, rows), logits)


def test_a_subject_is_the_mean_of_its_images_in_a_subset() -> None:
    table = pd.DataFrame({"subset_": ["test", "train", None, "train"], "target_": [1, 0, 1, 0]})
    rows = made._pooled(table, np.array(["q", "p", "p", "p"], object), np.array([[1.0], [2.0], [90.0], [4.0]]))
    assert rows.names.tolist() == ["p", "q"]
    assert rows.features.tolist() == [[3.0], [1.0]]
    assert (rows.targets.tolist(), rows.subsets.tolist()) == ([0, 1], ["train", "test"])


def test_of_too_many_classes_there_is_no_support_vector_machine(subsets, monkeypatch) -> None:
    manifest, of, store = subsets
    monkeypatch.setattr(made, "MOST_SVM_CLASSES", 2)
    assert "linear-svm" in made.predict_baselines(manifest, of, store, seed=0)[0]
    monkeypatch.setattr(made, "MOST_SVM_CLASSES", 1)
    answers, notes = made.predict_baselines(manifest, of, store, seed=0)
    assert list(answers) == ["nearest-neighbour"]
    assert notes[0].startswith("No linear SVM")
    assert len(notes) == 2


def test_shuffled_labels_are_another_order_of_each_subset_by_the_seed(subsets) -> None:
    manifest, of, _ = subsets
    first, other = (made.shuffle_labels(manifest, of, seed=seed)[0] for seed in (1, 2))
    assert made.shuffle_labels(manifest, of, seed=1)[0].table["label"].tolist() == first.table["label"].tolist()
    assert (first.table["label"] != other.table["label"]).any()
    by_image = replace(of, unit="image")
    labels = made.shuffle_labels(manifest, by_image, seed=1)[0].table.groupby("subject")["label"]
    assert labels.nunique().max() == 2
