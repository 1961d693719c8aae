"""The forecast of trainings, and the time that is kept for what comes after them, by a clock that is set."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from gyrus.auto.budget import LEAST_RESERVE, RESERVE, UNKNOWN_SPREAD, Budget
from gyrus.auto.trainings import TimeOverError, Trainings


class Clock:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def budget_of(tmp_path, clock: Clock, seconds: Sequence[float], minutes: float = 10.0) -> Budget:
    budget = Budget(minutes, tmp_path / "time.json", clock)
    for number, each in enumerate(seconds):
        budget.record("net", str(number), each)
    return budget


def test_the_forecast_includes_the_spread_of_earlier_trainings(tmp_path, clock):
    budget = budget_of(tmp_path, clock, [90, 20, 30, 40])  # the first also decodes the images
    assert budget.expected("net") == 30
    assert budget.forecast({"net": 1}) == pytest.approx(30 + 2 * 10)
    assert budget.forecast({"net": 4, "unknown": 9}) == pytest.approx(4 * 30 + 2 * 10 * 2)
    assert budget.forecast({"net": 0}) == 0


def test_one_training_is_expected_to_vary(tmp_path, clock):
    assert budget_of(tmp_path, clock, [40]).forecast({"net": 1}) == pytest.approx(40 * (1 + 2 * UNKNOWN_SPREAD))


def test_what_comes_after_the_trainings_has_its_time_and_is_remembered(tmp_path, clock):
    budget = budget_of(tmp_path, clock, [])
    assert budget.left == pytest.approx(600 * (1 - RESERVE))
    budget.update(closing=80.0)
    clock.now = 100.0
    assert budget.left == pytest.approx(600 - 80 - 100)
    budget.update()
    assert Budget(10, tmp_path / "time.json", clock).left == pytest.approx(600 - 80 - 100)
    assert Budget(1, tmp_path / "other.json", clock).left == pytest.approx(60 - LEAST_RESERVE)
    budget.update(closing=1e6)
    assert budget.left == pytest.approx(600 / 2 - 100)


def test_a_training_that_would_end_too_late_does_not_start(tmp_path, clock, monkeypatch):
    """The mean of those before it would fit, and the longest of them would not."""
    budget = budget_of(tmp_path, clock, [60, 40, 40, 100])
    started: list[str] = []
    trainings = object.__new__(Trainings)
    trainings._budget, trainings.folder = budget, tmp_path / "candidates"
    monkeypatch.setattr(trainings, "_start", lambda *_: started.append("net"), raising=False)
    monkeypatch.setattr("gyrus.auto.trainings.finish_run", lambda _, start, **__: start())
    clock.now = 600 * (1 - RESERVE) - 90
    assert budget.expected("net") < budget.left < 100
    with pytest.raises(TimeOverError):
        trainings.train("net", (0,))
    assert not started
    clock.now -= 60
    trainings.train("net", (0,))
    assert started
