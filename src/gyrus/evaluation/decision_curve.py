"""Decision curve analysis: net benefit of acting on the classifier, compared with treating all or none.

Whoever acts from a probability of 20 % on considers a missed case four times as bad as a needless action. Net benefit
counts true positives minus needless actions at that exchange rate (Vickers and Elkin 2006).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt

from gyrus.errors import ConfigError
from gyrus.evaluation.bootstrap import (
    DEFAULT_BOOTSTRAP,
    BootstrapConfig,
    IntervalNotes,
    cluster_indices,
    estimate_from_sums,
)
from gyrus.evaluation.result import Estimate
from gyrus.evaluation.thresholds import checked_positive, is_positive, positive_scores
from gyrus.inference.predictions import Predictions
from gyrus.serialisation import renamed

Floats = npt.NDArray[np.float64]

THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 20))
"""Threshold probabilities of the curve by default: 5 %, 10 %, ..., 95 %."""


@dataclass(frozen=True)
class DecisionPoint:
    """Net benefit at one threshold probability.

    Attributes:
        threshold: The probability from which on one would act.
        model: Net benefit of acting on the classifier.
        treat_all: Net benefit of treating all; that of treating none is 0.
        gain: Net benefit of the classifier minus the better of those two.
    """

    threshold: float
    model: Estimate
    treat_all: Annotated[float, renamed("treat_all", "everybody")]
    gain: Estimate


@dataclass(frozen=True)
class DecisionCurve:
    """Net benefit by threshold probability, for one set of positive classes."""

    positive: tuple[str, ...]
    points: tuple[DecisionPoint, ...]


def decision_curve(
    predictions: Predictions,
    positive: Sequence[str],
    thresholds: Sequence[float] = THRESHOLDS,
    bootstrap: BootstrapConfig = DEFAULT_BOOTSTRAP,
) -> DecisionCurve:
    """The decision curve of a classifier.

    Args:
        predictions: Every row with its true class; rows of one subject are resampled together.
        positive: The classes that count as positive, some but not all.
        thresholds: Threshold probabilities in (0, 1).
        bootstrap: How intervals are computed.

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
        model, treat_all = np.split(sums[..., :-1] / sums[..., -1:], 2, axis=-1)
        return np.concatenate([model, model - np.maximum(treat_all, 0.0)], axis=-1)

    notes = IntervalNotes("no rows to evaluate", "")
    found = estimate_from_sums(rows, cluster_indices(predictions), benefits, bootstrap, notes)
    treat_all = worth.mean(axis=0)
    return DecisionCurve(
        names,
        tuple(
            DecisionPoint(float(limit), found[index], float(treat_all[index]), found[len(limits) + index])
            for index, limit in enumerate(limits)
        ),
    )
