"""How long a computation will take, forecast from its first passes, and a limit on the time of a command."""

from __future__ import annotations

import time
from collections.abc import Callable

from gyrus.errors import ConfigError
from gyrus.workflows.display import Display

FORECAST_AFTER = 2.0
"""Seconds of measured passes before the first forecast."""

WORTH_SAYING = 20.0
"""Seconds from which on a forecast is shown as a line."""


class OutOfTimeError(Exception):
    """A computation does not fit into what is left of the time limit."""


class TimeBudget:
    """The time that a command may take.

    Attributes:
        minutes: The limit; None for none.
    """

    def __init__(self, minutes: float | None, display: Display, clock: Callable[[], float] = time.monotonic) -> None:
        """Start the clock.

        Raises:
            ConfigError: The limit is not above 0.
        """
        if minutes is not None and not minutes > 0:
            raise ConfigError(f"`minutes` must be above 0, got {minutes:g}.")
        self.minutes = minutes
        self._display = display
        self._clock = clock
        self._start = clock()

    @property
    def seconds_left(self) -> float:
        """Seconds that are left; infinite without a limit."""
        return float("inf") if self.minutes is None else 60 * self.minutes - (self._clock() - self._start)

    def watch(self, title: str, show: Callable[[int, int], None]) -> Callable[[int, int], None]:
        """A function of the number of passes done and in total, that shows them and forecasts the remaining time.

        It raises OutOfTimeError as soon as the forecast exceeds what is left, so that no time is spent on a result that
        would not be finished.

        Args:
            title: What is computed, as the start of a sentence.
            show: Shows both numbers.
        """
        first: tuple[float, int] | None = None
        said = False

        def progress(done: int, total: int) -> None:
            nonlocal first, said
            show(done, total)
            now, left = self._clock(), self.seconds_left
            if first is None:  # the first pass also prepares memory
                first = now, done
            seconds, passes = now - first[0], done - first[1]
            measured = seconds >= FORECAST_AFTER and passes > 0
            remaining = seconds / passes * (total - done) if measured else 0.0
            if done < total and (remaining > left or left <= 0):
                forecast = f"needs {duration(remaining)} more" if measured else "has only begun"
                raise OutOfTimeError(
                    f"{title} is left out: it {forecast}, and of the time limit of {self.minutes:g} minutes "
                    f"{duration(max(left, 0))} are left"
                )
            if remaining > WORTH_SAYING and not said:
                said = True
                self._display.say(f"{title}: about {duration(remaining)}.")

        return progress


def duration(seconds: float) -> str:
    """A time in words, rounded: "40 s", "12 min", "3 h 20 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
