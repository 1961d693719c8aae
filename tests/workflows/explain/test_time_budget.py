"""Forecasts and the time limit of an explanation."""

from __future__ import annotations

import pytest

from gyrus.errors import ConfigError
from gyrus.workflows.display import Silent
from gyrus.workflows.explain.time_budget import OutOfTimeError, TimeBudget, duration


class Recorder(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_long_computation_is_forecast_once_from_its_first_passes() -> None:
    clock, display, shown = Clock(), Recorder(), []
    progress = TimeBudget(None, display, clock).watch("Occlusion", lambda *numbers: shown.append(numbers))
    clock.now = 9.0  # the first pass took long, and is not counted
    for done in range(10, 60, 10):
        progress(done, 1000)
        clock.now += 3.0
    assert display.lines == ["Occlusion: about 5 min."]  # 980 passes of 0.3 s
    assert shown[-1] == (50, 1000)

    short = Recorder()
    progress = TimeBudget(None, short, clock).watch("RISE", lambda *_: None)
    for done in (10, 20, 30):
        progress(done, 30)
        clock.now += 3.0
    assert short.lines == []


def test_what_would_exceed_the_limit_is_given_up_at_once() -> None:
    clock = Clock()
    progress = TimeBudget(2, Recorder(), clock).watch("Occlusion", lambda *_: None)
    clock.now = 30.0
    progress(10, 1000)
    clock.now = 33.0
    with pytest.raises(
        OutOfTimeError,
        match="Occlusion is left out: it needs 5 min more, and of the time limit of 2 minutes 87 s are left",
    ):
        progress(20, 1000)


def test_what_fits_or_has_finished_is_kept_and_nothing_begins_after_the_limit() -> None:
    clock = Clock()
    budget = TimeBudget(1, Recorder(), clock)
    progress = budget.watch("Occlusion", lambda *_: None)
    for done in (10, 20):
        progress(done, 30)
        clock.now += 25.0
    clock.now = 61.0
    progress(30, 30)
    with pytest.raises(OutOfTimeError, match=r"RISE is left out: it has only begun, .* 1 minutes 0 s are left"):
        budget.watch("RISE", lambda *_: None)(1, 30)


def test_durations_and_limits() -> None:
    assert [duration(seconds) for seconds in (40, 720, 12000)] == ["40 s", "12 min", "3 h 20 min"]
    for wrong in (0, -1, float("nan")):
        with pytest.raises(ConfigError, match="above 0"):
            TimeBudget(wrong, Silent())
