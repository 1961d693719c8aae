"""Metrics of predicted numbers as pure functions of weighted sums, and the table that names them.

All but the rank correlation are functions of eight sums over the samples. These may have any number of leading axes, so
one function computes the score itself and its thousands of bootstrap resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class NumberSums:
    """Weighted sums over samples; the numbers are centred, which leaves every metric as it is.

    Attributes:
        sums: Of 1, absolute error, error, squared error, truth, truth squared, prediction, prediction squared, and
            truth times prediction, shape (..., 9).
    """

    sums: Floats

    @classmethod
    def of(cls, targets: Floats, predicted: Floats) -> Self:
        """The sums of N samples, each with weight 1."""
        return cls(cls.terms(targets, predicted).sum(axis=0))

    @staticmethod
    def terms(targets: Floats, predicted: Floats) -> Floats:
        """What is summed, one row per sample (N, 9)."""
        centre = targets.mean() if len(targets) else 0.0
        truth, found, error = targets - centre, predicted - centre, predicted - targets
        columns = [np.ones(len(targets)), np.abs(error), error, error**2]
        return np.column_stack([*columns, truth, truth**2, found, found**2, truth * found])

    def mae(self) -> Floats:
        """Mean absolute error."""
        return self._mean(1)

    def rmse(self) -> Floats:
        """Root of the mean squared error."""
        return np.sqrt(self._mean(3))

    def bias(self) -> Floats:
        """Mean error: prediction minus truth."""
        return self._mean(2)

    def r2(self) -> Floats:
        """One minus squared error over variance of the truth; NaN where all true numbers are equal."""
        return 1 - _quotient(self._mean(3), self._variance(4, 5))

    def error_slope(self) -> Floats:
        """Slope of the error against the true number: below 0 where low numbers are predicted too high."""
        covariance = self._mean(8) - self._mean(4) * self._mean(6)
        return np.asarray(_quotient(covariance, self._variance(4, 5)) - 1)

    def calibration_line(self) -> tuple[Floats, Floats]:
        """Slope and intercept of the regression of the true on the predicted number; NaN if predictions are equal."""
        covariance = self._mean(8) - self._mean(4) * self._mean(6)
        slope = np.asarray(_quotient(covariance, self._variance(6, 7)))
        return slope, np.asarray(self._mean(4) - slope * self._mean(6))

    def pearson(self) -> Floats:
        """Correlation of prediction and truth; NaN where either does not vary."""
        covariance = self._mean(8) - self._mean(4) * self._mean(6)
        variances = np.maximum(self._variance(4, 5), 0) * np.maximum(self._variance(6, 7), 0)
        return np.asarray(np.clip(_quotient(covariance, np.sqrt(variances)), -1, 1))

    def _mean(self, column: int) -> Floats:
        return _quotient(self.sums[..., column], self.sums[..., 0])

    def _variance(self, first: int, second: int) -> Floats:
        variance = self._mean(second) - self._mean(first) ** 2
        # Rounding leaves a little of a variance that is 0.
        return np.where(variance > 1e-12 * np.maximum(self._mean(second), 1e-300), variance, 0.0)


def spearman(targets: Floats, predicted: Floats, weights: Floats) -> Floats:
    """Rank correlation: Pearson's of the midranks; NaN where either does not vary.

    Args:
        targets: Shape (N,).
        predicted: Shape (N,).
        weights: How often each sample counts in each of B weightings, shape (N, B).

    Returns:
        Shape (B,).
    """
    one, other = (_midranks(values, weights) for values in (targets, predicted))
    total = weights.sum(axis=0)
    centred = [ranks - _quotient((weights * ranks).sum(axis=0), total) for ranks in (one, other)]
    covariance = (weights * centred[0] * centred[1]).sum(axis=0)
    variances = [(weights * each**2).sum(axis=0) for each in centred]
    return np.asarray(np.clip(_quotient(covariance, np.sqrt(variances[0] * variances[1])), -1, 1))


def _midranks(values: Floats, weights: Floats) -> Floats:
    """The mean rank of each sample among weighted samples, ties sharing theirs; (N, B)."""
    _, codes = np.unique(values, return_inverse=True)
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    counts = np.add.reduceat(weights[order], starts, axis=0)
    return (np.cumsum(counts, axis=0) - (counts - 1) / 2)[codes]


@dataclass(frozen=True)
class NumberMetric:
    """A metric of predicted numbers.

    Attributes:
        title: Its name in tables.
        compute: From sums to (...); None for the rank correlation, which needs the samples.
        higher_is_better: Or lower; None where neither is, as for the mean error.
        in_unit: Whether it has the unit of the number.
    """

    title: str
    compute: Callable[[NumberSums], Floats] | None
    higher_is_better: bool | None
    in_unit: bool = False


NUMBER_METRICS: dict[str, NumberMetric] = {
    "mae": NumberMetric("Mean absolute error (MAE)", NumberSums.mae, higher_is_better=False, in_unit=True),
    "rmse": NumberMetric("Root mean squared error (RMSE)", NumberSums.rmse, higher_is_better=False, in_unit=True),
    "bias": NumberMetric("Mean error", NumberSums.bias, higher_is_better=None, in_unit=True),
    "r2": NumberMetric("R squared", NumberSums.r2, higher_is_better=True),
    "pearson": NumberMetric("Pearson correlation", NumberSums.pearson, higher_is_better=True),
    "spearman": NumberMetric("Spearman correlation", None, higher_is_better=True),
}

NUMBER_HEADLINES = ("mae", "r2", "pearson")
"""The metrics that short tables and baselines show."""


def number_headlines() -> dict[str, str]:
    """The metrics that short tables show, with their titles."""
    return {name: NUMBER_METRICS[name].title for name in NUMBER_HEADLINES}


def sums_of_clusters(targets: Floats, predicted: Floats, clusters: npt.NDArray[np.int64]) -> Floats:
    """What :class:`NumberSums` holds, for each of S clusters of samples, shape (S, 9)."""
    return np.column_stack([np.bincount(clusters, column) for column in NumberSums.terms(targets, predicted).T])


def number_values(
    targets: Floats,
    predicted: Floats,
    clusters: npt.NDArray[np.int64],
    counts: Floats,
    names: Iterable[str] = tuple(NUMBER_METRICS),
) -> dict[str, Floats]:
    """Metrics of weighted clusters of samples.

    Args:
        targets: Shape (N,).
        predicted: Shape (N,).
        clusters: The cluster of each sample, all of [0, S) in use, shape (N,).
        counts: How often each cluster counts, shape (S, B).
        names: Which metrics.

    Returns:
        B values of each metric, NaN where it is undefined.
    """
    sums = NumberSums(counts.T @ sums_of_clusters(targets, predicted, clusters))
    values = {}
    for name in names:
        compute = NUMBER_METRICS[name].compute
        values[name] = spearman(targets, predicted, counts[clusters]) if compute is None else compute(sums)
    return values


def _quotient(numerator: npt.ArrayLike, denominator: npt.ArrayLike) -> Floats:
    above, below = np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    return np.divide(above, below, out=np.full(np.broadcast_shapes(above.shape, below.shape), np.nan), where=below > 0)
