"""The whole command on a small phantom, with two candidates that are fitted in an instant."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import gyrus
from gyrus.auto import trainings
from gyrus.auto.result import Choices
from gyrus.auto.trainings import assign_folds
from gyrus.datasets.manifest import Manifest
from gyrus.errors import ConfigError, RunError, SplitError
from gyrus.inference.predictions import Predictions
from gyrus.synthetic.phantom import generate
from gyrus.synthetic.phantom_layouts import write
from gyrus.workflows.ensemble import EnsembleMembers

QUICK = {
    "preprocessing.steps.1.size": [16, 16],
    "evaluation.resamples": 50,
    "linear-voxels.model.options": {"features": ["voxels"], "cells": 60, "C": 1e-3},
    "svm-voxels.model.options": {"features": ["voxels"], "cells": 60, "C": 1e-3},
}
OPTIONS = {"candidates": ("linear-voxels", "svm-voxels"), "folds": 3, "overrides": QUICK, "minutes": 20}


class Messages:
    """A display that keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.say = self.said.append
        self.progress = gyrus.SILENT.progress


@pytest.fixture(scope="module")
def finished(phantom_folder: Path, tmp_path_factory: pytest.TempPathFactory):
    """A call that was interrupted in its sixth training, and continued: the result, and what was trained and said."""
    out = tmp_path_factory.mktemp("auto") / "heads"
    trained: list[str] = []
    train = trainings.train_on_split

    def interrupted(*args, out: Path, **more):
        if len(trained) == 5:
            raise KeyboardInterrupt
        trained.append(f"{out.parent.name}/{out.name}")
        return train(*args, out=out, **more)

    def counted(*args, out: Path, **more):
        trained.append(f"{out.parent.name}/{out.name}")
        return train(*args, out=out, **more)

    messages = Messages()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainings, "train_on_split", interrupted)
        with pytest.raises(KeyboardInterrupt):
            gyrus.auto(phantom_folder, out=out, display=messages, **OPTIONS)
        assert (out / "classifier" / "ensemble.json").is_file()  # it can be used already
        patch.setattr(trainings, "train_on_split", counted)
        result = gyrus.auto(phantom_folder, out=out, display=messages, **OPTIONS)
    return result, trained, messages.said


def test_each_piece_is_trained_once_and_an_interrupted_call_continues(finished):
    result, trained, said = finished
    pieces = [f"without-{piece}" for piece in ("0", "1", "2", "0-1", "0-2", "1-2")]
    assert sorted(trained) == sorted(f"{name}/{piece}" for name in OPTIONS["candidates"] for piece in pieces)
    assert any("a first classifier can be used: linear-voxels" in line for line in said)
    assert any(line.startswith("Continuing in") for line in said)
    sheet = json.loads((result.folder / "time.json").read_text())
    assert 0 < sheet["first"] < result.spent
    assert sheet["closing"] > 0
    assert sum("linear-voxels by cross-validation: " in line and "the best baseline" in line for line in said) == 1


def test_the_score_is_of_subjects_that_no_choice_saw(finished):
    result, _, _ = finished
    table = Predictions.load(result.folder / "predictions" / "test.parquet").table
    assert len(table) == 24 == result.evaluation.headline.count
    assert result.choices.scored == "nested"
    assert set(result.choices.outer) == {"0", "1", "2"}
    manifest = Manifest.load(result.folder / "manifest.parquet")
    settings = result.plan.used[0].settings
    fold_of = assign_folds(manifest, settings.split.model_copy(update={"folds": 3}), seed=0, given=False)
    for outer, selection in result.choices.outer.items():
        inside = sum(fold != int(outer) for fold in fold_of.values())
        assert selection.rounds[-1].subjects == inside
    for run in (result.folder / "candidates").glob("*/without-*"):
        left_out = set(map(int, run.name.split("-")[1:]))
        split = json.loads((run / "split.json").read_text())
        assert {fold_of[name] for name in split["subjects"]["test"]} == left_out
        assert not {fold_of[name] for name in split["subjects"]["train"] + split["subjects"]["val"]} & left_out


