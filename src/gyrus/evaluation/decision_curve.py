"""Whether acting on the classifier does more good than acting on nobody or on everybody.

Whoever would act from a probability of 20 % on holds a missed case four times as bad as a needless action. Net benefit
counts the good in true positives, less the harm of needless actions at that rate of exchange (Vickers and Elkin 2006).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gyrus.errors import ConfigError
from gyrus.evaluation.intervals import IntervalNotes
from gyrus.evaluation.result import Estimate
from gyrus.evaluation.sampling import USUAL, BootstrapConfig, clusters_of, estimate_all
from gyrus.evaluation.thresholds import checked_positive, is_positive, positive_scores
from gyrus.inference.predictions import Predictions

Floats = npt.NDArray[np.float64]

THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 20))
"""Where the curve is drawn by default: 5 %, 10 %, ..., 95 %."""


@dataclass(frozen=True)
class DecisionPoint:
    """Net benefit for those who act from one probability on.

    Attributes:
        threshold: The probability.
        model: Net benefit of acting on the classifier.
        everybody: Net benefit of acting on everybody; that of acting on nobody is 0.
        gain: That of the classifier less the better one of those two.
    """

    threshold: float
    model: Estimate
    everybody: float
    gain: Estimate


@dataclass(frozen=True)
class DecisionCurve:
    """Net benefit by threshold, for one set of positive classes."""

    positive: tuple[str, ...]
    points: tuple[DecisionPoint, ...]


def decision_curve(
    predictions: Predictions,
    positive: Sequence[str],
    thresholds: Sequence[float] = THRESHOLDS,
    sampling: BootstrapConfig = USUAL,
) -> DecisionCurve:
    """The decision curve of a classifier.

    Args:
        predictions: Every row with its true class; rows of one subject are resampled together.
        positive: The classes that count as positive, some but not all.
        thresholds: Probabilities in (0, 1) from which on one would act.
        sampling: How intervals are made.

    Raises:
        ConfigError: A threshold is out of range, or the positive classes are none or all.
    """
    if not all(0 < threshold < 1 for threshold in thresholds):
        raise ConfigError(f"Thresholds of a decision curve must lie in (0, 1), got {list(thresholds)}.")
    names = checked_positive(predictions.classes, positive)
    limits = np.asarray(thresholds, dtype=np.float64)
    truth, odds = is_positive(predictions, names), limits / (1 - limits)
    worth = np.where(truth[:, None], 1.0, -odds)
    acted = np.where(positive_scores(predictions, names)[:, None] >= limits, worth, 0.0)
    rows = np.concatenate([acted, worth, np.ones((len(truth), 1))], axis=1)

    def benefits(sums: Floats) -> Floats:
        model, everybody = np.split(sums[..., :-1] / sums[..., -1:], 2, axis=-1)
        return np.concatenate([model, model - np.maximum(everybody, 0.0)], axis=-1)

    words = IntervalNotes("there is nobody to judge", "")
    found = estimate_all(rows, clusters_of(predictions), benefits, sampling, words)
    every = worth.mean(axis=0)
    return DecisionCurve(
        names,
        tuple(
            DecisionPoint(float(limit), found[index], float(every[index]), found[len(limits) + index])
            for index, limit in enumerate(limits)
        ),
    )
