"""Learning rates over time, as pure functions of the moment and the history: nothing to save, nothing to restore."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gyrus.training.config import SWA, Constant, Cosine, OneCycle, Plateau, TrainingConfig
from gyrus.training.history import History, goodness


@dataclass(frozen=True)
class Moment:
    """A point in a training.

    Attributes:
        step: Optimiser steps made so far.
        steps_per_epoch: Of every epoch.
        epochs: Epochs in all.
    """

    step: int
    steps_per_epoch: int
    epochs: int

    @property
    def epoch(self) -> int:
        """Epochs that are over."""
        return self.step // self.steps_per_epoch

    def time(self, every: str = "step") -> float:
        """Epochs so far, with their fraction unless counted by whole epochs."""
        return self.epoch if every == "epoch" else self.step / self.steps_per_epoch


def constant(schedule: Constant, moment: Moment, _: History) -> float:
    """1 after the warm-up."""
    return _warmup(schedule, moment.time(schedule.every))


def cosine(schedule: Cosine, moment: Moment, _: History) -> float:
    """As PyTorch's LinearLR followed by CosineAnnealingLR, but also between epochs."""
    time = moment.time(schedule.every)
    if time < schedule.warmup_epochs:
        return _warmup(schedule, time)
    falling = moment.epochs * schedule.length - schedule.warmup_epochs
    done = (time - schedule.warmup_epochs) / falling if falling > 0 else 1.0
    return _half_cosine(1.0, schedule.final_share, done)


def one_cycle(schedule: OneCycle, moment: Moment, _: History) -> float:
    """As PyTorch's OneCycleLR with its default, the cosine."""
    last = max(round(moment.epochs * moment.steps_per_epoch * schedule.length) - 1, 0)
    peak = max(schedule.rise * (last + 1) - 1, 0.0)
    first = 1 / schedule.start_divisor
    if moment.step < peak:
        return _half_cosine(first, 1.0, moment.step / peak)
    return _half_cosine(1.0, first / schedule.final_divisor, (moment.step - peak) / max(last - peak, 1.0))


def plateau(schedule: Plateau, _: Moment, history: History) -> float:
    """As PyTorch's ReduceLROnPlateau with a relative threshold, replayed over the epochs that are over."""
    share, best, waited, resting = 1.0, -math.inf, 0, 0
    for row in history.rows:
        score = goodness(row, schedule.monitor)
        if score > (best + schedule.threshold * abs(best) if math.isfinite(best) else best):
            best, waited = score, 0
        else:
            waited += 1
        if resting:
            resting, waited = resting - 1, 0
        if waited > schedule.patience:
            share, waited, resting = max(share * schedule.factor, schedule.min_share), 0, schedule.cooldown
    return share


SCHEDULES: dict[str, Callable[[Any, Moment, History], float]] = {
    "constant": constant,
    "cosine": cosine,
    "one_cycle": one_cycle,
    "plateau": plateau,
}


def learning_rate_factor(config: TrainingConfig, moment: Moment, history: History) -> float:
    """What the peak learning rate is multiplied with at a moment."""
    schedule = SCHEDULES[config.schedule.name]
    averaging = config.averaging
    if not isinstance(averaging, SWA) or moment.epoch < first_swa_epoch(averaging, moment.epochs):
        return schedule(config.schedule, moment, history)
    start = first_swa_epoch(averaging, moment.epochs)
    before = Moment(start * moment.steps_per_epoch, moment.steps_per_epoch, moment.epochs)
    done = (moment.epoch - start) / averaging.anneal_epochs
    return _half_cosine(schedule(config.schedule, before, History(history.rows[:start])), averaging.lr_share, done)


def first_swa_epoch(averaging: SWA, epochs: int) -> int:
    """The first epoch, counted from 0, whose weights are averaged."""
    return int(averaging.start * epochs)


def _warmup(schedule: Constant | Cosine, time: float) -> float:
    if time >= schedule.warmup_epochs:
        return 1.0
    return schedule.warmup_start + (1 - schedule.warmup_start) * time / schedule.warmup_epochs


def _half_cosine(start: float, end: float, done: float) -> float:
    """From ``start`` to ``end``, ``done`` being the share of the way."""
    return end + (start - end) * (1 + math.cos(math.pi * min(done, 1.0))) / 2
