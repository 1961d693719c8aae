"""Studies on the small phantom, trained for real."""

from __future__ import annotations

import os
import shutil
import signal

import optuna
import pandas as pd
import pytest
import yaml
from optuna.trial import TrialState

from gyrus.datasets.manifest import Manifest
from gyrus.datasets.splits import Split
from gyrus.errors import ConfigError
from gyrus.runs.run_folder import Run
from gyrus.tuning import worker as working
from gyrus.tuning.final_training import train_best
from gyrus.tuning.study import tune
from gyrus.tuning.trial import inner_splits, without_test
from gyrus.tuning.trial_queue import LOST
from gyrus.workflows.experiment_config import load_config
from tests.support.tiny_study import TINY, plan

BASE = "dementia-baseline"


def study(data, out, trials=3, *, overrides=TINY, **more):
    return tune(plan(trials, **more), BASE, data=data, out=out, overrides=overrides)


@pytest.fixture(scope="module")
def tuned(phantom_folder, tmp_path_factory):
    """A study of the whole space, finished; not to be changed."""
    return study(phantom_folder, tmp_path_factory.mktemp("studies") / "study", 6, seed=4)


def test_a_study_leaves_recipe_table_figures_and_page(tuned):
    folder = tuned.folder
    table = pd.read_csv(folder.trials)
    assert len(table) == 6
    assert set(table["state"]) <= {"complete", "pruned"}
    whole = table[table["state"] == "complete"]
    assert tuned.best.values[0] == whole["val_balanced_accuracy"].max()
    for name in ("history", "slice"):
        assert (folder.path / "figures" / f"{name}.png").stat().st_size > 1000
    page = folder.report.read_text()
    assert page.count("<svg") == len(list((folder.path / "figures").glob("*.svg")))
    assert "quote the score on the test set" in page
    assert not list(folder.path.rglob("*.ckpt"))


def test_the_best_recipe_is_the_best_trial_s_config_and_says_how_it_was_found(tuned):
    recipe = load_config(tuned.folder.best)
    assert recipe.data.path is None
    values = tuned.values(tuned.best)
    assert recipe.training.optimiser.lr == values["training.optimiser.lr"]
    assert recipe.training.batch_size == values["training.batch_size"]
    assert recipe.model.head.options["dropout"] == values["model.head.options.dropout"]
    words = " ".join(recipe.about.changed)
    assert f"trial {tuned.best.number}" in words
    assert "the test set was not looked at" in words
    trained = yaml.safe_load((tuned.folder.trial(tuned.best.number) / "config.yaml").read_text())
    for section in ("training", "model", "preprocessing", "augmentation", "seed"):
        assert load_config(tuned.folder.best).model_dump(mode="json")[section] == trained[section]


def test_the_score_of_a_trial_is_that_of_its_best_epoch(tuned):
    for trial in tuned.trials:
        history = pd.read_csv(tuned.folder.trial(trial.number) / "history.csv")
        if trial.state == TrialState.COMPLETE:
            assert trial.values[0] == history["val_balanced_accuracy"].max()
            assert trial.user_attrs["parameters"] > 0


