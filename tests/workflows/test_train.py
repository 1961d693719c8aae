from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from gyrus.configuration import write_document
from gyrus.datasets.manifest import Manifest
from gyrus.datasets.splits import Split
from gyrus.errors import BadFilesError, ConfigError, DataError, LeakageError, RunError, SplitError
from gyrus.evaluation.result import Evaluation
from gyrus.inference.predictions import Predictions
from gyrus.runs.run_folder import Run
from gyrus.synthetic.phantom import generate
from gyrus.synthetic.phantom_layouts import write
from gyrus.types import SPLIT_WARNINGS
from gyrus.workflows.experiment_config import ExperimentConfig, load_config
from gyrus.workflows.train import finish_run, resume, train
from tests.conftest import SMALL


def test_the_files_of_a_run_agree(finished_run):
    run = Run.open(finished_run)
    manifest, split = Manifest.load(run.manifest), Split.load(run.split)
    assert split.manifest_digest == manifest.digest
    assert not set(split.subjects["train"]) & set(split.subjects["test"])
    predictions = Predictions.load(run.predictions("test"))
    assert set(predictions.table["sample"]) == set(split.samples["test"])
    assert predictions.classes == manifest.classes == ("Control", "Dementia")
    evaluation = Evaluation.load(run.metrics)
    assert evaluation.headline.count == len(split.subjects["test"])
    assert load_config(run.config) == load_config(
        "dementia-baseline", {**SMALL, "data.path": load_config(run.config).data.path}
    )
    history = pd.read_csv(run.history)
    assert history["epoch"].tolist() == [1, 2]
    assert run.classification_report.read_text().strip()
    assert "<html" in run.report.read_text()


def test_report_shows_examples_and_the_map(finished_run):
    page = Run.open(finished_run).report.read_text()
    assert "Most confident correct and wrong predictions" in page
    assert "Feature space of the network" in page


def test_scores_are_those_of_scikit_learn_on_the_saved_predictions(finished_run):
    from sklearn.metrics import balanced_accuracy_score, roc_auc_score

    run = Run.open(finished_run)
    predictions, evaluation = Predictions.load(run.predictions("test")), Evaluation.load(run.metrics)
    by_image = evaluation.scores["image"].metrics
    targets = predictions.targets
    expected = balanced_accuracy_score(targets, predictions.probabilities.argmax(axis=1))
    assert by_image["balanced_accuracy"].value == pytest.approx(expected, abs=1e-12)
    auc = roc_auc_score(targets, predictions.probabilities[:, 1])
    assert by_image["macro_roc_auc"].value == pytest.approx(auc, abs=1e-12)


def test_same_seed_same_weights_another_seed_others(finished_run, phantom_folder, tmp_path):
    again = train("dementia-baseline", data=phantom_folder, out=tmp_path / "again", overrides=SMALL)
    other = train("dementia-baseline", data=phantom_folder, out=tmp_path / "other", overrides={**SMALL, "seed": 1})
    first = load_file(Run.open(finished_run).weights)
    for name, value in load_file(again.weights).items():
        np.testing.assert_array_equal(value, first[name])
    assert any((value != first[name]).any() for name, value in load_file(other.weights).items())
    assert Split.load(other.split).subjects != Split.load(again.split).subjects


@pytest.fixture
def copied_test_images(tmp_path) -> Path:
    """A phantom with a given test set, of which the training set has one image per subject as well."""
    folder = write(
        generate(subjects=24, slices=4, classes=2, size=32, seed=0), tmp_path / "copies", layout="train-test"
    )
    for image in sorted((folder / "test").rglob("*slice-00.png")):
        shutil.copy(image, folder / "train" / image.parent.name / f"copy-{image.name}")
    return folder


@pytest.mark.parametrize("unit", ["image", "copy"])
def test_a_split_that_leaks_is_named_in_every_result(phantom_folder, copied_test_images, tmp_path, unit):
    overrides = {**SMALL, "split.unit": "image", "training.epochs": 1}
    overrides |= {"split.on_duplicates": "keep", "data.subject_rule": "none"} if unit == "copy" else {}
    data = copied_test_images if unit == "copy" else phantom_folder
    run = train("dementia-baseline", data=data, out=tmp_path / "run", overrides=overrides)
    words = SPLIT_WARNINGS[unit]
    for path in (run.classification_report, run.report, run.metrics, run.split, run.card):
        assert words in path.read_text()
    for path in (run.predictions("val"), run.predictions("test")):
        assert Predictions.load(path).warning == words
    assert json.loads(run.model.read_text())["split_unit"] == unit


