"""The trials of a study: the storage that holds them, and the queue by which any number of workers share them.

Workers communicate only through the storage of the study, which keeps the trials in one order. From that order all
workers reach the same decisions, so that each trial is run once, even if workers die:

- The first N trials that are not repetitions are the budget. A worker whose trial comes after them, because another
  worker was faster, marks it as surplus.
- A worker updates the heartbeat of its trial regularly. If the heartbeat does not change for some time, measured by the
  clock of the observing worker, the trial is lost; clocks of different machines are never compared.
- A lost trial is repeated with the same values by a new trial that refers to it. If two workers repeat it at the same
  moment, the later repetition is surplus.

Optuna's own heartbeat supports databases only; this one works with every storage.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import optuna
from optuna import Study
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy import NullPool
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from gyrus.errors import ConfigError, GyrusError
from gyrus.extras import missing_dependency
from gyrus.redaction import without_secrets

JOURNALS = (".log", ".journal")
POSTGRESQL = ("postgresql://", "postgres://", "postgresql+psycopg://")

CREATION_ATTEMPTS = 10
"""Attempts to create the tables of a database while another worker creates them."""

STORAGE_ERRORS = (StorageInternalError, SQLAlchemyError, OSError)
"""What Optuna raises when a storage fails: a full disk, a lost connection, a removed file."""

BEAT, LOST, SURPLUS, REPEATS, ORIGIN = "beat", "lost", "surplus", "repeats", "origin"
"""Names of the trial attributes through which workers communicate."""

ATTEMPTS = 4
"""Number of attempts after which a trial is abandoned, because its values seem to kill the worker."""


def open_storage(place: str | None, folder: Path) -> BaseStorage:
    """Open or create the storage of studies.

    Args:
        place: ``postgresql://user:password@host/database``; the path of a journal (``.log`` or ``.journal``), which
            workers on several machines can share over a network file system; the path of a SQLite file (``.db``); or
            None for ``study.db`` in the folder.
        folder: The folder of the study.

    Raises:
        ConfigError: The place has another form.
        GyrusError: The database cannot be reached, or the file is not a database.
        MissingDependencyError: The PostgreSQL driver is not installed.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    text = _address(place, folder)
    if not text.startswith(POSTGRESQL) and Path(text).suffix not in (*JOURNALS, ".db"):
        raise ConfigError(
            f"--storage '{without_secrets(text)}' must be postgresql://user:password@host/database, a journal file "
            "(.log) or a SQLite file (.db)."
        )
    try:
        return _open(text)
    except (ValueError, RuntimeError, *STORAGE_ERRORS) as error:
        raise _unusable(text, error) from error


@contextmanager
def storage_in_use(place: str | None, folder: Path) -> Iterator[None]:
    """Report a storage that fails inside the block, such as a full disk or a lost database.

    Args:
        place: As for :func:`open_storage`.
        folder: The folder of the study.

    Raises:
        GyrusError: The storage fails.
    """
    try:
        yield
    except (StorageInternalError, SQLAlchemyError) as error:
        raise _unusable(_address(place, folder), error) from error


def _address(place: str | None, folder: Path) -> str:
    return str(folder / "study.db") if place is None else str(place)


def _unusable(text: str, error: BaseException) -> GyrusError:
    while isinstance(error, StorageInternalError) and error.__cause__:  # the reason of the database
        error = error.__cause__
    reason = str(error).strip().partition("\n")[0].rstrip(".")
    message = f"Cannot use the storage {text}: {reason}. When it works again, the same command continues the study."
    return GyrusError(without_secrets(message))


def _open(text: str) -> BaseStorage:
    if text.startswith(POSTGRESQL):
        if find_spec("psycopg") is None:
            raise missing_dependency("A study in PostgreSQL", "postgresql")
        # A worker trains for minutes between two queries, and keeps no connection open meanwhile.
        return _database(f"postgresql+psycopg://{text.partition('://')[2]}", {"poolclass": NullPool})
    path = Path(text)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix in JOURNALS:
        return JournalStorage(JournalFileBackend(str(path)))
    return _database(f"sqlite:///{path}", {"connect_args": {"timeout": 60}})


