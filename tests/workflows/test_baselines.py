"""Baselines: scores where the result is known, their texts, and shuffled labels."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.neighbors import KNeighborsClassifier

from gyrus.datasets.manifest import MEMBERS, Manifest
from gyrus.datasets.splits import Split, SplitConfig, split
from gyrus.datasets.store import Store, open_store
from gyrus.errors import DataError
from gyrus.evaluation.evaluate import evaluate
from gyrus.evaluation.out_of_fold import join_folds
from gyrus.evaluation.result import BASELINE_TITLES, Baselines, Evaluation, verdict
from gyrus.inference.predictions import SUBJECT_OF_VISIT, Predictions
from gyrus.runs.run_folder import Run
from gyrus.synthetic.phantom import generate
from gyrus.workflows import baselines as made
from gyrus.workflows.display import SILENT
from gyrus.workflows.evaluate import evaluate as evaluate_again
from gyrus.workflows.experiment_config import EvaluationConfig, load_config
from gyrus.workflows.load_data import scan_data
from gyrus.workflows.train import train
from tests.conftest import SMALL
from tests.support.manifests import manifest_of


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
    small = made.pixel_means(Store(tmp_path))
    assert small.shape[0] == 3
    assert small.shape[1] <= made.MOST_PIXELS
    constant = np.full_like(pixels, 7)
    np.save(tmp_path / "pixels.npy", constant)
    assert np.unique(made.pixel_means(Store(tmp_path))).tolist() == [7.0]


def test_features_are_means_over_the_blocks_of_each_channel(tmp_path, monkeypatch) -> None:
    """Also where the images are read in several blocks."""
    monkeypatch.setattr(made, "MOST_PIXELS", 8)
    monkeypatch.setattr(made, "BLOCK", 2 * 2 * 4 * 6)
    pixels = np.random.default_rng(0).integers(0, 256, size=(5, 2, 4, 6), dtype=np.uint8)
    np.save(tmp_path / "pixels.npy", pixels)
    expected = pixels.reshape(5, 2, 2, 2, 2, 3).mean(axis=(3, 5)).reshape(5, 8)
    np.testing.assert_allclose(made.pixel_means(Store(tmp_path)), expected)


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
    rows = made.pooled_rows(table, np.array(["q", "p", "p", "p"], object), np.array([[1.0], [2.0], [90.0], [4.0]]))
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


def small_study(
    folder: Path, kind: str = "subject", unit: str = "subject", visits: bool = False, slices: int = 2
) -> tuple[Manifest, Split, Store]:
    """Ten subjects of three classes with images of 2 x 2 pixels; of visits, three subjects change the class."""
    subjects = {f"s{number}": "aabb"[number % 4] if number else "c" for number in range(10)}
    manifest = manifest_of(subjects, slices=slices, subject_kind=kind)
    table = manifest.table
    if visits:
        subject = table["subject"]
        label = table["label"].mask(subject.isin(["s1", "s4", "s8"]) & (table["slice"] % 2 == 1), "b")
        manifest = replace(manifest, table=table.assign(session=[f"m{each}" for each in table["slice"]], label=label))
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, size=(len(table), 1, 2, 2), dtype=np.uint8)
    np.save(folder / "pixels.npy", pixels)
    owner = table["path"].str.extract(r"(s\d)")[0]
    parts = {"train": owner < "s5", "val": owner.isin(["s5", "s6"]), "test": owner > "s6"}
    samples = {name: tuple(sorted(table["sample"][mask])) for name, mask in parts.items()}
    people = {name: tuple(sorted(set(owner[mask]))) for name, mask in parts.items()}
    subjects_of = people if kind != "unknown" else dict.fromkeys(parts, ())
    return manifest, Split(samples, subjects_of, unit, "given", 0, manifest.digest), Store(folder)


@pytest.mark.parametrize(
    ("kind", "unit", "visits", "said_kind"),
    [
        ("subject", "subject", False, "subject"),
        ("scan", "scan", False, "scan"),
        ("scan", "image", False, "scan"),
        ("subject", "image", False, "subject"),
        ("unknown", "scan", False, "scan"),
        ("unknown", "image", False, "subject"),
        ("subject", "subject", True, "visit"),
        ("subject", "image", True, "visit"),
    ],
)
def test_predictions_of_baselines_say_whose_they_are(tmp_path, kind, unit, visits, said_kind) -> None:
    """By subject or visit after a split by subject, else by image; visits keep their subjects."""
    manifest, of, store = small_study(tmp_path, kind, unit, visits)
    answers, notes = made.predict_baselines(manifest, of, store, seed=0)
    by_subject = unit != "image" and kind != "unknown"
    rows = manifest.table[manifest.table["sample"].isin(of.samples["test"])]
    units = rows["subject"] + (", visit " + rows["session"] if visits else "")
    names = units if by_subject else rows["sample"]
    first = rows.assign(name=names, unit=units).drop_duplicates("name").sort_values("name")
    assert list(answers) == ["nearest-neighbour", "linear-svm"]
    assert len(notes) == 1
    for about, said in answers.values():
        assert (said.subset, said.subject_kind, said.split_unit, said.classes) == (
            "test",
            said_kind,
            unit,
            ("a", "b", "c"),
        )
        assert said.table["sample"].tolist() == first["name"].tolist()
        assert said.table["target"].tolist() == first["label"].tolist()
        assert said.table["subject"].isna().all() == (kind == "unknown")
        if kind != "unknown":
            assert said.table["subject"].tolist() == first["unit"].tolist()
        assert (SUBJECT_OF_VISIT in said.table) == visits
        if visits:
            assert said.table[SUBJECT_OF_VISIT].tolist() == first["subject"].tolist()
        assert about.split(", C = ")[0] == "4 means of pixels" + (" of each subject" if by_subject else "")


def stacks_of_phantoms(folder: Path) -> tuple[Manifest, Split, Store]:
    """Thirty phantom heads of two classes as stacks of slices, in a store."""
    heads = generate(subjects=30, slices=4, classes=2, size=48, seed=4, age_effect=0.0)
    manifest = manifest_of(
        {name: heads.class_names[label] for name, label in zip(heads.subjects, heads.labels, strict=True)}, slices=1
    )
    manifest = replace(manifest, table=manifest.table.assign(**{MEMBERS: [()] * len(manifest)}))
    order = [heads.subjects.index(subject) for subject in manifest.table["subject"]]
    np.save(folder / "pixels.npy", heads.volumes[order][:, None])
    return manifest, split(manifest, SplitConfig(test=0.4), seed=1), Store(folder)


def test_stacks_have_a_baseline_from_the_volumes_of_tissues(tmp_path) -> None:
    manifest, of, store = stacks_of_phantoms(tmp_path)
    answers, _ = made.predict_baselines(manifest, of, store, seed=0)
    about, said = answers["volumes"]
    assert about.startswith("fractions of fluid, gray and white matter")
    assert (said.predicted == said.targets).mean() > 0.7
    assert made.predict_baselines(manifest, of, store, seed=0)[0]["volumes"][1].logits.tolist() == said.logits.tolist()


def test_columns_of_a_table_of_features_are_the_volumes(tmp_path) -> None:
    """As gyrus features writes them; those of other names are not taken for volumes."""
    manifest, of, store = stacks_of_phantoms(tmp_path)
    sick = manifest.table["label"] == manifest.classes[1]
    table = manifest.table.assign(
        csf_fraction=np.where(sick, 0.3, 0.2), intracranial_ml=np.nan, blood_ml=np.where(sick, 1, 0)
    )
    answers, _ = made.predict_baselines(replace(manifest, table=table), of, store, seed=0)
    about, said = answers["volumes"]
    assert about == "1 column of the table"
    assert (said.predicted == said.targets).all()


def test_volumes_of_tissues_are_left_out_where_there_are_none(tmp_path, monkeypatch) -> None:
    manifest, of, store = stacks_of_phantoms(tmp_path)
    np.save(tmp_path / "pixels.npy", np.where(store.pixels > 90, np.uint8(255), np.uint8(0)))
    answers, notes = made.predict_baselines(manifest, of, Store(tmp_path), seed=0)
    assert "volumes" not in answers
    assert any("too few gray values" in note for note in notes)
    monkeypatch.setattr(made, "MOST_MIXTURES", 29)
    answers, notes = made.predict_baselines(manifest, of, store, seed=0)
    assert "volumes" not in answers
    assert any("at most 29 subjects" in note for note in notes)


def test_baselines_from_metadata_name_their_columns_and_know_all_classes(tmp_path) -> None:
    """A class without a training subject has the least score."""
    manifest, of, store = small_study(tmp_path)
    ages = {f"s{number}": 50 + 3 * number for number in range(10)}
    table = manifest.table.assign(Age=manifest.table["subject"].map(ages), SEX=["F", "F", "M", "M"] * 5)
    described = replace(manifest, table=table, classes=("a", "b", "c", "d"))
    answers, notes = made.predict_baselines(described, of, store, seed=0)
    assert notes == ()
    assert answers["metadata"][0] == "Age, SEX"
    for _, said in answers.values():
        assert said.logits.shape == (3, 4)
        assert (said.logits[:, 3] == -100).all()


def test_memory_of_baselines_is_that_of_features_and_a_block() -> None:
    """Doubled: the means are computed from copies."""
    assert made.memory_of_baselines(10, 100) == 2 * 8 * (10 * 100 + 10 * 100)
    assert made.memory_of_baselines(10**6, 10**5) == 2 * 8 * (10**6 * made.MOST_PIXELS + made.BLOCK)


@pytest.mark.parametrize("name", made.PIXEL_BASELINES)
def test_training_rows_that_are_too_many_are_drawn_by_the_seed(monkeypatch, name) -> None:
    random = np.random.default_rng(0)
    subsets = np.array(["train"] * 12 + ["val"] * 3 + ["test"] * 4, dtype=object)
    rows = made.BaselineData(random.normal(size=(19, 2)), np.arange(19) % 2, np.arange(19).astype(object), subsets)
    monkeypatch.setattr(made, "MOST_NEIGHBOURS", 6)
    monkeypatch.setattr(made, "MOST_SVM_ROWS", 6)
    for seed in (1, 2):
        drawn = made._drawn(rows.select("train"), 6, seed)
        kept = np.isin(rows.names, drawn.names) | (subsets != "train")
        assert (drawn.subsets == "train").all()
        expected = made.PIXEL_BASELINES[name](rows.take(kept), seed)
        found = made.PIXEL_BASELINES[name](rows, seed)
        assert found[0] == expected[0]
        np.testing.assert_array_equal(found[1], expected[1])


def test_distances_of_the_nearest_neighbour_have_no_unit() -> None:
    rows = few_rows()
    near = replace(rows, features=rows.features / 1000)
    nearest = made.PIXEL_BASELINES["nearest-neighbour"]
    np.testing.assert_allclose(nearest(near, 0)[1], nearest(rows, 0)[1])


def svm_of(monkeypatch: pytest.MonkeyPatch, right: Sequence[int], rows: made.BaselineData) -> tuple[str, np.ndarray]:
    """The SVM where so many answers on the validation set are right for each C; its scores are the number of C."""

    def scores(_features, _targets, evaluated, *rest) -> list[np.ndarray]:
        strength = rest[-1]
        number = made.C_VALUES.index(strength)
        targets = rows.targets[rows.subsets == "val"]
        answers = np.where(np.arange(len(targets)) < right[number], targets, 2 - targets)
        assert [len(each) for each in evaluated] == [len(targets), 2]
        return [np.eye(3)[answers], np.full((2, 3), number)]

    monkeypatch.setattr(made, "_svm_scores", scores)
    return made.PIXEL_BASELINES["linear-svm"](rows, 0)


def test_of_equally_good_constants_the_smallest_is_chosen(monkeypatch) -> None:
    """A later one is chosen only if it is better than the best."""
    rows = few_rows()
    longer = made.BaselineData(
        np.concatenate([rows.features[:6], np.zeros((3, 2)), rows.features[6:]]),
        np.concatenate([rows.targets[:6], [0, 2, 2], rows.targets[6:]]),
        np.arange(11).astype(object),
        np.array(["train"] * 4 + ["val"] * 5 + ["test"] * 2, dtype=object),
    )
    for right, chosen in (([3, 3, 3, 3, 3, 3], 0), ([1, 5, 3, 4, 5, 2], 1), ([0, 0, 0, 0, 0, 1], 5)):
        about, scores = svm_of(monkeypatch, right, longer)
        assert about == f", C = {made.C_VALUES[chosen]:g} chosen on the validation set"
        assert (scores == chosen).all()


def test_scores_of_the_svm_are_those_of_its_classes_and_the_same_for_a_seed() -> None:
    random = np.random.default_rng(0)
    centres = np.array([[0, 0, 9], [9, 0, 0], [0, 9, 0]])
    targets = np.tile([0, 1, 3], 8)
    features = np.repeat(centres[None], 8, axis=0).reshape(24, 3) + random.normal(size=(24, 3))
    (scores,) = made._svm_scores(features, targets, [features], 0, 5, 1e-2)
    assert scores.shape == (24, 5)
    assert scores.argmax(axis=1).tolist() == targets.tolist()
    assert (scores[:, [2, 4]] == -100).all()
    wide, two = random.normal(size=(30, 60)), np.tile([0, 1], 15)
    state = np.random.get_state()
    try:
        found = []
        for number in (1, 2):
            np.random.seed(number)  # what an SVM without a seed would use
            found.append(made._svm_scores(wide, two, [wide], 7, 2, 1e-2)[0])
    finally:
        np.random.set_state(state)
    np.testing.assert_array_equal(*found)
    np.testing.assert_array_equal(found[0][:, 0], -found[0][:, 1])


def metadata_rows() -> tuple[np.ndarray, made.BaselineData]:
    """Targets, and rows of two classes, 24 of training and 8 of test."""
    targets = np.tile([0, 1], 16)
    subsets = np.array(["train"] * 24 + ["test"] * 8, dtype=object)
    return targets, made.BaselineData(np.zeros((32, 1)), targets, np.arange(32).astype(object), subsets)


def test_numbers_of_metadata_are_compared_whatever_their_unit_and_whether_seen_or_not() -> None:
    targets, rows = metadata_rows()
    age = pd.Series(60.0 + 10 * targets + np.arange(32) / 8)
    logits = made._from_metadata(pd.DataFrame({"age": age}), rows)
    assert (logits.argmax(axis=1) == targets[24:]).all()
    assert len(np.unique(logits)) == 16  # each age has its own, though none was seen in training
    np.testing.assert_allclose(made._from_metadata(pd.DataFrame({"age": 1000 * age}), rows), logits, rtol=1e-3)


def test_a_column_is_of_numbers_if_at_least_half_of_it_are() -> None:
    targets, rows = metadata_rows()
    words = np.where(targets == 1, "b", "a").astype(object)
    for numeric, number in ((True, 16), (False, 15)):
        # The words tell the class, the numbers nothing; so the class is known only from names.
        mixed = pd.Series(words).mask(np.arange(32) % 4 < 2 if number == 16 else np.arange(32) % 32 < 15, "7")
        logits = made._from_metadata(pd.DataFrame({"site": mixed}), rows)
        told = mixed[24:].to_numpy() != "7"
        assert (logits.argmax(axis=1) == targets[24:])[told].all() != numeric


def test_a_column_that_training_lacks_changes_nothing() -> None:
    targets, rows = metadata_rows()
    age = 60.0 + 10 * targets + np.arange(32) / 8
    education = np.where(rows.subsets == "train", np.nan, 12.0)
    with_it = made._from_metadata(pd.DataFrame({"age": age, "education": education}), rows)
    np.testing.assert_allclose(with_it, made._from_metadata(pd.DataFrame({"age": age}), rows))


def predicted(names: Sequence[str], seed: int, unit: str = "subject", subset: str = "test", known: bool = True):
    """Predictions of two classes by subject, right in about three of four."""
    random = np.random.default_rng(seed)
    targets = np.arange(len(names)) % 2
    answers = np.where(random.random(len(names)) < 0.75, targets, 1 - targets)
    subjects = names if known else [None] * len(names)
    return Predictions.from_logits(
        names,
        np.eye(2)[answers] * 2 + random.random((len(names), 2)),
        classes=["a", "b"],
        split_unit=unit,
        subset=subset,
        subjects=subjects,
        targets=["ab"[target] for target in targets],
    )


NAMES = [f"s{number:02d}" for number in range(16)]
SETTINGS = EvaluationConfig(resamples=40, level=0.8)


def run_with_baselines(folder: Path, seed: int, names: Sequence[str] = NAMES, about: str = "6 means, C = 1") -> Run:
    """A run folder with saved predictions of two baselines."""
    run = Run(folder)
    saved = {"linear-svm": (about, predicted(names, seed)), "metadata": ("age", predicted(names, seed + 1))}
    made.save_baseline_predictions(run, saved, ("No baseline from X.",))
    return run


class Comparison:
    """Keeps what is compared, instead of comparing it."""

    def __call__(
        self,
        test: Predictions,
        answers: Mapping[str, tuple[str, Predictions]],
        *,
        unit: str,
        notes: tuple[str, ...] = (),
        resamples: int = 2000,
        seed: int = 0,
        level: float = 0.95,
    ) -> Baselines:
        self.test, self.answers, self.given = test, answers, (unit, notes, resamples, seed, level)
        return Baselines(unit, {}, notes)

    def was_with(self, **expected: tuple[str, Predictions]) -> None:
        """Check the baselines, given by name with _ for -."""
        assert list(self.answers) == [name.replace("_", "-") for name in expected]
        for (about, said), (other_about, other) in zip(self.answers.values(), expected.values(), strict=True):
            assert about == other_about
            pd.testing.assert_frame_equal(said.table, other.table)


@pytest.fixture
def comparison(monkeypatch) -> Comparison:
    kept = Comparison()
    monkeypatch.setattr(made, "evaluate_baselines", kept)
    return kept


def test_baselines_of_a_run_are_compared_again_from_their_files(tmp_path, comparison) -> None:
    run, test = run_with_baselines(tmp_path / "run", 1), predicted(NAMES, 0)
    found = made.evaluate_run_baselines(run, test, SETTINGS, seed=3)
    assert comparison.test is test
    assert comparison.given == ("subject", ("No baseline from X.",), 40, 3, 0.8)
    comparison.was_with(linear_svm=("6 means, C = 1", predicted(NAMES, 1)), metadata=("age", predicted(NAMES, 2)))
    assert found == Baselines.load(run.baselines)
    files = {path.name for path in (tmp_path / "run" / "predictions").iterdir()}
    assert files == {"baselines.json", "baseline-linear-svm.parquet", "baseline-metadata.parquet"}
    assert made.evaluate_run_baselines(Run(tmp_path / "other"), test, SETTINGS, seed=3) is None
    assert not (tmp_path / "other").exists()
    (tmp_path / "run" / "predictions" / "baselines.json").write_text('{"about": 1}')
    with pytest.raises(DataError, match=r"baselines\.json.*a list of baselines"):
        made.evaluate_run_baselines(run, test, SETTINGS, seed=3)


@pytest.mark.parametrize(
    ("unit", "known", "scored"),
    [("subject", True, "subject"), ("image", True, "image"), ("scan", False, "image"), ("image", False, "image")],
)
@pytest.mark.usefixtures("comparison")
def test_baselines_are_scored_by_image_after_a_split_by_image_or_without_subjects(unit, known, scored) -> None:
    said = {"metadata": ("age", predicted(NAMES, 1, unit, known=known))}
    assert made._compare(predicted(NAMES, 0, unit, known=known), said, (), SETTINGS, 0).unit == scored


@pytest.mark.parametrize("status", ["finished", "started", None])
def test_a_network_with_shuffled_labels_is_a_baseline_once_it_has_finished(tmp_path, comparison, status) -> None:
    run = run_with_baselines(tmp_path / "run", 1)
    shuffled = Run(run.shuffled)
    predicted(NAMES, 5).save(shuffled.predictions("test"))
    if status:
        shuffled.mark(status)
    made.evaluate_run_baselines(run, predicted(NAMES, 0), SETTINGS, seed=3)
    others = {"shuffled_labels": ("", predicted(NAMES, 5))} if status == "finished" else {}
    comparison.was_with(
        linear_svm=("6 means, C = 1", predicted(NAMES, 1)), metadata=("age", predicted(NAMES, 2)), **others
    )


def test_baselines_of_folds_are_joined_where_all_have_them(tmp_path, comparison) -> None:
    parts = NAMES[:8], NAMES[8:]
    runs = [run_with_baselines(tmp_path / str(fold), fold, parts[fold], f"6 means, C = {fold}") for fold in range(2)]
    second = {
        "linear-svm": ("6 means, C = 1", predicted(parts[1], 1)),
        "nearest-neighbour": ("6 means", predicted(parts[1], 2)),
    }
    made.save_baseline_predictions(runs[1], second, ("No baseline from X.", "Nor from Y."))
    tested, folder = predicted(NAMES, 0), Run(tmp_path / "all")
    found = made.evaluate_fold_baselines(runs, folder, tested, SETTINGS, seed=3)
    joined = join_folds([predicted(parts[fold], fold) for fold in range(2)])
    assert comparison.test is tested
    assert comparison.given == ("subject", ("No baseline from X.", "Nor from Y."), 40, 3, 0.8)
    comparison.was_with(linear_svm=("6 means, the rest chosen in each fold", joined))
    assert found == Baselines.load(folder.baselines)
    assert made.evaluate_run_baselines(folder, tested, SETTINGS, seed=3) == found
    nothing = Run(tmp_path / "nothing")
    assert made.evaluate_fold_baselines([*runs, Run(tmp_path / "no run")], nothing, tested, SETTINGS, seed=3) is None
    assert not nothing.folder.exists()


@pytest.mark.parametrize(
    ("abouts", "shared"),
    [
        (["age, sex", "age, sex"], "age, sex"),
        (["6 means, C = 1", "6 means, C = 2", "6 means, C = 1"], "6 means, the rest chosen in each fold"),
        (["6, 7, C = 1", "6, 7, C = 2"], "6, 7, the rest chosen in each fold"),
        (["6 means, C = 1", "5 means, C = 1"], "chosen in each fold"),
    ],
)
def test_what_a_fold_chose_by_itself_is_not_described(abouts, shared) -> None:
    assert made._common_description(abouts) == shared


@pytest.mark.parametrize(
    ("kind", "unit", "visits"),
    [
        ("subject", "subject", False),
        ("scan", "scan", False),
        ("subject", "image", False),
        ("unknown", "scan", False),
        ("subject", "subject", True),
        ("subject", "image", True),
    ],
)
def test_labels_are_shuffled_among_what_was_kept_together(tmp_path, kind, unit, visits) -> None:
    """By hand: units in the order of their subjects get the labels of those of the drawn subjects."""
    manifest, of, _ = small_study(tmp_path, kind, unit, visits, slices=8)
    table = manifest.table.drop(index=[8, 9])  # one subject has fewer images
    table = table.sample(frac=1, random_state=0).reset_index(drop=True)
    manifest = replace(manifest, table=table)
    shuffled, divided = made.shuffle_labels(manifest, of, seed=4)
    assert divided == replace(of, manifest_digest=shuffled.digest)
    together = unit != "image" and kind != "unknown"
    for number, subset in enumerate(("train", "val", "test")):
        inside = table["sample"].isin(of.samples[subset])
        before = table[inside].sort_values("sample")
        after = shuffled.table[inside].sort_values("sample")
        owner = before["subject"] if together else before["sample"]
        units = before["sample"] if visits or not together else before["subject"]
        frame = pd.DataFrame({"owner": owner, "unit": units, "before": before["label"], "after": after["label"]})
        frame = frame.groupby("unit").first().sort_values("owner", kind="stable")
        owners = sorted(frame["owner"].unique())
        taken = np.random.default_rng((4, number)).permutation(len(owners))
        order = owners if subset == "test" else [owners[place] for place in taken]
        dealt = [label for name in order for label in frame["before"][frame["owner"] == name]]
        assert frame["after"].tolist() == dealt
        if together and not visits:
            assert after.groupby("subject")["label"].nunique().max() == 1
