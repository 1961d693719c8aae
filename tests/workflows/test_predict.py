"""Prediction of new images from a run folder."""

from __future__ import annotations

import shutil
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from gyrus.datasets.store import Store, open_store
from gyrus.errors import ConfigError, DataError
from gyrus.inference.predictions import Predictions
from gyrus.inference.unlike_training import UnlikeTraining
from gyrus.runs.run_folder import Run
from gyrus.workflows import predict as workflow
from gyrus.workflows.display import SILENT
from gyrus.workflows.experiment_config import DataConfig
from gyrus.workflows.predict import Predictor, predict
from tests.support.heads import nifti, noise


def test_prediction_needs_only_the_run_and_gives_the_same_predictions(finished_run, phantom_folder, tmp_path):
    run = shutil.copytree(finished_run, tmp_path / "elsewhere")
    images = shutil.copytree(phantom_folder, tmp_path / "moved")
    known = Predictions.load(Run(run).predictions("test"))
    paths = [images / sample for sample in known.table["sample"]]
    answers = predict(run, paths)
    assert answers.table["sample"].tolist() == [str(path) for path in paths]
    np.testing.assert_allclose(answers.logits, known.logits, atol=1e-5)
    folder = predict(run, [images]).table.set_index("sample")
    assert len(folder) == 96
    np.testing.assert_allclose(
        folder.loc[answers.table["sample"], "logit:Dementia"], answers.table["logit:Dementia"], atol=1e-5
    )


def test_a_predictor_is_loaded_once_and_reads_images_in_parts(finished_run, phantom_folder, monkeypatch):
    images = sorted(phantom_folder.rglob("*.png"))[:7]
    together = predict(finished_run, images, engine="torch")
    assert together.engines == ("PyTorch",)

    monkeypatch.setattr(workflow, "IMAGES_AT_ONCE", 3)
    opened = []

    def record(*arguments: Any, **options: Any) -> Store:
        opened.append(open_store(*arguments, **options))
        return opened[-1]

    monkeypatch.setattr(workflow, "open_store", record)
    predictor = Predictor([finished_run], engine="torch", tta=1)
    plain = Predictor(finished_run, engine="torch")
    assert predictor.engines == ()
    monkeypatch.setattr(workflow, "TrainedClassifier", None)
    folder = predictor.predict([phantom_folder])
    assert len(opened) == 96 / 3
    assert not any(store.folder.exists() for store in opened)
    np.testing.assert_allclose(
        predictor.predict(images).logits,
        folder.table.set_index("sample").loc[list(map(str, images))].filter(like="logit:"),
        atol=1e-5,
    )
    np.testing.assert_allclose(plain.predict(images).logits, together.logits, atol=1e-5)


def test_images_of_another_size_than_those_before_are_refused(finished_run, tmp_path, monkeypatch):
    for name, side in (("a", 32), ("b", 40)):
        pixels = np.random.default_rng(0).integers(0, 256, (side, side), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    monkeypatch.setattr(workflow, "IMAGES_AT_ONCE", 1)
    predictor = Predictor(finished_run)
    settings = predictor._members[0].classifier.settings
    monkeypatch.setitem(vars(settings.preprocessing), "steps", settings.preprocessing.steps[:1])  # no resize
    with pytest.raises(DataError, match=r"b\.png has shape \[1, 40, 40\] .* images before it have \[1, 32, 32\]"):
        predictor.predict([tmp_path])


def test_prediction_takes_images_of_another_size_and_colour(finished_run, tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)).save(tmp_path / "new.jpg")
    answers = predict(finished_run, [tmp_path / "new.jpg"])
    assert answers.probabilities.sum() == pytest.approx(1)


def test_prediction_of_nothing_or_of_a_bad_file_is_refused(finished_run, tmp_path):
    with pytest.raises(DataError, match="Nothing to predict"):
        predict(finished_run, [])
    (tmp_path / "bad.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"bad\.png"):
        predict(finished_run, [tmp_path / "bad.png"])


def test_the_table_is_written_or_its_suffix_is_refused(finished_run, phantom_folder, tmp_path):
    image = sorted(phantom_folder.rglob("*.png"))[0]
    predictions = predict(finished_run, [image], out=tmp_path / "new.csv")
    assert pd.read_csv(tmp_path / "new.csv")["predicted"].tolist() == predictions.predicted_classes.tolist()
    with pytest.raises(ConfigError, match=r"--out must end in \.csv, \.parquet, \.json"):
        predict(finished_run, [image], out=tmp_path / "new.xlsx")


def test_what_is_skipped_stands_in_a_second_table(finished_run, phantom_folder, tmp_path):
    good = sorted(phantom_folder.rglob("*.png"))[:2]
    (tmp_path / "bad.png").write_bytes(b"")
    nifti(noise(), tmp_path / "head.nii.gz", np.eye(4))
    skip = DataConfig(on_bad_file="skip")

    found = predict(
        finished_run,
        [good[0], tmp_path / "bad.png", tmp_path / "head.nii.gz", good[1]],
        out=tmp_path / "new.csv",
        data=skip,
    )

    assert found.table["sample"].tolist() == list(map(str, good))
    skipped = pd.read_csv(tmp_path / "new-skipped.csv")
    assert skipped["sample"].tolist() == [str(tmp_path / "bad.png"), str(tmp_path / "head.nii.gz")]
    assert skipped["kind"].tolist() == ["empty", "dimensions"]
    assert "2D images" in skipped["reason"][1]
    predict(finished_run, good, out=tmp_path / "new.csv", data=skip)
    assert not (tmp_path / "new-skipped.csv").exists()
    with pytest.raises(DataError, match=r"bad\.png"):
        predict(finished_run, [tmp_path / "bad.png"], out=tmp_path / "none.csv", data=skip)
    with pytest.raises(DataError, match="it is a volume, and this run classifies 2D images"):
        predict(finished_run, [tmp_path / "head.nii.gz"])
    assert not (tmp_path / "none.csv").exists()


def test_predictions_carry_a_p_value_of_being_like_the_training_data(finished_run, phantom_folder, tmp_path):
    said: list[str] = []
    shown = SimpleNamespace(say=said.append, progress=SILENT.progress)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(tmp_path / "noise.png")
    predictions = predict(finished_run, [tmp_path / "noise.png"], out=tmp_path / "new.csv", display=shown)
    table = pd.read_csv(tmp_path / "new.csv")
    smallest = 1 / (UnlikeTraining.load(Run(finished_run).unlike_training).count + 1)
    assert (
        table["p_like_training"].tolist() == predictions.table["p_like_training"].tolist() == [pytest.approx(smallest)]
    )
    assert any(text.startswith("Unlike the training data: 1 of 1 image") for text in said)
    known = predict(finished_run, [phantom_folder]).table
    assert known["p_like_training"].median() > 0.3
    assert known["subject_p_like_training"].groupby(known["subject"]).nunique().max() == 1


def test_a_run_without_a_reference_says_so_and_an_ensemble_needs_one_member_with_it(finished_run, tmp_path):
    run = shutil.copytree(finished_run, tmp_path / "run")
    (run / "unlike_training.npz").unlink()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)).save(tmp_path / "noise.png")
    said: list[str] = []
    shown = SimpleNamespace(say=said.append, progress=SILENT.progress)
    assert "p_like_training" not in predict(run, [tmp_path / "noise.png"], display=shown).table
    assert any("holds no reference of its training data" in text for text in said)
    assert "p_like_training" in predict([run, finished_run], [tmp_path / "noise.png"], tta=1).table
