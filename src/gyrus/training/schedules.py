"""Learning rates over time, as pure functions: nothing to save, nothing to restore.

Time is counted in epochs, as a float: after 30 of 100 steps of the third epoch it is 2.3.
"""

from __future__ import annotations

import math

from gyrus.training.config import Constant, Cosine, Schedule


def factor(schedule: Schedule, time: float, epochs: int) -> float:
    """What the peak learning rate is multiplied with.

    Args:
        schedule: The settings.
        time: Epochs done so far.
        epochs: Epochs in all.
    """
    match schedule:
        case Constant():
            return _warmup(schedule, time)
        case Cosine():
            time = math.floor(time) if schedule.every == "epoch" else time
            return _warmup(schedule, time) if time < schedule.warmup_epochs else _cosine(schedule, time, epochs)


def _warmup(schedule: Constant | Cosine, time: float) -> float:
    if time >= schedule.warmup_epochs:
        return 1.0
    return schedule.warmup_start + (1 - schedule.warmup_start) * time / schedule.warmup_epochs


def _cosine(schedule: Cosine, time: float, epochs: int) -> float:
    done = (time - schedule.warmup_epochs) / max(epochs - schedule.warmup_epochs, 1e-9)
    return schedule.final_share + (1 - schedule.final_share) * (1 + math.cos(math.pi * min(done, 1.0))) / 2