def test_copies_of_test_images_in_the_training_set_stop_the_run(copied_test_images, tmp_path):
    overrides = {**SMALL, "split.unit": "image", "data.subject_rule": "none"}
    with pytest.raises(LeakageError, match=r"(?s)6 of 24 images of the test set are copies.*--on-duplicates drop"):
        train("dementia-baseline", data=copied_test_images, out=tmp_path / "run", overrides=overrides)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("overrides", "error", "words"),
    [
        ({"training.epoch": 3, "modle.name": "x"}, ConfigError, "Did you mean 'epochs'"),
        ({"model.name": "baseline-cn"}, ConfigError, "baseline-cnn"),
        ({"data.path": "/nowhere/at/all"}, DataError, "/nowhere/at/all"),
        ({"split.method": "given"}, SplitError, "for every sample"),
        ({"data.subject_rule": "none"}, SplitError, "--split-unit image"),
    ],
)
def test_a_mistake_is_reported_before_anything_is_written(phantom_folder, tmp_path, overrides, error, words):
    config = load_config("dementia-baseline").model_dump(mode="json")
    config["data"]["path"] = str(phantom_folder)
    with pytest.raises(error, match=words):
        train(ExperimentConfig.model_validate(config), out=tmp_path / "run", overrides=overrides)
    assert not (tmp_path / "run").exists()


def test_bad_files_stop_the_run_unless_they_are_to_be_skipped(phantom_folder, tmp_path):
    data = shutil.copytree(phantom_folder, tmp_path / "data")
    victim = sorted(data.rglob("*.png"))[0]
    victim.write_bytes(victim.read_bytes()[:100])
    with pytest.raises(BadFilesError) as caught:
        train("dementia-baseline", data=data, out=tmp_path / "run", overrides=SMALL)
    assert victim.name in caught.value.report[0]
    overrides = {**SMALL, "data.on_bad_file": "skip", "training.epochs": 1}
    run = train("dementia-baseline", data=data, out=tmp_path / "run", overrides=overrides)
    assert len(Manifest.load(run.manifest)) == 95


INTERRUPTED = """
    import json, os, signal, sys
    from gyrus.workflows.train import train
    import gyrus.datasets.torch_dataset as dataset

    data, out, action, overrides = sys.argv[1:]
    fetch, count = dataset.PixelDataset.__getitems__, 0

    def counted(self, positions):
        global count
        count += 1
        if count == 9:  # in the middle of the second epoch
            os.kill(os.getpid(), getattr(signal, action))
        return fetch(self, positions)

    dataset.PixelDataset.__getitems__ = counted
    print(train("dementia-baseline", data=data, out=out, overrides=json.loads(overrides)).status)
"""


@pytest.mark.parametrize("action", ["SIGKILL", "SIGINT"])
def test_a_run_stopped_in_the_middle_resumes_to_the_same_weights(phantom_folder, tmp_path, action):
    overrides = {**SMALL, "training.epochs": 3, "training.batch_size": 16}
    unbroken = train("dementia-baseline", data=phantom_folder, out=tmp_path / "unbroken", overrides=overrides)
    script = [sys.executable, "-c", textwrap.dedent(INTERRUPTED)]
    command = [*script, str(phantom_folder), str(tmp_path / "broken"), action, json.dumps(overrides)]
    environment = os.environ | {"PYTHONWARNINGS": "ignore"}
    process = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, env=environment)
    if action == "SIGKILL":
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.stdout.strip().endswith("interrupted"), process.stderr
        with pytest.raises(RunError, match="--resume"):
            Run.open(tmp_path / "broken")
    run = resume(tmp_path / "broken")
    assert run.status == "finished"
    expected = load_file(unbroken.weights)
    for name, value in load_file(run.weights).items():
        np.testing.assert_array_equal(value, expected[name])
    assert pd.read_csv(run.history)["epoch"].tolist() == [1, 2, 3]
    with pytest.raises(RunError, match="nothing to resume"):
        resume(tmp_path / "broken")


@pytest.fixture
def unfinished(finished_run, tmp_path, monkeypatch) -> Run:
    """A run that was interrupted before its first epoch; resuming it trains nothing."""
    run, done = Run(tmp_path / "unfinished"), Run(finished_run)
    run.folder.mkdir()
    for path in (done.config, done.manifest, done.split):
        shutil.copy(path, run.folder)
    run.mark("interrupted", settings=done.facts["settings"])
    monkeypatch.setattr("gyrus.workflows.train._train_with_logs", lambda run, *_: run)
    return run


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("augmentation.clamp", False),
        ("preprocessing.steps.1.size", [16, 16]),
        ("split.val", 0.3),
        ("data.merge", {"both": ["Control", "Dementia"]}),
        ("model.head.name", "mlp"),
        ("training.batch_size", 3),
        ("seed", 5),
    ],
)
def test_a_run_is_not_resumed_with_another_config(unfinished, field, value):
    before = load_config(unfinished.config)
    write_document(unfinished.config, load_config(before, {field: value}))
    with pytest.raises(RunError, match=rf"started with other settings \(config.yaml\): {field.partition('.')[0]}"):
        resume(unfinished.folder)
    write_document(unfinished.config, load_config(before, {"training.workers": 1, "evaluation.level": 0.9}))
    assert resume(unfinished.folder).folder == unfinished.folder


