"""Intervals of scores that are the same in every resample, such as the accuracy of a classifier that is always right.

All resamples of 8 correct predictions are correct, so the bootstrap would report that nothing is uncertain. What is
known then is one event: each of n independent subjects did the same. If a subject does so with probability p, that
event has probability p**n, and it is plausible (at least ``tail``) only where ``p >= tail**(1/n)``. Every limit here
rests on that: the limit of a score is its worst value among all populations in which what was seen is plausible. For
one proportion this is the interval of Clopper and Pearson (1934). For other scores it is the limit of Buehler (1957),
"Confidence intervals for the product of two binomial parameters", or one that is wider.

A subject counts as one observation, however many slices it has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import scipy  # loads its submodules on first use

from gyrus.evaluation.metrics import ORDERED_METRICS, Reference
from gyrus.evaluation.result import Estimate

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Limits = tuple[float, float]

EXACT_NOTE = "exact interval of Clopper and Pearson, because the fraction is 0 or 1"
BOUND_NOTE = "conservative bound, because resampling does not measure the uncertainty here"


def smallest_probability(number: float, level: float) -> float:
    """The smallest plausible probability of what all of ``number`` subjects did; 0 for no subjects.

    Args:
        number: Independent subjects.
        level: Confidence level of a two-sided interval, for example 0.95.
    """
    return float(((1 - level) / 2) ** (1 / number)) if number else 0.0


def exact_fraction(value: float, number: int, level: float) -> Estimate:
    """A fraction of exactly 0 or 1 of ``number`` subjects, with the interval of Clopper and Pearson."""
    return Estimate(value, *_mirrored(value, smallest_probability(number, level)), EXACT_NOTE, "exact")


def bounded_mean(value: float, number: int, level: float, lowest: float, highest: float) -> Estimate:
    """A mean over subjects that all have the same value, of a quantity between two bounds."""
    same = smallest_probability(number, level)
    low, high = (same * value + (1 - same) * bound for bound in (lowest, highest))
    return Estimate(value, low, high, BOUND_NOTE, "bound")


def area_limits(value: float, positives: int, others: int, level: float) -> Limits:
    """Limits of an area of exactly 0 or 1 under the ROC curve.

    Pairs of one subject of the class and one of the rest, no subject in two pairs, are independent, and each is ranked
    correctly with the probability that the area is. So all ``min(positives, others)`` of them are ranked correctly
    with probability ``area**min(positives, others)``. No limit can be closer: perfect ranking has just this
    probability where the rest of the smaller group lies on the wrong side of all of the larger one.
    """
    return _mirrored(value, smallest_probability(min(positives, others), level))


def average_precision_limits(positives: int, others: int, level: float) -> Limits:
    """Limits of an average precision of exactly 1, at the prevalence of these subjects.

    Let u be the sensitivity at a threshold and r(u) the false positive rate there. All positives score above all others
    with a probability of at most ``u**m + (1 - u**m) * (1 - r(u))**n``, for every u. Where that is plausible, r(u) has
    an upper limit, so the precision has a lower one; the average precision is its mean over u.
    """
    tail, prevalence = (1 - level) / 2, positives / (positives + others)

    def precision(sensitivity: float) -> float:
        missed = sensitivity**positives
        alarms = 1 - ((tail - missed) / (1 - missed)) ** (1 / others)
        return prevalence * sensitivity / (prevalence * sensitivity + (1 - prevalence) * alarms)

    return float(scipy.integrate.quad(precision, 0, tail ** (1 / positives))[0]), 1.0


def mean_limits(values: Sequence[float], numbers: Sequence[float], level: float) -> Limits:
    """Limits of the mean of independent fractions that are each 0 or 1, such as the recalls of the classes.

    The lower limit minimises the mean over all fractions p with a plausible product of ``p**number`` over those that
    are 1. Its minimum has ``p = min(1, scale * number)`` for one ``scale``, by the conditions of Karush, Kuhn and
    Tucker. The upper limit is that of the complements of those that are 0.

    Args:
        values: Each 0 or 1, shape (K,).
        numbers: The number of subjects of each fraction, shape (K,); 0 where nothing is known of it.
        level: Confidence level.
    """
    ones = [number for value, number in zip(values, numbers, strict=True) if value == 1]
    zeros = [number for value, number in zip(values, numbers, strict=True) if value == 0]
    lowest, highest = _smallest_sum(ones, level), len(values) - _smallest_sum(zeros, level)
    return lowest / len(values), highest / len(values)


def _smallest_sum(numbers: Sequence[float], level: float) -> float:
    known = np.array([number for number in numbers if number > 0])
    if not len(known):
        return 0.0
    goal = np.log((1 - level) / 2)

    def excess(log_scale: float) -> float:
        return float((known * np.minimum(0.0, log_scale + np.log(known))).sum() - goal)

    # Without the minimum with 0 the root would be the first end; the minimum can only lower the sum there.
    ends = (goal - (known * np.log(known)).sum()) / known.sum() - 1e-9, -np.log(known.min())
    scale = np.exp(scipy.optimize.brentq(excess, *ends))
    return float(np.minimum(1.0, scale * known).sum())


def _fraction(value: float, number: int, level: float) -> Estimate | None:
    """A fraction of images that is the same in every resample of ``number`` subjects; None where nothing is known."""
    if value in (0.0, 1.0):
        return exact_fraction(value, number, level) if number else None
    return bounded_mean(value, number, level, 0.0, 1.0) if number == 1 else None


def _mirrored(value: float, lowest: float) -> Limits:
    """The limits of 1, or those of 0."""
    return (lowest, 1.0) if value == 1 else (0.0, 1 - lowest)


@dataclass(frozen=True)
class ConstantScores:
    """Scores that may be the same in every resample, and the numbers of subjects behind them.

    Attributes:
        by_class: By name of :data:`gyrus.evaluation.metrics.CLASS_METRICS`, shape (K,).
        true: The number of subjects of each class, shape (K,).
        others: The number of subjects with a row of another class, shape (K,); a subject whose label changes between
            visits is in both numbers.
        predicted: The number of subjects with a prediction of each class, shape (K,).
        involved: The number of subjects that are of a class or predicted as it, shape (K,).
        gains: Of each subject: its accuracy minus that of always predicting the majority class, shape (S,).
        sides: Of ordered classes: the number of subjects below and above each cut, K - 1 pairs.
        cut_auc: Of ordered classes: the area under the ROC curve at each cut, shape (K - 1,).
        reference: The classes to average over.
        level: Confidence level.
    """

    by_class: dict[str, Floats]
    true: Integers
    others: Integers
    predicted: Integers
    involved: Integers
    gains: Floats
    reference: Reference
    level: float
    sides: tuple[tuple[int, int], ...] = ()
    cut_auc: Floats = field(default_factory=lambda: np.empty(0))

    def overall(self, metric: str, value: float) -> Estimate | None:
        """The interval of a metric of :data:`gyrus.evaluation.metrics.ALL_METRICS`; None where there is none."""
        subjects = len(self.gains)
        if metric == "accuracy":
            return _fraction(value, subjects, self.level)
        if metric == "accuracy_gain":
            same = bool((self.gains == value).all())
            return bounded_mean(value, subjects, self.level, -1.0, 1.0) if same else None
        if metric in ORDERED_METRICS:
            return self._of_stages(metric, value)
        name = {"balanced_accuracy": "recall"}.get(metric, metric.removeprefix("macro_"))
        present = np.flatnonzero(self.reference.present)
        values = self.by_class[name][present]
        if not np.isin(values, (0.0, 1.0)).all():
            return None
        if name in self._fractions:
            limits = mean_limits(values.tolist(), self._fractions[name][present].tolist(), self.level)
            return Estimate(value, *limits, BOUND_NOTE, "bound")
        found = [self._limits(name, int(index)) for index in present]
        if any(each is None for each in found):
            return None
        low, high = np.mean([each for each in found if each is not None], axis=0)
        return Estimate(value, float(low), float(high), BOUND_NOTE, "bound")

    def of_class(self, metric: str, index: int) -> Estimate | None:
        """The interval of a metric of :data:`gyrus.evaluation.metrics.CLASS_METRICS`; None where there is none."""
        value = float(self.by_class[metric][index])
        if metric in self._fractions:
            return _fraction(value, int(self._fractions[metric][index]), self.level)
        limits = self._limits(metric, index) if value in (0.0, 1.0) else None
        return None if limits is None else Estimate(value, *limits, BOUND_NOTE, "bound")

    def of_cut(self, index: int) -> Estimate | None:
        """The interval of the area at a cut between ordered classes; None where there is none."""
        value = float(self.cut_auc[index])
        if value not in (0.0, 1.0):
            return None
        below, above = self.sides[index]
        return Estimate(value, *area_limits(value, above, below, self.level), BOUND_NOTE, "bound")

    def _of_stages(self, metric: str, value: float) -> Estimate | None:
        """The interval of a metric of ordered classes; kappa and concordance have none."""
        if metric == "stage_error" and value == 0:
            return bounded_mean(value, len(self.gains), self.level, 0.0, len(self.cut_auc))
        if metric != "cut_auc":
            return None
        cuts = np.flatnonzero(self.reference.cuts)
        if not np.isin(self.cut_auc[cuts], (0.0, 1.0)).all():
            return None
        limits = [area_limits(self.cut_auc[cut], *self.sides[cut][::-1], self.level) for cut in cuts]
        low, high = np.mean(limits, axis=0)
        return Estimate(value, float(low), float(high), BOUND_NOTE, "bound")

    @property
    def _fractions(self) -> dict[str, Integers]:
        """The denominators of the scores that are fractions of subjects."""
        return {"recall": self.true, "precision": self.predicted}

    def _limits(self, metric: str, index: int) -> Limits | None:
        """The limits of a score that is 0 or 1 and no fraction of subjects."""
        value = float(self.by_class[metric][index])
        positives, others = int(self.true[index]), int(self.others[index])
        limits: dict[str, Callable[[], Limits | None]] = {
            "f1": lambda: self._f1_limits(value, index),
            "roc_auc": lambda: area_limits(value, positives, others, self.level),
            "pr_auc": lambda: average_precision_limits(positives, others, self.level) if value == 1 else None,
        }
        return limits[metric]()

    def _f1_limits(self, value: float, index: int) -> Limits:
        """F1 is 2 J / (1 + J), where J is the fraction of true positives among the subjects that are involved."""
        low, high = _mirrored(value, smallest_probability(int(self.involved[index]), self.level))
        return 2 * low / (1 + low), 2 * high / (1 + high)
