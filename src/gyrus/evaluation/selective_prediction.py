"""Selective prediction: the error rate when the classifier abstains on the subjects it is least confident about.

The risk is the error rate on the subjects that are predicted, the coverage their fraction. If confidence is
informative, the risk falls with the coverage (Geifman and El-Yaniv 2017).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gyrus.evaluation.bootstrap import (
    DEFAULT_BOOTSTRAP,
    BootstrapConfig,
    IntervalNotes,
    cluster_indices,
    divide,
    estimate,
    resample_counts,
)
from gyrus.evaluation.result import Estimate
from gyrus.inference.predictions import Predictions

Floats = npt.NDArray[np.float64]

COVERAGES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)

CELLS_AT_ONCE = 2**22
"""Rows times resamples that are in memory at a time (32 MB per array)."""


@dataclass(frozen=True)
class SelectivePrediction:
    """Risk by coverage.

    Attributes:
        risks: The risk at each of some coverages: of the most confident rows up to that fraction.
        area: Mean risk over all coverages (AURC); lower is better. Without abstention the risk is ``risks[1.0]``.
        best: The area if all errors had the lowest confidence.
        excess: The area above ``best``.
    """

    risks: dict[float, Estimate]
    area: Estimate
    best: Estimate
    excess: Estimate


def measure_selective_prediction(
    predictions: Predictions, coverages: Sequence[float] = COVERAGES, bootstrap: BootstrapConfig = DEFAULT_BOOTSTRAP
) -> SelectivePrediction:
    """Measure the risk when abstaining by confidence, the probability of the predicted class.

    For the area, rows of equal confidence are predicted together or not at all; at a given coverage they share the
    place that is left.

    Args:
        predictions: Every row with its true class; rows of one subject are resampled together.
        coverages: Fractions in (0, 1] at which the risk is reported.
        bootstrap: How intervals are computed.
    """
    confidence, wrong = predictions.probabilities.max(axis=1), predictions.predicted != predictions.targets
    clusters = cluster_indices(predictions)
    order = np.argsort(-confidence, kind="stable")
    last = np.searchsorted(-confidence[order], -confidence[order], side="right") - 1
    curve = _RiskCurve(wrong[order].astype(np.float64), last, np.asarray(coverages))
    whole = curve.measure(np.ones((len(order), 1)))
    number = int(clusters.max()) + 1
    step = int(np.clip(CELLS_AT_ONCE // len(order), 1, 64))
    blocks = [range(start, min(start + step, bootstrap.resamples)) for start in range(0, bootstrap.resamples, step)]
    values = [curve.measure(resample_counts(number, block, bootstrap.seed)[clusters[order]]) for block in blocks]
    resampled = np.concatenate(values) if values else np.empty((0, whole.shape[1]))
    notes = IntervalNotes("no rows to evaluate", "")
    found = [
        estimate(float(value), resampled[:, index], bootstrap.level, notes) for index, value in enumerate(whole[0])
    ]
    return SelectivePrediction(dict(zip(map(float, coverages), found[3:], strict=True)), *found[:3])


@dataclass(frozen=True)
class _RiskCurve:
    """Rows by descending confidence: the errors, the last row of equal confidence, and the coverages to report."""

    wrong: Floats
    last: npt.NDArray[np.intp]
    coverages: Floats

    def measure(self, weights: Floats) -> Floats:
        """Area, best area, excess, then the risk at each coverage, (N, B) to (B, 3 + coverages)."""
        total = weights.sum(axis=0)
        covered = weights.cumsum(axis=0)[self.last]
        errors = (weights * self.wrong[:, None]).cumsum(axis=0)[self.last]
        area = (weights * np.nan_to_num(divide(errors, covered))).sum(axis=0) / total
        best = _best_area(total, errors[-1])
        risks = [_risk(covered, errors, fraction * total) for fraction in self.coverages]
        return np.column_stack([area, best, area - best, *risks])


def _best_area(total: Floats, errors: Floats) -> Floats:
    """Mean over the ranks 1 to n of the error rate so far, when the correct ones come first; shape (B,)."""
    result = np.empty(len(total))
    for index, (number, wrong) in enumerate(zip(total, errors, strict=True)):
        ranks = np.arange(number - wrong + 1, number + 1)
        result[index] = ((ranks - (number - wrong)) / ranks).sum() / number
    return result


def _risk(covered: Floats, errors: Floats, wanted: Floats) -> Floats:
    """The risk when rows of so much weight are predicted, interpolated within equals; shape (B,)."""
    result = np.empty(len(wanted))
    for column, limit in enumerate(wanted):
        result[column] = np.interp(limit, np.append(0, covered[:, column]), np.append(0, errors[:, column])) / limit
    return result