def test_the_classifier_predicts_new_images(finished, phantom_folder):
    result, _, _ = finished
    about = EnsembleMembers.load(result.classifier / "ensemble.json")
    assert len(about.members) == 3
    assert sum(about.weights) == pytest.approx(1)
    predictions = gyrus.predict(result.classifier, [phantom_folder])
    assert set(predictions.classes) == set(result.evaluation.classes)


def test_the_classifier_is_validated_on_a_cohort(finished, tmp_path, monkeypatch):
    result, _, _ = finished
    monkeypatch.setattr("gyrus.reporting.external_report.report_external", lambda *_: None)
    cohort = write(generate(subjects=8, slices=4, classes=2, size=32, seed=5), tmp_path / "cohort")
    found = gyrus.external_validation(result.classifier, cohort, out=tmp_path / "test", same_ids="keep", resamples=20)
    assert found.internal.headline.count == 24
    assert found.external.headline.count == 8


def test_the_page_and_the_files_say_what_was_done(finished):
    result, _, _ = finished
    page = result.report.read_text(encoding="utf-8")
    for text in ("winner", "svm-voxels", "not named", "gyrus predict", "Outer folds", result.sentences()[0][:40]):
        assert text in page
    assert "best baseline" in result.sentences()[0]
    assert "difference" in result.sentences()[0]
    assert (result.folder / "fingerprint.json").is_file()
    again = gyrus.load_config(result.folder / "configs" / "svm-voxels.yaml")
    assert again.model.name == "linear-svm"
    assert again.model.options["cells"] == 60


def test_labels_of_an_outer_fold_never_influence_its_choice(finished, phantom_folder, tmp_path):
    """The labels of the subjects of fold 0 are exchanged in the answers of all trainings; their score falls."""
    result, _, _ = finished
    out = tmp_path / "heads"
    shutil.copytree(result.folder, out)
    manifest = Manifest.load(out / "manifest.parquet")
    split = result.plan.used[0].settings.split.model_copy(update={"folds": 3})
    fold_of = assign_folds(manifest, split, seed=0, given=False)
    names = dict(zip(result.evaluation.classes, reversed(result.evaluation.classes), strict=True))
    answers = (out / "candidates").glob("*/without-*/predictions/test.parquet")
    for path in [*answers, *(out / "baselines").glob("*/predictions/*.parquet")]:
        found = Predictions.load(path)
        inside = found.table["subject"].map(fold_of) == 0
        target = found.table["target"].where(~inside, found.table["target"].map(names))
        about = {"classes": found.classes, "split_unit": found.split_unit, "subset": found.subset}
        Predictions.from_table(found.table.assign(target=target), **about).save(path)
    again = gyrus.auto(
        phantom_folder,
        out=out,
        **OPTIONS,
    )
    assert again.choices.outer["0"] == result.choices.outer["0"]
    assert again.choices.final.scores != result.choices.final.scores
    assert again.evaluation.headline.metrics["accuracy"] != result.evaluation.headline.metrics["accuracy"]


def test_other_options_are_refused(finished, phantom_folder, tmp_path):
    result, _, _ = finished
    with pytest.raises(RunError, match="other data or options"):
        gyrus.auto(phantom_folder, out=result.folder, **{**OPTIONS, "folds": 4})
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="Give a new folder"):
        gyrus.auto(phantom_folder, out=tmp_path, **OPTIONS)


def test_what_auto_cannot_do_is_refused_in_words(phantom_folder, tmp_path):
    with pytest.raises(ConfigError, match="gyrus crossval --target age"):
        gyrus.auto(phantom_folder, out=tmp_path / "out", overrides={"data.target": "age"})
    with pytest.raises(SplitError, match="--subjects inferred"):
        gyrus.auto(phantom_folder, out=tmp_path / "out", overrides={"data.subject_rule": "none"})
    with pytest.raises(ConfigError, match="leave-one-group-out is not possible"):
        gyrus.auto(phantom_folder, out=tmp_path / "out", overrides={"split.method": "leave-one-group-out"})
    assert not (tmp_path / "out").exists()


def test_choices_are_saved(finished):
    result, _, _ = finished
    assert Choices.load(result.folder / "selection.json") == result.choices
