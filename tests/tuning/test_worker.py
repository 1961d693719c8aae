"""Workers: real trials on the small phantom, and two processes that share a study while one is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import optuna
import pandas as pd
import pytest
from optuna.trial import TrialState

from gyrus.datasets.manifest import Manifest
from gyrus.tuning.trial_storage import LOST, REPEATS, SURPLUS, open_storage
from gyrus.tuning.worker import inner_splits, train_trial, without_test
from tests.support.tiny_study import TINY, run_study

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.filterwarnings("default")  # warnings of other library versions are not errors


def run_workers(data: Path, out: Path, storage: str, trials: int) -> list[optuna.trial.FrozenTrial]:
    words = [sys.executable, "-m", "tests.support.study_workers", data, out, storage, str(trials)]
    result = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=900)
    assert result.stdout.split() == [str(-signal.SIGKILL), "0"], result.stdout + result.stderr
    return optuna.load_study(study_name=out.name, storage=open_storage(storage, out)).get_trials()


def check(trials: list[optuna.trial.FrozenTrial], out: Path, budget: int) -> None:
    """Nothing lost, nothing done twice; the killed trial was done by the other worker, with the same values."""
    done = [trial for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    assert len(done) == budget
    assert all(trial.state.is_finished() for trial in trials)
    killed = trials[int(out.with_suffix(".killed").read_text())]
    assert killed.state == TrialState.FAIL
    assert killed.user_attrs[LOST]
    repeats = [trial for trial in done if REPEATS in trial.user_attrs]
    assert [trial.user_attrs[REPEATS] for trial in repeats] == [killed.number]
    assert repeats[0].params == killed.params
    others = [trial for trial in trials if trial not in done and trial != killed]
    assert all(trial.user_attrs.get(SURPLUS) for trial in others)
    assert len({tuple(trial.params.items()) for trial in done}) == budget
    table = pd.read_csv(out / "trials.csv")
    assert sorted(table["trial"]) == [trial.number for trial in done]
    folders = {int(path.name) for path in (out / "trials").iterdir()}
    assert folders == {killed.number if trial in repeats else trial.number for trial in done}
    assert not list(out.rglob("*.ckpt"))


def test_a_killed_worker_of_two_loses_and_doubles_nothing(phantom_folder, tmp_path):
    out = tmp_path / "study"
    check(run_workers(phantom_folder, out, str(tmp_path / "journal.log"), 5), out, 5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["journal", "postgresql", "sqlite"])
def test_twenty_trials_by_two_workers_one_of_which_is_killed(kind, phantom_folder, tmp_path, request):
    places = {"journal": str(tmp_path / "journal.log"), "sqlite": str(tmp_path / "study.db")}
    storage = request.getfixturevalue("postgresql") if kind == "postgresql" else places[kind]
    out = tmp_path / f"twenty-{kind}"
    trials = run_workers(phantom_folder, out, storage, 20)
    check(trials, out, 20)
    pruned = [trial for trial in trials if trial.state == TrialState.PRUNED]
    assert pruned, "none of 20 trials was given up early"
    whole = pd.read_csv(out / "trials.csv").set_index("trial")
    for trial in pruned:
        history = pd.read_csv(out / "trials" / f"{int(whole.loc[trial.number, 'folder']):04d}" / "history.csv")
        assert len(history) < 3, "a trial that was given up went on"


def test_the_score_of_a_trial_is_that_of_its_best_epoch(tuned):
    for trial in tuned.trials:
        history = pd.read_csv(tuned.folder.trial(trial.number) / "history.csv")
        if trial.state == TrialState.COMPLETE:
            assert trial.values[0] == history["val_balanced_accuracy"].max()
            assert trial.user_attrs["parameters"] > 0


def test_inner_folds_keep_subjects_together_and_exclude_the_test_set(tuned):
    manifest = Manifest.load(tuned.folder.manifest)
    folds = inner_splits(manifest, tuned.split, 3)
    subjects = {*tuned.split.subjects["train"], *tuned.split.subjects["val"]}
    assert sorted(subject for fold in folds for subject in fold.subjects["val"]) == sorted(subjects)
    for fold in folds:
        assert not set(fold.subjects["train"]) & set(fold.subjects["val"])
        assert {*fold.subjects["train"], *fold.subjects["val"]} == subjects
        assert fold.samples["test"] == ()
    assert without_test(manifest, tuned.split).digest == manifest.digest


def test_an_interrupted_trial_is_repeated(phantom_folder, tmp_path, monkeypatch):
    real, calls = train_trial, []

    def interrupted(settings, *arguments, **more):
        calls.append(settings)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return real(settings, *arguments, **more)

    monkeypatch.setattr("gyrus.tuning.worker.train_trial", interrupted)
    out = tmp_path / "study"
    with pytest.raises(KeyboardInterrupt):
        run_study(phantom_folder, out, 3)
    tuned = run_study(phantom_folder, out, 3)
    trials = tuned.optuna_study.get_trials()
    assert [trial.number for trial in trials if trial.user_attrs.get(LOST)] == [1]
    assert len(tuned.trials) == 3
    assert calls[1] == calls[2]


def test_a_configuration_that_cannot_be_trained_is_reported(phantom_folder, tmp_path):
    tuned = run_study(
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
    assert "could not be trained: 1." in tuned.folder.report.read_text()


def test_a_pruned_trial_really_stops(phantom_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(optuna.trial.Trial, "should_prune", lambda trial: trial.number == 0)
    tuned = run_study(phantom_folder, tmp_path / "study", 2)
    assert [trial.state for trial in tuned.trials] == [TrialState.PRUNED, TrialState.COMPLETE]
    epochs = [len(pd.read_csv(tuned.folder.trial(number) / "history.csv")) for number in (0, 1)]
    assert epochs == [1, 2]


@pytest.mark.slow
@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_pruners_stop_trials_early(pruner, phantom_folder, tmp_path):
    ranges = ["training.optimiser.lr=1e-6:1e-1:log"]
    overrides = {**TINY, "training.epochs": 4, "training.monitor": "val_loss"}
    more = {"pruner": pruner, "ranges": ranges, "sampler": "random", "overrides": overrides}
    tuned = run_study(phantom_folder, tmp_path / "study", 12, **more)
    early = [trial for trial in tuned.trials if trial.state == TrialState.PRUNED]
    assert early
    for trial in early:
        assert len(pd.read_csv(tuned.folder.trial(trial.number) / "history.csv")) < 4
