"""Studies on the small phantom, with real training."""

from __future__ import annotations

import shutil

import pandas as pd
import pytest

from gyrus.datasets.manifest import Manifest
from gyrus.datasets.splits import Split
from gyrus.errors import ConfigError
from gyrus.tuning.worker import train_trial
from tests.support.tiny_study import TINY, run_study


def test_the_images_of_the_test_set_are_never_read(phantom_folder, tmp_path, monkeypatch):
    """Its images are deleted as soon as the split is made; trials, workers and later calls do not need them."""
    data = shutil.copytree(phantom_folder, tmp_path / "data")
    prepare = train_trial

    def without_test_images(settings, manifest, splits, folder, **more):
        for sample in splits[0].samples["test"]:
            (data / sample).unlink(missing_ok=True)
        return prepare(settings, manifest, splits, folder, **more)

    monkeypatch.setattr("gyrus.tuning.worker.train_trial", without_test_images)
    monkeypatch.setenv("GYRUS_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "study"
    run_study(data, out, 1)
    split, seen = Split.load(out / "split.json"), Manifest.load(out / "manifest.parquet")
    assert not any((data / sample).exists() for sample in split.samples["test"])
    assert set(seen.table["sample"]) == {*split.samples["train"], *split.samples["val"]}
    shutil.rmtree(tmp_path / "cache")  # the pixels are decoded again from the remaining files
    assert len(run_study(data, out, 2).trials) == 2


def test_a_study_by_inner_folds(phantom_folder, tmp_path):
    tuned = run_study(phantom_folder, tmp_path / "study", 1, folds=2, pruner="none")
    histories = [pd.read_csv(path) for path in sorted(tuned.folder.trial(0).glob("fold-*/history.csv"))]
    best = [history["val_balanced_accuracy"].max() for history in histories]
    assert len(best) == 2
    assert tuned.best.values[0] == pytest.approx(sum(best) / 2)
    assert len(tuned.best.intermediate_values) == 4


def test_several_objectives_give_a_front(phantom_folder, tmp_path):
    ranges = ["model.options.channels=[2, 2]|[8, 8]", "training.optimiser.lr=0.0001|0.01"]
    more = {"objectives": ("val_loss", "parameters"), "ranges": ranges, "sampler": "grid"}
    tuned = run_study(phantom_folder, tmp_path / "study", 99, **more)
    assert len(tuned.trials) == 4
    assert len({tuple(trial.params.values()) for trial in tuned.trials}) == 4
    points = [trial.values for trial in tuned.trials]
    kept = [trial.values for trial in tuned.front]
    for point in points:
        beaten = any(other[0] <= point[0] and other[1] <= point[1] and other != point for other in points)
        assert (point in kept) == (not beaten)
    assert tuned.best.values[0] == min(point[0] for point in points)
    assert (tuned.folder.path / "figures" / "front.png").exists()


def test_a_study_of_other_settings_data_or_space_is_refused(tuned, phantom_folder, tmp_path):
    out = tuned.folder.path
    with pytest.raises(ConfigError, match=r"training\.epochs was 2, is 5"):
        run_study(phantom_folder, out, 6, overrides={**TINY, "training.epochs": 5})
    with pytest.raises(ConfigError, match="another search space"):
        run_study(phantom_folder, out, 6, ranges=["training.batch_size=8|16"])
    with pytest.raises(ConfigError, match="another folds"):
        run_study(phantom_folder, out, 6, folds=2)
    fewer = shutil.copytree(phantom_folder, tmp_path / "data")
    (fewer / tuned.split.samples["train"][0]).unlink()
    with pytest.raises(ConfigError, match="another data, split"):
        run_study(fewer, tmp_path / out.name, 6, storage=str(out / "study.db"))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"objectives": ("val_acuracy",)}, "'val_accuracy'"),
        ({"objectives": ("parameters",)}, "first objective"),
        ({"objectives": ("val_loss", "val_auc")}, "costs"),
        ({"objectives": ("val_loss", "seconds"), "pruner": "median"}, "--pruner none"),
        ({"objectives": ("val_loss", "seconds"), "sampler": "cma-es"}, "one objective"),
        ({"sampler": "tpa"}, "'tpe'"),
        ({"sampler": "grid"}, "lists of values"),
        ({"pruner": "medain"}, "'median'"),
        ({"folds": 1}, "--folds"),
        ({"trials": 0}, "--trials"),
        ({"storage": "x.txt"}, "--storage"),
    ],
)
def test_mistakes_are_reported_before_training(phantom_folder, tmp_path, more, words):
    with pytest.raises(ConfigError, match=words):
        run_study(phantom_folder, tmp_path / "study", **more)
    assert not list(tmp_path.rglob("trials"))
