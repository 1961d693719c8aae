"""What is gained by leaving out the people about whom the classifier is least sure.

The risk is the share of mistakes among those it answers for, the coverage the share it answers for. A classifier that
knows when it does not know has a risk that falls with the coverage (Geifman and El-Yaniv 2017).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gyrus.evaluation.intervals import IntervalNotes, draw_counts, estimate
from gyrus.evaluation.result import Estimate
from gyrus.evaluation.sampling import USUAL, BootstrapConfig, clusters_of, divide
from gyrus.inference.predictions import Predictions

Floats = npt.NDArray[np.float64]

COVERAGES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)

CELLS_AT_ONCE = 2**22
"""Rows times resamples that are held at a time (32 MB an array)."""


@dataclass(frozen=True)
class SelectivePrediction:
    """Risk by coverage.

    Attributes:
        risks: The risk at each of some coverages: the surest rows up to that share.
        area: Mean risk over all coverages (AURC); less is better, never abstaining has ``risks[1.0]``.
        best: The area if every mistake came last.
        excess: The area above ``best``.
    """

    risks: dict[float, Estimate]
    area: Estimate
    best: Estimate
    excess: Estimate


def abstain(
    predictions: Predictions, coverages: Sequence[float] = COVERAGES, sampling: BootstrapConfig = USUAL
) -> SelectivePrediction:
    """Measure what abstaining by the probability of the chosen class gains.

    Rows of equal probability are answered together or not at all in the area; at a given coverage they share the
    place that is left.

    Args:
        predictions: Every row with its true class; rows of one subject are resampled together.
        coverages: Shares in (0, 1] at which the risk is told.
        sampling: How intervals are made.
    """
    confidence, wrong = predictions.probabilities.max(axis=1), predictions.predicted != predictions.targets
    clusters = clusters_of(predictions)
    order = np.argsort(-confidence, kind="stable")
    curve = _Curve(wrong[order].astype(np.float64), _last_of_equals(-confidence[order]), np.asarray(coverages))
    whole = curve.measure(np.ones((len(order), 1)))
    number = int(clusters.max()) + 1
    step = int(np.clip(CELLS_AT_ONCE // len(order), 1, 64))
    blocks = [range(start, min(start + step, sampling.resamples)) for start in range(0, sampling.resamples, step)]
    parts = [curve.measure(draw_counts(number, block, sampling.seed)[clusters[order]]) for block in blocks]
    resampled = np.concatenate(parts) if parts else np.empty((0, whole.shape[1]))
    words = IntervalNotes("there is nobody to judge", "")
    found = [estimate(float(value), resampled[:, index], sampling.level, words) for index, value in enumerate(whole[0])]
    return SelectivePrediction(dict(zip(map(float, coverages), found[3:], strict=True)), *found[:3])


@dataclass(frozen=True)
class _Curve:
    """Rows by falling confidence: what is wrong, the last row of those as sure as each, the coverages to tell."""

    wrong: Floats
    last: npt.NDArray[np.int64]
    coverages: Floats

    def measure(self, weights: Floats) -> Floats:
        """Area, best area, excess, then the risk at each coverage, (N, B) to (B, 3 + coverages)."""
        total = weights.sum(axis=0)
        answered, mistakes = (
            weights.cumsum(axis=0)[self.last],
            (weights * self.wrong[:, None]).cumsum(axis=0)[self.last],
        )
        area = (weights * np.nan_to_num(divide(mistakes, answered))).sum(axis=0) / total
        best = _best_area(total, mistakes[-1])
        risks = [_risk(answered, mistakes, share * total) for share in self.coverages]
        return np.column_stack([area, best, area - best, *risks])


def _best_area(total: Floats, mistakes: Floats) -> Floats:
    """Mean over the places 1 to n of the mistakes so far, when the right ones come first; shape (B,)."""
    result = np.empty(len(total))
    for index, (number, wrong) in enumerate(zip(total, mistakes, strict=True)):
        places = np.arange(number - wrong + 1, number + 1)
        result[index] = ((places - (number - wrong)) / places).sum() / number
    return result


def _risk(answered: Floats, mistakes: Floats, wanted: Floats) -> Floats:
    """The risk when so much weight is answered for, within equals by their mean; shape (B,)."""
    result = np.empty(len(wanted))
    for column, limit in enumerate(wanted):
        result[column] = np.interp(limit, np.append(0, answered[:, column]), np.append(0, mistakes[:, column])) / limit
    return result


def _last_of_equals(values: Floats) -> npt.NDArray[np.int64]:
    """For each of sorted values the position of the last that equals it."""
    return np.asarray(np.searchsorted(values, values, side="right") - 1, dtype=np.int64)