def _database(url: str, options: dict[str, Any]) -> BaseStorage:
    """Open a database whose tables another worker may be creating at this moment."""
    for _ in range(CREATION_ATTEMPTS):
        try:
            return RDBStorage(url, engine_kwargs=options)
        except SQLAlchemyError as error:
            if not isinstance(error, IntegrityError) and "already exists" not in str(error):
                raise
            time.sleep(0.5)
    return RDBStorage(url, engine_kwargs=options)


class TrialQueue:
    """The trials of a study, shared by its workers."""

    def __init__(self, study: Study, storage: BaseStorage, trials: int, *, lost_after: float = 120.0) -> None:
        """Store the arguments.

        Args:
            study: The study.
            storage: Its storage.
            trials: Number of trials of all workers together.
            lost_after: Seconds without a heartbeat after which a trial counts as lost.
        """
        self._study = study
        self._storage = storage
        self._budget = trials
        self._lost_after = lost_after
        self._beats: dict[int, tuple[object, float]] = {}

    @property
    def pause(self) -> float:
        """Seconds between two heartbeats, and between two checks of those of others."""
        return self._lost_after / 6

    def claim(self) -> Trial | None:
        """The next trial to run; None if there is none at the moment."""
        self.repeat_lost()
        while True:
            trials = self._study.get_trials(deepcopy=False)
            waiting = any(trial.state == TrialState.WAITING for trial in trials)
            if not waiting and sum(map(_counts, trials)) >= self._budget:
                return None
            trial = self._study.ask()
            if not self._is_surplus(trial.number):
                return trial
            trial.set_user_attr(SURPLUS, True)
            self._study.tell(trial, state=TrialState.FAIL)

    def is_over(self) -> bool:
        """Whether all trials are finished and none must be repeated."""
        trials = self._study.get_trials(deepcopy=False)
        unfinished = any(not trial.state.is_finished() for trial in trials)
        return not unfinished and not self._to_repeat(trials) and sum(map(_counts, trials)) >= self._budget

    def repeat_lost(self) -> None:
        """Find the trials of dead workers, and enqueue a repetition of each lost trial."""
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
        """Return an unfinished trial, so that it is repeated."""
        self._lose(trial.number)
        self.repeat_lost()

    @contextmanager
    def alive(self, trial: Trial) -> Iterator[None]:
        """Send heartbeats inside this context."""
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
                return  # counted as lost by another worker
            except STORAGE_ERRORS:
                continue  # the database may recover before the trial counts as lost

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
        return sum(map(_counts, trials[: origin(trial)])) < self._budget


def rank(study: Study, trial: FrozenTrial) -> int:
    """Number of earlier trials that are not repetitions."""
    return sum(map(_counts, study.get_trials(deepcopy=False)[: trial.number]))


def origin(trial: Trial | FrozenTrial) -> int:
    """The number of the trial that this one repeats, directly or indirectly; its own number if it repeats none."""
    return int(trial.user_attrs.get(ORIGIN, trial.number))


def finished(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The finished trials, complete or pruned, each configuration once."""
    return [trial for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]


def abandoned(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials that were lost in every attempt."""
    return [trial for trial in trials if _is_lost(trial) and _attempt(trial, trials) >= ATTEMPTS]


def _counts(trial: FrozenTrial) -> bool:
    return REPEATS not in trial.user_attrs and not trial.user_attrs.get(SURPLUS)


def _is_lost(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.FAIL and bool(trial.user_attrs.get(LOST))


def _attempt(trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> int:
    """The number of an attempt, from 1."""
    count = 1
    while REPEATS in trial.user_attrs:
        trial = trials[trial.user_attrs[REPEATS]]
        count += 1
    return count
