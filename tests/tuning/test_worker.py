"""Two processes share a study, and one of them is killed in the middle."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import optuna
import pandas as pd
import pytest
from optuna.trial import TrialState

from gyrus.tuning.storage import open_storage
from gyrus.tuning.trial_queue import LOST, REPEATS, SURPLUS

ROOT = Path(__file__).parents[2]


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