def test_a_run_that_states_what_is_automatic_now_is_resumed(unfinished):
    """As runs do that were started before the defaults of precision and determinism were ``auto``."""
    settings = dict(unfinished.facts["settings"])
    settings["training"] = {**settings["training"], "precision": "32-true", "deterministic": True}
    unfinished.mark("interrupted", settings=settings)
    assert load_config(unfinished.config).training.precision == "auto"
    assert resume(unfinished.folder).folder == unfinished.folder
    write_document(unfinished.config, load_config(unfinished.config, {"training.precision": "bf16-mixed"}))
    with pytest.raises(RunError, match=r"training\.precision was '32-true', is 'bf16-mixed'"):
        resume(unfinished.folder)


def test_runs_of_a_group_are_not_continued_with_another_config(unfinished):
    settings = load_config(unfinished.config)
    unfinished.mark("finished")
    assert finish_run(unfinished.folder, pytest.fail, settings=settings).status == "finished"
    with pytest.raises(RunError, match=r"training.epochs was 2, is 9"):
        finish_run(unfinished.folder, pytest.fail, settings=load_config(settings, {"training.epochs": 9}))


def test_a_run_is_resumed_where_its_data_have_moved_to(unfinished, phantom_folder, tmp_path):
    moved = shutil.copytree(phantom_folder, tmp_path / "moved")
    resume(unfinished.folder, data=moved)
    assert Manifest.load(unfinished.manifest).root == moved
    assert load_config(unfinished.config).data.path == str(moved)
    next(moved.rglob("*.png")).unlink()
    other = moved.rename(tmp_path / "other")
    with pytest.raises(DataError, match=r"of \d+ images, 1 are missing or differ"):
        resume(unfinished.folder, data=other)
    assert Manifest.load(unfinished.manifest).root == moved


def test_a_run_killed_before_its_split_was_written_resumes(finished_run, tmp_path):
    run = Run.create(tmp_path / "run")
    shutil.copy(Run(finished_run).config, run.config)
    resume(run.folder)
    assert Split.load(run.split) == Split.load(Run(finished_run).split)
    for name, value in load_file(run.weights).items():
        np.testing.assert_array_equal(value, load_file(Run(finished_run).weights)[name])


SCRIPT = """
    import json, multiprocessing, sys
    from gyrus import train

    def main():
        data, out, overrides = sys.argv[1:]
        print(train("dementia-baseline", data=data, out=out, overrides=json.loads(overrides)).status)

    multiprocessing.set_start_method("spawn", force=True)  # the default on macOS and Windows
    {call}
"""


@pytest.mark.parametrize(
    ("call", "words"),
    [
        pytest.param("main()", "`if __name__ == ", id="without main guard"),
        pytest.param("if __name__ == '__main__':\n        main()", "", id="with main guard", marks=pytest.mark.slow),
    ],
)
def test_a_script_with_worker_processes_needs_a_main_guard(phantom_folder, tmp_path, call, words):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT).format(call=textwrap.dedent(f"    {call}")))
    few = {"training.epochs": 1, "training.workers": 1, "evaluation.baselines": False, "evaluation.resamples": 0}
    command = [sys.executable, script, str(phantom_folder), str(tmp_path / "run"), json.dumps({**SMALL, **few})]
    environment = os.environ | {"PYTHONWARNINGS": "ignore"}
    process = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, env=environment)
    if words:
        assert process.returncode != 0
        assert words in process.stderr
        assert "script.py has no main guard" in process.stderr
    else:
        assert process.stdout.strip().endswith("finished"), process.stderr


def test_a_training_that_fails_is_marked_and_can_be_resumed(phantom_folder, tmp_path, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise DataError("something is wrong")

    with monkeypatch.context() as patch:
        patch.setattr("gyrus.workflows.train._train", fail)
        with pytest.raises(DataError, match="something"):
            train("dementia-baseline", data=phantom_folder, out=tmp_path / "run", overrides=SMALL)
    assert Run(tmp_path / "run").status == "failed"

    monkeypatch.setattr("gyrus.workflows.train._train", lambda run, *_: run.mark("finished"))
    assert resume(tmp_path / "run").status == "finished"