def test_the_test_part_is_not_even_loaded(phantom_folder, tmp_path, monkeypatch):
    """Its images vanish as soon as the split is made; trials, workers and later calls do not miss them."""
    data = shutil.copytree(phantom_folder, tmp_path / "data")
    prepare = working.train_trial

    def without_test_images(settings, manifest, splits, folder, **more):
        for sample in splits[0].samples["test"]:
            (data / sample).unlink(missing_ok=True)
        return prepare(settings, manifest, splits, folder, **more)

    monkeypatch.setattr(working, "train_trial", without_test_images)
    monkeypatch.setenv("GYRUS_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "study"
    study(data, out, 1)
    split, seen = Split.load(out / "split.json"), Manifest.load(out / "manifest.parquet")
    assert not any((data / sample).exists() for sample in split.samples["test"])
    assert set(seen.table["sample"]) == {*split.samples["train"], *split.samples["val"]}
    shutil.rmtree(tmp_path / "cache")  # the pixels are decoded anew, from the files that are left
    assert len(study(data, out, 2).trials) == 2


def test_inner_folds_keep_people_whole_and_leave_the_test_part_out(tuned):
    manifest = Manifest.load(tuned.folder.manifest)
    folds = inner_splits(manifest, tuned.split, 3)
    people = {*tuned.split.subjects["train"], *tuned.split.subjects["val"]}
    assert sorted(person for fold in folds for person in fold.subjects["val"]) == sorted(people)
    for fold in folds:
        assert not set(fold.subjects["train"]) & set(fold.subjects["val"])
        assert {*fold.subjects["train"], *fold.subjects["val"]} == people
        assert fold.samples["test"] == ()
    assert without_test(manifest, tuned.split).digest == manifest.digest


def test_a_study_by_inner_folds(phantom_folder, tmp_path):
    tuned = study(phantom_folder, tmp_path / "study", 1, folds=2, pruner="none")
    histories = [pd.read_csv(path) for path in sorted(tuned.folder.trial(0).glob("fold-*/history.csv"))]
    best = [history["val_balanced_accuracy"].max() for history in histories]
    assert len(best) == 2
    assert tuned.best.values[0] == pytest.approx(sum(best) / 2)
    assert len(tuned.best.intermediate_values) == 4


def test_several_objectives_give_a_front(phantom_folder, tmp_path):
    ranges = ["model.options.channels=[2, 2]|[8, 8]", "training.optimiser.lr=0.0001|0.01"]
    more = {"objectives": ("val_loss", "parameters"), "ranges": ranges, "sampler": "grid"}
    tuned = study(phantom_folder, tmp_path / "study", 99, **more)
    assert len(tuned.trials) == 4
    assert len({tuple(trial.params.values()) for trial in tuned.trials}) == 4
    points = [trial.values for trial in tuned.trials]
    kept = [trial.values for trial in tuned.front]
    for point in points:
        beaten = any(other[0] <= point[0] and other[1] <= point[1] and other != point for other in points)
        assert (point in kept) == (not beaten)
    assert tuned.best.values[0] == min(point[0] for point in points)
    assert (tuned.folder.path / "figures" / "front.png").exists()


def test_ctrl_c_leaves_the_trial_to_be_repeated(phantom_folder, tmp_path, monkeypatch):
    real, calls = working.train_trial, []

    def interrupted(settings, *arguments, **more):
        calls.append(settings)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return real(settings, *arguments, **more)

    monkeypatch.setattr(working, "train_trial", interrupted)
    out = tmp_path / "study"
    with pytest.raises(KeyboardInterrupt):
        study(phantom_folder, out, 3)
    tuned = study(phantom_folder, out, 3)
    trials = tuned.study.get_trials()
    assert [trial.number for trial in trials if trial.user_attrs.get(LOST)] == [1]
    assert len(tuned.trials) == 3
    assert calls[1] == calls[2]


def test_a_configuration_that_cannot_be_trained_is_told_and_left_behind(phantom_folder, tmp_path):
    tuned = study(
        phantom_folder,
        tmp_path / "study",
        2,
        ranges=["training.optimiser.lr=1e30|0.001"],
        sampler="grid",
        overrides={**TINY, "training.optimiser": {"name": "sgd"}},
    )
    table = pd.read_csv(tuned.folder.trials)
    assert table["reason"].notna().sum() == 1
    assert "NaN or infinite" in table["reason"].dropna().iloc[0]
    assert tuned.best.params["training.optimiser.lr"] == 0.001
    assert "1 cannot be trained" in tuned.folder.report.read_text()


def test_a_study_of_other_settings_data_or_space_is_refused(tuned, phantom_folder, tmp_path):
    out = tuned.folder.path
    with pytest.raises(ConfigError, match=r"training\.epochs was 2, is 5"):
        study(phantom_folder, out, 6, overrides={**TINY, "training.epochs": 5})
    with pytest.raises(ConfigError, match="another search space"):
        study(phantom_folder, out, 6, ranges=["training.batch_size=8|16"])
    with pytest.raises(ConfigError, match="another folds"):
        study(phantom_folder, out, 6, folds=2)
    fewer = shutil.copytree(phantom_folder, tmp_path / "data")
    (fewer / tuned.split.samples["train"][0]).unlink()
    with pytest.raises(ConfigError, match="another data, split"):
        study(fewer, tmp_path / out.name, 6, storage=str(out / "study.db"))


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
def test_mistakes_of_a_plan_are_told_before_anything_is_trained(phantom_folder, tmp_path, more, words):
    with pytest.raises(ConfigError, match=words):
        study(phantom_folder, tmp_path / "study", **more)
    assert not list(tmp_path.rglob("trials"))


def test_the_test_part_is_scored_once_and_closes_the_study(phantom_folder, tmp_path):
    out = tmp_path / "study"
    tuned = study(phantom_folder, out, 1)
    final = train_best(tuned, [3], with_default=True)
    for repeats in (final.tuned, final.default):
        assert list(repeats.runs) == [3]
        assert dict(Split.load(repeats.runs[3].split).samples) == dict(tuned.split.samples)
        assert Run.open(repeats.runs[3].folder).status == "finished"
    best = load_config(final.tuned.runs[3].config)
    assert best.training.optimiser.lr == tuned.values(tuned.best)["training.optimiser.lr"]
    assert "Before tuning" in final.text()
    with pytest.raises(ConfigError, match="chosen by it"):
        study(phantom_folder, out, 2)
    assert study(phantom_folder, out, 1).best.number == tuned.best.number  # what is there may be looked at again


def test_a_trial_that_is_given_up_really_stops(phantom_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(optuna.trial.Trial, "should_prune", lambda trial: trial.number == 0)
    tuned = study(phantom_folder, tmp_path / "study", 2)
    assert [trial.state for trial in tuned.trials] == [TrialState.PRUNED, TrialState.COMPLETE]
    epochs = [len(pd.read_csv(tuned.folder.trial(number) / "history.csv")) for number in (0, 1)]
    assert epochs == [1, 2]


@pytest.mark.slow
@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_pruners_end_trials_early(pruner, phantom_folder, tmp_path):
    ranges = ["training.optimiser.lr=1e-6:1e-1:log"]
    overrides = {**TINY, "training.epochs": 4, "training.monitor": "val_loss"}
    more = {"pruner": pruner, "ranges": ranges, "sampler": "random", "overrides": overrides}
    tuned = study(phantom_folder, tmp_path / "study", 12, **more)
    early = [trial for trial in tuned.trials if trial.state == TrialState.PRUNED]
    assert early
    for trial in early:
        assert len(pd.read_csv(tuned.folder.trial(trial.number) / "history.csv")) < 4
