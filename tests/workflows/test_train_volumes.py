"""From NIfTI files to the score of a 3D network, by the same commands as for images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from gyrus.cli.app import app
from gyrus.datasets.manifest import Manifest
from gyrus.datasets.reader import Reader
from gyrus.datasets.scan import scan
from gyrus.datasets.slice_stacks import StackConfig, stack_slices
from gyrus.datasets.store import open_store
from gyrus.datasets.torch_dataset import PixelDataset
from gyrus.runs.run_folder import Run
from gyrus.synthetic.phantom import generate
from gyrus.synthetic.phantom_layouts import write
from gyrus.transforms.normalisation import IntensityScaling, Normalisation, landmarks_of
from gyrus.transforms.preprocessing import PreprocessingConfig
from gyrus.transforms.volume_steps import Window
from tests.support.options import set_options


@pytest.fixture(scope="module")
def layouts(tmp_path_factory) -> dict[str, Path]:
    """The same synthetic subjects as BIDS and as slices in folders."""
    root = tmp_path_factory.mktemp("phantom")
    phantom = generate(subjects=12, slices=8, classes=2, size=32, seed=0)
    return {name: write(phantom, root / name, name) for name in ("nifti", "folder")}


def test_volumes_and_the_slices_they_were_made_of_are_the_same_pixels(layouts):
    config = StackConfig(slices=6)
    volumes = stack_slices(scan(layouts["nifti"]), config)
    stacks = stack_slices(scan(layouts["folder"]), config)
    assert volumes.classes == stacks.classes
    place = {subject: position for position, subject in enumerate(stacks.table["subject"])}
    exact, slices = Reader(volumes, (Window(),)), Reader(stacks)
    for position, subject in enumerate(volumes.table["subject"]):
        np.testing.assert_array_equal(exact.read(position), slices.read(place[subject]))


def test_the_recipe_trains_on_nifti_and_predicts_a_file(layouts, tmp_path):
    run, out = tmp_path / "run", tmp_path / "predictions.csv"
    settings = {
        "data.stack.slices": 8,
        "preprocessing.steps": [{"step": "grayscale"}],
        "training.epochs": 1,
        "training.batch_size": 4,
        "evaluation.resamples": 10,
        "model": {"name": "baseline-cnn"},
    }
    data = str(layouts["nifti"])
    arguments = [
        "train",
        "--recipe",
        "adni-convnext3d",
        "--data",
        data,
        "--out",
        str(run),
        "--quiet",
        *set_options(settings),
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    manifest = Manifest.load(Run.open(run).manifest)
    assert manifest.subject_kind == "subject"
    assert json.loads((run / "model.json").read_text())["image_size"] == [8, 32, 32]
    volume = layouts["nifti"] / "sub-P003" / "anat" / "sub-P003_T1w.nii.gz"
    result = CliRunner().invoke(app, ["predict", str(run), str(volume), "--out", str(out), "--quiet"])
    assert result.exit_code == 0, result.output
    table = pd.read_csv(out)
    assert table["sample"].tolist() == [str(volume)]
    assert table["subject"].tolist() == ["sub-P003"]


def test_slices_of_volumes_train_a_2d_network(layouts, tmp_path):
    from gyrus.workflows.predict import predict
    from gyrus.workflows.train import train

    run = train(
        "dementia-baseline",
        data=layouts["nifti"],
        out=tmp_path / "run",
        overrides={
            "data.slices": {"range": [0.2, 0.8], "neighbours": 1},
            "preprocessing.steps": [],
            "training.epochs": 1,
            "evaluation.resamples": 10,
        },
    )
    assert json.loads(run.model.read_text())["in_channels"] == 3
    predictions = predict(run, [layouts["nifti"] / "sub-P001" / "anat"])
    assert len(predictions.table) == len(Manifest.load(run.manifest).table.query("subject == 'sub-P001'"))


def test_the_standard_histogram_is_that_of_the_training_set_only(layouts, tmp_path):
    manifest = scan(layouts["nifti"])
    config = PreprocessingConfig(steps=(), intensity=IntensityScaling(method="histogram"))
    store = open_store(manifest, config, cache=tmp_path)
    train, rest = np.arange(6), np.arange(6, 12)
    fitted = Normalisation.fit(config.intensity, store.statistics[train])
    assert fitted != Normalisation.fit(config.intensity, store.statistics[rest])
    assert Normalisation.from_document(json.loads(json.dumps(fitted.__dict__))) == fitted
    dataset = PixelDataset(store, np.arange(12), np.zeros(12, np.int64), fitted)
    images = dataset.__getitems__(list(range(12))).images.numpy()
    before = np.stack([landmarks_of(pixels / 255) for pixels in store.pixels])
    after = np.stack([landmarks_of(image) for image in images])
    assert after.std(axis=0).mean() < 0.5 * before.std(axis=0).mean()


def test_only_the_volumes_in_use_are_in_memory(layouts, tmp_path, monkeypatch):
    """Reading stays within a few volumes of writing, however many there are."""
    from gyrus.datasets import store as module

    monkeypatch.setattr(module.os, "cpu_count", lambda: 2)
    manifest = scan(layouts["nifti"])
    ahead, done = [], []
    read = Reader.read

    def counted(self: Reader, position: int) -> np.ndarray:
        ahead.append(position - len(done))
        return read(self, position)

    monkeypatch.setattr(Reader, "read", counted)
    open_store(manifest, PreprocessingConfig(steps=()), cache=tmp_path, progress=lambda *_: done.append(1))
    assert len(done) == 12
    assert max(ahead) <= 2
