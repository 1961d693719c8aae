"""One study, any number of workers: each trial is done once, whoever dies on the way.

Workers know each other only through the study's storage, which keeps trials in one order. From that order every worker
comes to the same answers:

- The first N trials that repeat no other make up the budget. A worker that finds itself behind them, because another
  was quicker, gives its trial back as surplus.
- Who works on a trial changes its mark, the beat, again and again. A mark that has not changed for a while, by the
  watch of whoever looks, belongs to a worker that is gone; clocks of machines are never compared.
- A lost trial is repeated with the same values by a new trial that names it. If two workers repeat it at the same
  moment, the later one is surplus.

Optuna's own heartbeat knows databases only; this works with every storage.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from optuna import Study
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, Trial, TrialState

BEAT, LOST, SURPLUS, REPEATS, ORIGIN = "beat", "lost", "surplus", "repeats", "origin"
"""Names of the attributes of trials that workers talk to each other by."""

ATTEMPTS = 4
"""How often a trial is begun before its values are taken to kill whoever tries them."""


class TrialQueue:
    """The trials of a study that are shared out among workers."""

    def __init__(self, study: Study, storage: BaseStorage, trials: int, *, lost_after: float = 120.0) -> None:
        """Store the arguments.

        Args:
            study: The study.
            storage: Where it is kept.
            trials: How many trials all workers do together.
            lost_after: Seconds without a sign of life after which a trial is taken to be lost.
        """
        self._study = study
        self._storage = storage
        self._budget = trials
        self._lost_after = lost_after
        self._beats: dict[int, tuple[object, float]] = {}

    @property
    def pause(self) -> float:
        """Seconds between two signs of life, and between two looks at the others'."""
        return self._lost_after / 6

    def claim(self) -> Trial | None:
        """The next trial to do, or None where none is to be begun now."""
        self.mend()
        while True:
            trials = self._study.get_trials(deepcopy=False)
            waiting = any(trial.state == TrialState.WAITING for trial in trials)
            if not waiting and sum(map(_holds_place, trials)) >= self._budget:
                return None
            trial = self._study.ask()
            if not self._is_surplus(trial.number):
                return trial
            trial.set_user_attr(SURPLUS, True)
            self._study.tell(trial, state=TrialState.FAIL)

    def is_over(self) -> bool:
        """Whether all trials have come to their end, and none is to be repeated."""
        trials = self._study.get_trials(deepcopy=False)
        unfinished = any(not trial.state.is_finished() for trial in trials)
        return not unfinished and not self._to_repeat(trials) and sum(map(_holds_place, trials)) >= self._budget

    def mend(self) -> None:
        """Find trials whose workers are gone, and see to it that each lost trial is repeated."""
        now = time.monotonic()
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            beat, since = self._beats.get(trial.number, (None, now))
            if trial.number not in self._beats or beat != trial.user_attrs.get(BEAT):
                self._beats[trial.number] = (trial.user_attrs.get(BEAT), now)
            elif now - since > self._lost_after:
                self._lose(trial.number)
        for trial in self._to_repeat(self._study.get_trials(deepcopy=False)):
            self._study.enqueue_trial(dict(trial.params), user_attrs={REPEATS: trial.number, ORIGIN: origin(trial)})

    def give_back(self, trial: Trial) -> None:
        """Leave a trial to be repeated by whoever comes next."""
        self._lose(trial.number)
        self.mend()

    @contextmanager
    def alive(self, trial: Trial) -> Iterator[None]:
        """Give signs of life while the block runs."""
        over = threading.Event()
        thread = threading.Thread(target=self._beat, args=(trial, over), daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _beat(self, trial: Trial, over: threading.Event) -> None:
        count = 0
        while not over.wait(self.pause):
            count += 1
            try:
                trial.set_user_attr(BEAT, count)
            except UpdateFinishedTrialError:
                return  # taken to be lost by another worker
            except StorageInternalError:
                continue  # the database may come back before the others give us up

    def _lose(self, number: int) -> None:
        study = self._storage.get_study_id_from_name(self._study.study_name)
        identifier = self._storage.get_trial_id_from_study_id_trial_number(study, number)
        with suppress(UpdateFinishedTrialError):
            self._storage.set_trial_user_attr(identifier, LOST, True)
            self._study.tell(number, state=TrialState.FAIL, skip_if_finished=True)

    def _is_surplus(self, number: int) -> bool:
        trials = self._study.get_trials(deepcopy=False)
        repeats = trials[number].user_attrs.get(REPEATS)
        again = repeats is not None and any(other.user_attrs.get(REPEATS) == repeats for other in trials[:number])
        return again or not self._in_budget(trials[number], trials)

    def _to_repeat(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        repeated = {trial.user_attrs.get(REPEATS) for trial in trials}
        return [
            trial
            for trial in trials
            if _is_lost(trial)
            and trial.number not in repeated
            and _attempt(trial, trials) < ATTEMPTS
            and self._in_budget(trial, trials)
        ]

    def _in_budget(self, trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> bool:
        return sum(map(_holds_place, trials[: origin(trial)])) < self._budget


def rank(study: Study, trial: FrozenTrial) -> int:
    """How many trials that repeat no other began before."""
    return sum(map(_holds_place, study.get_trials(deepcopy=False)[: trial.number]))


def origin(trial: Trial | FrozenTrial) -> int:
    """The number of the trial that this one repeats, directly or not; its own where it repeats none."""
    return int(trial.user_attrs.get(ORIGIN, trial.number))


def done(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials that count: those that came to an end, each once."""
    return [trial for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]


def given_up(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials that were lost every time they were tried."""
    return [trial for trial in trials if _is_lost(trial) and _attempt(trial, trials) >= ATTEMPTS]


def _holds_place(trial: FrozenTrial) -> bool:
    return REPEATS not in trial.user_attrs and not trial.user_attrs.get(SURPLUS)


def _is_lost(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.FAIL and bool(trial.user_attrs.get(LOST))


def _attempt(trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> int:
    """Which attempt a trial is, counted from 1."""
    count = 1
    while REPEATS in trial.user_attrs:
        trial = trials[trial.user_attrs[REPEATS]]
        count += 1
    return count
