"""The rules by which workers share trials, on storages without any training."""

from __future__ import annotations

import random
import time

import optuna
import pytest
from optuna.trial import TrialState

from gyrus.errors import ConfigError, GyrusError
from gyrus.tuning.samplers_and_pruners import SAMPLERS, SeededSampler
from gyrus.tuning.storage import open_storage, shown
from gyrus.tuning.trial_queue import ATTEMPTS, LOST, REPEATS, SURPLUS, TrialQueue, done, given_up, origin, rank


def study_and_budget(storage, trials, *, lost_after=60.0, sampler=None, name="study"):
    study = optuna.create_study(study_name=name, storage=storage, load_if_exists=True, sampler=sampler)
    return study, TrialQueue(study, storage, trials, lost_after=lost_after)


@pytest.fixture(params=["study.db", "journal.log"])
def storage(request, tmp_path):
    return open_storage(str(tmp_path / request.param), tmp_path)


def finish(study, trial):
    trial.suggest_float("x", 0, 1)
    study.tell(trial, 0.5)


def test_two_workers_share_one_budget(storage):
    (study, one), (_, other) = (study_and_budget(storage, 5) for _ in range(2))
    claimed = [(one if number % 2 else other).claim() for number in range(5)]
    assert one.claim() is None
    assert other.claim() is None
    assert not one.is_over()
    for trial in claimed:
        finish(study, trial)
    assert one.is_over()
    assert other.is_over()
    assert len(done(study.get_trials())) == 5


def test_a_larger_budget_goes_on(storage):
    study, budget = study_and_budget(storage, 2)
    for _ in range(2):
        finish(study, budget.claim())
    assert budget.claim() is None
    study, budget = study_and_budget(storage, 3)
    finish(study, budget.claim())
    assert budget.claim() is None
    assert budget.is_over()


def test_what_was_given_back_is_repeated_with_the_same_values_once(storage):
    study, budget = study_and_budget(storage, 2)
    trial = budget.claim()
    value = trial.suggest_float("x", 0, 1)
    budget.give_back(trial)
    budget.mend()
    again = budget.claim()
    assert again.suggest_float("x", 0, 1) == value
    assert origin(again) == trial.number
    study.tell(again, 0.0)
    finish(study, budget.claim())
    assert budget.is_over()
    assert len(done(study.get_trials())) == 2


def test_a_silent_worker_is_found_and_a_lively_one_is_left_alone(storage):
    study, doomed = study_and_budget(storage, 2, lost_after=0.6)
    _, lively = study_and_budget(storage, 2, lost_after=0.6)
    silent, busy = doomed.claim(), lively.claim()
    _, observer = study_and_budget(storage, 2, lost_after=0.6)
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
    assert len(done(study.get_trials())) == 2


def test_a_trial_that_kills_whoever_tries_it_is_given_up(storage):
    study, budget = study_and_budget(storage, 1)
    for _ in range(ATTEMPTS):
        trial = budget.claim()
        assert origin(trial) == 0
        budget.give_back(trial)
    assert budget.claim() is None
    assert budget.is_over()
    assert [trial.number for trial in given_up(study.get_trials())] == [ATTEMPTS - 1]


def test_a_repetition_that_two_workers_ask_for_at_once_is_done_once(storage):
    study, budget = study_and_budget(storage, 1)
    trial = budget.claim()
    budget.give_back(trial)
    study.enqueue_trial({}, user_attrs={REPEATS: trial.number, "origin": trial.number})
    finish(study, budget.claim())
    assert budget.claim() is None
    assert budget.is_over()
    states = [(each.state, bool(each.user_attrs.get(SURPLUS))) for each in study.get_trials()]
    assert states == [(TrialState.FAIL, False), (TrialState.COMPLETE, False), (TrialState.FAIL, True)]


def test_a_worker_that_comes_too_late_gives_its_trial_back(storage):
    study, budget = study_and_budget(storage, 1)
    first = budget.claim()
    late = study.ask()  # as if both had looked before either had asked
    assert budget._is_surplus(late.number)
    assert not budget._is_surplus(first.number)
    budget.give_back(late)  # killed before it could say so
    finish(study, first)
    assert budget.claim() is None
    assert budget.is_over()


def test_any_order_of_deaths_ends_with_the_budget_done_once():
    """Workers that claim, finish and die at random moments."""
    for seed in range(20):
        dice = random.Random(seed)
        storage = optuna.storages.InMemoryStorage()
        study, _ = study_and_budget(storage, 7)
        budgets = [study_and_budget(storage, 7)[1] for _ in range(3)]
        running = []
        for _ in range(400):
            budget = dice.choice(budgets)
            if running and dice.random() < 0.6:
                trial = running.pop(dice.randrange(len(running)))
                if dice.random() < 0.3:
                    budget.give_back(trial)
                else:
                    finish(study, trial)
            elif (trial := budget.claim()) is not None:
                running.append(trial)
            if not running and budget.is_over():
                break
        trials = study.get_trials()
        assert budgets[0].is_over()
        assert len(done(trials)) + len(given_up(trials)) == 7, seed
        assert len({origin(trial) for trial in done(trials)}) == len(done(trials))
        assert sum(bool(trial.user_attrs.get(LOST)) for trial in trials) == sum(
            trial.state == TrialState.FAIL and not trial.user_attrs.get(SURPLUS) for trial in trials
        )


@pytest.mark.parametrize("name", SAMPLERS)
def test_workers_with_one_seed_draw_different_values_and_a_study_repeats_itself(name):
    def values():
        storage = optuna.storages.InMemoryStorage()
        drawn = []
        for _ in range(6):  # each as if by a worker of its own
            study, budget = study_and_budget(storage, 12, sampler=SeededSampler(SAMPLERS[name], 3))
            for _ in range(2):
                trial = budget.claim()
                drawn.append(trial.suggest_float("x", 0, 1))
                study.tell(trial, drawn[-1])
        return drawn

    first = values()
    assert len(set(first)) == 12
    assert values() == first


def test_the_rank_of_a_trial_leaves_out_repetitions():
    storage = optuna.storages.InMemoryStorage()
    study, budget = study_and_budget(storage, 3)
    budget.give_back(budget.claim())
    finish(study, budget.claim())
    trial = budget.claim()
    assert trial.number == 2
    assert rank(study, study.get_trials()[2]) == 1


def test_places_of_studies(tmp_path):
    assert open_storage(None, tmp_path / "new").get_all_studies() == []
    assert (tmp_path / "new" / "study.db").exists()
    with pytest.raises(ConfigError, match="postgresql://user:password@host/database"):
        open_storage("mysql://host/database", tmp_path)
    (tmp_path / "broken.db").write_text("this is no database" * 100)
    with pytest.raises(GyrusError, match=r"broken\.db"):
        open_storage(str(tmp_path / "broken.db"), tmp_path)
    assert shown("postgresql://ann:secret@host:1/tuning") == "postgresql://ann@host:1/tuning"


def test_a_password_is_not_shown_when_a_server_cannot_be_reached(tmp_path):
    with pytest.raises(GyrusError) as caught:
        open_storage("postgresql://ann:secret@127.0.0.1:9/tuning", tmp_path)
    assert "secret" not in str(caught.value)
    assert "ann@127.0.0.1:9" in str(caught.value)
