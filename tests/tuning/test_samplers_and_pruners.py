"""Samplers of a study that several workers share."""

from __future__ import annotations

import optuna
import pytest

from gyrus.tuning.samplers_and_pruners import SAMPLERS, SeededSampler
from gyrus.tuning.trial_storage import TrialQueue, open_storage


def study_and_queue(storage, trials, *, lost_after=60.0, sampler=None, name="study"):
    study = optuna.create_study(study_name=name, storage=storage, load_if_exists=True, sampler=sampler)
    return study, TrialQueue(study, storage, trials, lost_after=lost_after)


@pytest.fixture(params=["study.db", "journal.log"])
def storage(request, tmp_path):
    return open_storage(str(tmp_path / request.param), tmp_path)


@pytest.mark.parametrize("name", SAMPLERS)
def test_workers_with_one_seed_draw_different_reproducible_values(name):
    def values():
        storage = optuna.storages.InMemoryStorage()
        drawn = []
        for _ in range(6):  # each as by a worker of its own
            study, queue = study_and_queue(storage, 12, sampler=SeededSampler(SAMPLERS[name], 3))
            for _ in range(2):
                trial = queue.claim()
                drawn.append(trial.suggest_float("x", 0, 1))
                study.tell(trial, drawn[-1])
        return drawn

    first = values()
    assert len(set(first)) == 12
    assert values() == first
