"""The time of ``gyrus auto``: what was used, what each training takes, and the end of one that takes too long."""

from __future__ import annotations

import _thread
import math
import statistics
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from gyrus.serialisation import Saved

RESERVE = 0.06
"""Fraction of the time that is kept for the scores and the report."""

LEAST_RESERVE = 10.0
"""Seconds that are kept for them at least."""

STANDARD_DEVIATIONS = 2.0
"""How much longer than its mean the forecast of trainings is, in standard deviations of their sum."""

UNKNOWN_SPREAD = 0.25
"""Standard deviation of trainings as a fraction of their mean, until there are two to compare."""


@dataclass(frozen=True)
class TimeSheet(Saved):
    """What was done, saved after each training, so that a killed command continues.

    Attributes:
        spent: Seconds used by all calls.
        seconds: Seconds of each finished training, by candidate and the folds that it left out.
        left_out: Candidates that were left out for another reason than their score.
        epochs: Epochs of networks that were shortened to fit the time.
        first: Seconds until the first classifier could be used; None before.
        closing: Seconds that choice, scores and report take by forecast; 0 before that is known.
    """

    SCHEMA: ClassVar[str] = "gyrus.auto_time/1"

    spent: float = 0.0
    seconds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    epochs: Mapping[str, int] = field(default_factory=dict)
    first: float | None = None
    closing: float = 0.0


class Budget:
    """The time that is left, over all calls of one command."""

    def __init__(
        self, minutes: float, path: Path, clock: Callable[[], float] = time.monotonic, begun: float | None = None
    ) -> None:
        """Continue with the time sheet at ``path``, if there is one.

        Args:
            minutes: The time.
            path: The time sheet.
            clock: Gives seconds.
            begun: When this call began, by the clock; None: now.
        """
        self.total = 60.0 * minutes
        self.sheet = TimeSheet.load(path) if path.is_file() else TimeSheet()
        self._path, self._clock = path, clock
        self._before, self._begun = self.sheet.spent, clock() if begun is None else begun

    @property
    def spent(self) -> float:
        """Seconds used so far, those of earlier calls included."""
        return self._before + self._clock() - self._begun

    @property
    def left(self) -> float:
        """Seconds left for trainings: all but those for the choice, the scores and the report."""
        closing = max(RESERVE * self.total, min(max(LEAST_RESERVE, self.sheet.closing), self.total / 2))
        return self.total - closing - self.spent

    def update(self, **changes: object) -> None:
        """Change the time sheet and save it."""
        self.sheet = replace(self.sheet, spent=self.spent, **changes)  # type: ignore[arg-type]
        self.sheet.save(self._path)

    def record(self, name: str, left_out: str, seconds: float) -> None:
        """Note the seconds of a training."""
        known = {candidate: dict(each) for candidate, each in self.sheet.seconds.items()}
        known.setdefault(name, {})[left_out] = seconds
        self.update(seconds=known)

    def leave_out(self, name: str, reason: str) -> None:
        """Note that a candidate is left out, and why."""
        self.update(left_out={**self.sheet.left_out, name: reason})

    def expected(self, name: str) -> float | None:
        """Seconds that a training of a candidate takes: the mean of those so far; None before the first.

        The first one also decodes the images, so that it counts only while it is alone.
        """
        known = self._known(name)
        return statistics.fmean(known) if known else None

    def forecast(self, trainings: Mapping[str, int]) -> float:
        """Seconds that so many further trainings of each candidate take at most, very probably.

        The sum of their means and :data:`STANDARD_DEVIATIONS` of it, as far as the candidates have been trained.
        """
        mean = variance = 0.0
        for name, count in trainings.items():
            known = self._known(name)
            if known:
                each = statistics.fmean(known)
                spread = statistics.stdev(known) if len(known) > 1 else UNKNOWN_SPREAD * each
                mean, variance = mean + count * each, variance + count * spread**2
        return mean + STANDARD_DEVIATIONS * math.sqrt(variance)

    def _known(self, name: str) -> list[float]:
        found = list(self.sheet.seconds.get(name, {}).values())
        return found[1:] or found


class Deadline:
    """Ends what runs in a ``with`` block as Ctrl-C does, if it takes longer than it may.

    The KeyboardInterrupt leaves the block, unless the block finishes at the same moment.
    """

    def __init__(self, seconds: float) -> None:
        """Store the time that the block may take."""
        self._timer = threading.Timer(max(0.0, seconds), self._end)
        self._timer.daemon = True
        self._over = threading.Event()

    @property
    def is_over(self) -> bool:
        """Whether the time was over: a KeyboardInterrupt is then not the user's."""
        return self._over.is_set()

    def __enter__(self) -> Deadline:
        """Start the clock; without effect outside of the main thread, where nothing can be interrupted."""
        if threading.current_thread() is threading.main_thread():
            self._timer.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Stop the clock."""
        self._timer.cancel()
        if self._timer.is_alive() and self._over.is_set():
            self._timer.join(1.0)
        if self._over.is_set() and kind is None:
            with suppress(KeyboardInterrupt):  # the interrupt may still be on its way
                time.sleep(0.1)

    def _end(self) -> None:
        self._over.set()
        _thread.interrupt_main()
