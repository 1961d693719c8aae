"""Intervals of numbers that are made of sums over the judged: shares, costs, losses, coverage.

Whatever is a function of sums over rows has all its bootstrap resamples from one matrix product: how often each subject
was drawn, times the sums of each subject.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from gyrus.evaluation.intervals import IntervalNotes, draws_of, estimate
from gyrus.evaluation.result import Estimate
from gyrus.inference.predictions import Predictions

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

Statistic = Callable[[Floats], Floats]
"""Sums of M columns (..., M) to T numbers (..., T), NaN where they are not defined."""

EXACT = "all resamples are alike; the interval is that of Clopper and Pearson 1934 for so many subjects"


@dataclass(frozen=True)
class BootstrapConfig:
    """How intervals are made.

    Attributes:
        resamples: How many bootstrap resamples of the subjects; 0 for no intervals.
        seed: Decides them.
        level: The share that an interval covers.
    """

    resamples: int = 2000
    seed: int = 0
    level: float = 0.95


USUAL = BootstrapConfig()


def clusters_of(predictions: Predictions) -> Integers:
    """What is resampled together: the index of each row's subject, or of the row itself where subjects are not known.

    Returns:
        Indices in the order of the names, all of [0, S) in use, shape (N,).
    """
    names = predictions.table["subject" if predictions.subjects_known else "sample"]
    return np.asarray(pd.factorize(names, sort=True)[0], dtype=np.int64)


def estimate_all(
    rows: Floats, clusters: Integers, statistic: Statistic, sampling: BootstrapConfig, words: IntervalNotes
) -> tuple[Estimate, ...]:
    """Numbers that depend on sums over rows, with intervals that resample the clusters.

    Args:
        rows: What is summed, shape (N, M).
        clusters: The cluster of each row, all of [0, S) in use, shape (N,).
        statistic: From the sums (..., M) to the numbers (..., T).
        sampling: How intervals are made.
        words: What to say where a number or its interval is not defined.

    Returns:
        T estimates.
    """
    sums = np.column_stack([np.bincount(clusters, column) for column in rows.T])
    values = statistic(sums.sum(axis=0))
    draws = draws_of(len(sums), sampling.resamples, sampling.seed)
    resampled = np.concatenate([statistic(counts.T @ sums) for counts in draws])
    return tuple(
        estimate(float(value), resampled[:, index], sampling.level, words) for index, value in enumerate(values)
    )


def estimate_mean(values: npt.ArrayLike, clusters: Integers, sampling: BootstrapConfig) -> Estimate:
    """The mean over rows of numbers that are always defined, shape (N,)."""
    rows = np.column_stack([np.asarray(values, dtype=np.float64), np.ones(len(clusters))])
    return estimate_all(rows, clusters, ratio, sampling, IntervalNotes("there is nobody to judge", ""))[0]


def estimate_share(
    hits: npt.ArrayLike, among: npt.ArrayLike, clusters: Integers, sampling: BootstrapConfig, words: IntervalNotes
) -> Estimate:
    """A share, as that of the sick who were found.

    Where it is none or all, no resample can differ, and the exact interval of Clopper and Pearson takes the place of
    the bootstrap: by 10 found of 10, a sensitivity of 70 % is not ruled out.

    Args:
        hits: Which rows count, shape (N,).
        among: Of which rows it is the share, shape (N,).
        clusters: The cluster of each row, shape (N,).
        sampling: How intervals are made.
        words: What to say where there is nobody to take a share of.
    """
    among = np.asarray(among, dtype=bool)
    hits = np.asarray(hits, dtype=bool) & among
    rows = np.column_stack([hits, among]).astype(np.float64)
    found = estimate_all(rows, clusters, ratio, sampling, words)[0]
    if found.value not in (0.0, 1.0) or not sampling.resamples:
        return found
    number, tail = len(np.unique(clusters[among])), (1 - sampling.level) / 2
    low, high = (stats.beta.ppf(tail, number, 1), 1.0) if found.value else (0.0, stats.beta.ppf(1 - tail, 1, number))
    return Estimate(found.value, float(low), float(high), EXACT)


def ratio(sums: Floats) -> Floats:
    """The first of two sums over the second, (..., 2) to (..., 1); NaN where the second is 0."""
    return divide(sums[..., :1], sums[..., 1:])


def divide(part: npt.ArrayLike, whole: npt.ArrayLike) -> Floats:
    """``part / whole`` of arrays of one shape, NaN where ``whole`` is not above 0."""
    part, whole = np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64)
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)
