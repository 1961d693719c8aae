"""Learning rate schedules, as functions of step and history, so that they have no state to save."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gyrus.training.config import SWA, Constant, Cosine, OneCycle, Plateau, TrainingConfig
from gyrus.training.history import History, goodness


@dataclass(frozen=True)
class Moment:
    """A position in a training.

    Attributes:
        step: Optimiser steps so far.
        steps_per_epoch: Optimiser steps in every epoch.
        epochs: Total number of epochs.
    """

    step: int
    steps_per_epoch: int
    epochs: int

    @property
    def epoch(self) -> int:
        """Complete epochs."""
        return self.step // self.steps_per_epoch

    def time(self, every: str = "step") -> float:
        """Epochs so far, including the fraction of the current one unless ``every`` is "epoch"."""
        return self.epoch if every == "epoch" else self.step / self.steps_per_epoch


def constant(schedule: Constant, moment: Moment, _: History) -> float:
    """1 after the warm-up."""
    return _warmup(schedule, moment.time(schedule.every))


def cosine(schedule: Cosine, moment: Moment, _: History) -> float:
    """LinearLR followed by CosineAnnealingLR of PyTorch, but also defined between epochs."""
    time = moment.time(schedule.every)
    if time < schedule.warmup_epochs:
        return _warmup(schedule, time)
    falling = moment.epochs * schedule.length - schedule.warmup_epochs
    done = (time - schedule.warmup_epochs) / falling if falling > 0 else 1.0
    return _half_cosine(1.0, schedule.final_share, done)


def one_cycle(schedule: OneCycle, moment: Moment, _: History) -> float:
    """OneCycleLR of PyTorch with its default, cosine annealing."""
    last = max(round(moment.epochs * moment.steps_per_epoch * schedule.length) - 1, 0)
    peak = max(schedule.rise * (last + 1) - 1, 0.0)
    first = 1 / schedule.start_divisor
    if moment.step < peak:
        return _half_cosine(first, 1.0, moment.step / peak)
    return _half_cosine(1.0, first / schedule.final_divisor, (moment.step - peak) / max(last - peak, 1.0))


def plateau(schedule: Plateau, _: Moment, history: History) -> float:
    """ReduceLROnPlateau of PyTorch with a relative threshold, replayed over the complete epochs."""
    factor, best, waited, cooldown = 1.0, -math.inf, 0, 0
    for row in history.rows:
        score = goodness(row, schedule.monitor)
        if score > (best + schedule.threshold * abs(best) if math.isfinite(best) else best):
            best, waited = score, 0
        else:
            waited += 1
        if cooldown:
            cooldown, waited = cooldown - 1, 0
        if waited > schedule.patience:
            factor, waited, cooldown = max(factor * schedule.factor, schedule.min_share), 0, schedule.cooldown
    return factor


SCHEDULES: dict[str, Callable[[Any, Moment, History], float]] = {
    "constant": constant,
    "cosine": cosine,
    "one_cycle": one_cycle,
    "plateau": plateau,
}


def learning_rate_factor(config: TrainingConfig, moment: Moment, history: History) -> float:
    """The learning rate at a moment, as a fraction of the peak."""
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
    """From ``start`` to ``end``, where ``done`` is the completed fraction."""
    return end + (start - end) * (1 + math.cos(math.pi * min(done, 1.0))) / 2
