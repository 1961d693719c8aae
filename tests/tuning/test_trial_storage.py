"""Storages of studies, and the sharing of trials between workers, without training."""

from __future__ import annotations

import random
import time

import optuna
import pytest
from optuna.trial import TrialState

from gyrus.errors import ConfigError, GyrusError
from gyrus.redaction import without_secrets
from gyrus.tuning.trial_storage import (
    ATTEMPTS,
    LOST,
    REPEATS,
    SURPLUS,
    TrialQueue,
    abandoned,
    finished,
    open_storage,
    origin,
    rank,
)


def test_storages_are_opened_by_their_address(tmp_path):
    assert open_storage(None, tmp_path / "new").get_all_studies() == []
    assert (tmp_path / "new" / "study.db").exists()
    with pytest.raises(ConfigError, match="postgresql://user:password@host/database"):
        open_storage("mysql://host/database", tmp_path)
    (tmp_path / "broken.db").write_text("this is no database" * 100)
    with pytest.raises(GyrusError, match=r"broken\.db"):
        open_storage(str(tmp_path / "broken.db"), tmp_path)
    assert without_secrets("postgresql://ann:secret@host:1/tuning") == "postgresql://ann:***@host:1/tuning"


def test_errors_do_not_contain_the_password(tmp_path):
    with pytest.raises(GyrusError) as caught:
        open_storage("postgresql://ann:secret@127.0.0.1:9/tuning", tmp_path)
    assert "secret" not in str(caught.value)
    assert "ann:***@127.0.0.1:9" in str(caught.value)


def study_and_queue(storage, trials, *, lost_after=60.0, sampler=None, name="study"):
    study = optuna.create_study(study_name=name, storage=storage, load_if_exists=True, sampler=sampler)
    return study, TrialQueue(study, storage, trials, lost_after=lost_after)


@pytest.fixture(params=["study.db", "journal.log"])
def storage(request, tmp_path):
    return open_storage(str(tmp_path / request.param), tmp_path)


def finish(study, trial):
    trial.suggest_float("x", 0, 1)
    study.tell(trial, 0.5)


def test_two_workers_share_one_budget(storage):
    (study, one), (_, other) = (study_and_queue(storage, 5) for _ in range(2))
    claimed = [(one if number % 2 else other).claim() for number in range(5)]
    assert one.claim() is None
    assert other.claim() is None
    assert not one.is_over()
    for trial in claimed:
        finish(study, trial)
    assert one.is_over()
    assert other.is_over()
    assert len(finished(study.get_trials())) == 5


def test_a_larger_budget_continues_the_study(storage):
    study, queue = study_and_queue(storage, 2)
    for _ in range(2):
        finish(study, queue.claim())
    assert queue.claim() is None
    study, queue = study_and_queue(storage, 3)
    finish(study, queue.claim())
    assert queue.claim() is None
    assert queue.is_over()


def test_a_returned_trial_is_repeated_once_with_the_same_values(storage):
    study, queue = study_and_queue(storage, 2)
    trial = queue.claim()
    value = trial.suggest_float("x", 0, 1)
    queue.give_back(trial)
    queue.repeat_lost()
    again = queue.claim()
    assert again.suggest_float("x", 0, 1) == value
    assert origin(again) == trial.number
    study.tell(again, 0.0)
    finish(study, queue.claim())
    assert queue.is_over()
    assert len(finished(study.get_trials())) == 2


def test_a_trial_without_heartbeat_is_repeated_and_one_with_heartbeat_is_not(storage):
    study, doomed = study_and_queue(storage, 2, lost_after=0.6)
    _, lively = study_and_queue(storage, 2, lost_after=0.6)
    silent, busy = doomed.claim(), lively.claim()
    _, observer = study_and_queue(storage, 2, lost_after=0.6)
    with lively.alive(busy):
        deadline = time.monotonic() + 20
        while (found := observer.claim()) is None and time.monotonic() < deadline:
            time.sleep(observer.pause)
    assert found is not None
    assert found.user_attrs[REPEATS] == silent.number
    assert study.get_trials()[busy.number].state == TrialState.RUNNING
    finish(study, found)
    finish(study, busy)
    assert study.tell(silent.number, 0.9, skip_if_finished=True).state == TrialState.FAIL
    assert len(finished(study.get_trials())) == 2


def test_a_trial_that_kills_its_workers_is_abandoned(storage):
    study, queue = study_and_queue(storage, 1)
    for _ in range(ATTEMPTS):
        trial = queue.claim()
        assert origin(trial) == 0
        queue.give_back(trial)
    assert queue.claim() is None
    assert queue.is_over()
    assert [trial.number for trial in abandoned(study.get_trials())] == [ATTEMPTS - 1]


def test_a_repetition_that_two_workers_enqueue_is_run_once(storage):
    study, queue = study_and_queue(storage, 1)
    trial = queue.claim()
    queue.give_back(trial)
    study.enqueue_trial({}, user_attrs={REPEATS: trial.number, "origin": trial.number})
    finish(study, queue.claim())
    assert queue.claim() is None
    assert queue.is_over()
    states = [(each.state, bool(each.user_attrs.get(SURPLUS))) for each in study.get_trials()]
    assert states == [(TrialState.FAIL, False), (TrialState.COMPLETE, False), (TrialState.FAIL, True)]


def test_a_trial_beyond_the_budget_is_surplus(storage):
    study, queue = study_and_queue(storage, 1)
    first = queue.claim()
    late = study.ask()  # as if two workers had claimed at the same moment
    assert queue._is_surplus(late.number)
    assert not queue._is_surplus(first.number)
    queue.give_back(late)  # killed before it could mark it
    finish(study, first)
    assert queue.claim() is None
    assert queue.is_over()


def test_any_order_of_deaths_completes_the_budget_once():
    """Workers that claim, finish and die at random moments."""
    for seed in range(20):
        dice = random.Random(seed)
        storage = optuna.storages.InMemoryStorage()
        study, _ = study_and_queue(storage, 7)
        queues = [study_and_queue(storage, 7)[1] for _ in range(3)]
        running = []
        for _ in range(400):
            queue = dice.choice(queues)
            if running and dice.random() < 0.6:
                trial = running.pop(dice.randrange(len(running)))
                if dice.random() < 0.3:
                    queue.give_back(trial)
                else:
                    finish(study, trial)
            elif (trial := queue.claim()) is not None:
                running.append(trial)
            if not running and queue.is_over():
                break
        trials = study.get_trials()
        assert queues[0].is_over()
        assert len(finished(trials)) + len(abandoned(trials)) == 7, seed
        assert len({origin(trial) for trial in finished(trials)}) == len(finished(trials))
        assert sum(bool(trial.user_attrs.get(LOST)) for trial in trials) == sum(
            trial.state == TrialState.FAIL and not trial.user_attrs.get(SURPLUS) for trial in trials
        )


def test_the_rank_of_a_trial_excludes_repetitions():
    storage = optuna.storages.InMemoryStorage()
    study, queue = study_and_queue(storage, 3)
    queue.give_back(queue.claim())
    finish(study, queue.claim())
    trial = queue.claim()
    assert trial.number == 2
    assert rank(study, study.get_trials()[2]) == 1
