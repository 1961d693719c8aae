"""Prediction of new images from a run folder."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from gyrus.errors import ConfigError, DataError
from gyrus.inference.predictions import Predictions
from gyrus.runs.run_folder import Run
from gyrus.workflows.experiment_config import DataConfig
from gyrus.workflows.predict import predict
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
