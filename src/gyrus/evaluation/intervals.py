"""How sure a score is: the bootstrap over subjects, vectorised.

Slices of one person are alike, so that the person, not the slice, is what a study has many of. A resample draws whole
subjects with replacement; a subject that was drawn twice counts twice with all its slices (Field and Welsh 2007,
"Bootstrapping clustered data"). Every tally is linear in those counts, or comes from sums that are, so that no resample
is ever built row by row.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import sparse, stats

from gyrus.evaluation.metrics import CLASS_METRICS, METRICS, Reference, Tallies, class_values
from gyrus.evaluation.result import Estimate
from gyrus.evaluation.roc import Ranking, rank

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

RESAMPLES_AT_ONCE = 32
COUNTS_AT_ONCE = 2**22
"""Bounds on what is held at a time: resamples, and their counts of clusters (32 MB)."""

FEW_CLUSTERS = 1000
"""Draws of no more than these are kept for the next who asks."""

JACKKNIFE_GROUPS = 500
"""Of more clusters than these, groups are left out in place of single ones (Shao and Tu 1995, section 2.3)."""

MANY = 100_000
"""From so many samples on, the classes are ranked side by side."""

DEFINED_SHARE = 0.8
"""An interval is given only where at least this share of the resamples has a value."""


@dataclass(frozen=True)
class Arrangement:
    """Judged samples arranged by cluster, ready for any weighting of the clusters. Made by :func:`arrange`."""

    cells: sparse.csr_array  # (K * K, clusters): how often a cluster falls into each cell of the confusion matrix
    rankings: tuple[Ranking, ...]  # one a class

    @property
    def clusters(self) -> int:
        """The number of clusters."""
        return int(self.cells.shape[1])

    def tally(self, counts: Floats) -> Tallies:
        """The tallies when cluster s counts ``counts[s, b]`` times, for each b; leading axis B."""
        classes = len(self.rankings)
        # NumPy and SciPy let go of the interpreter in between, so that many samples profit from threads; few do not.
        workers = min(classes, os.cpu_count() or 1) if self.cells.data.sum() >= MANY else 1
        with ThreadPoolExecutor(workers) as pool:
            areas = list(pool.map(lambda ranking: ranking.areas(counts), self.rankings))
        return Tallies(
            confusion=(self.cells @ counts).T.reshape(-1, classes, classes),
            roc_auc=np.stack([area.roc for area in areas], axis=-1),
            pr_auc=np.stack([area.precision_recall for area in areas], axis=-1),
        )


@dataclass(frozen=True)
class Values:
    """Metrics of B weightings of the same samples.

    Attributes:
        overall: By name of :data:`METRICS`, shape (B,).
        by_class: By name of :data:`CLASS_METRICS`, shape (B, K).
    """

    overall: dict[str, Floats]
    by_class: dict[str, Floats]


def arrange(targets: Integers, predicted: Integers, scores: Floats, clusters: Integers) -> Arrangement:
    """Arrange judged samples by cluster.

    Args:
        targets: True class of each sample, shape (N,).
        predicted: Chosen class of each sample, shape (N,).
        scores: One score a class by which its samples are ranked, shape (N, K).
        clusters: The cluster of each sample, all of [0, S) in use, shape (N,).
    """
    classes = scores.shape[1]
    shape = (classes**2, int(clusters.max()) + 1)
    cells = sparse.coo_array((np.ones(len(targets)), (targets * classes + predicted, clusters)), shape=shape)
    rankings = (rank(targets == index, scores[:, index], clusters=clusters) for index in range(classes))
    return Arrangement(cells.tocsr(), tuple(rankings))


def score(arrangement: Arrangement) -> tuple[Values, Reference, Floats]:
    """The metrics of the samples as they are (B = 1), what resampling holds fixed, and the confusion matrix (K, K)."""
    tallies = arrangement.tally(np.ones((arrangement.clusters, 1)))
    reference = Reference.of(tallies.confusion[0])
    return _values(tallies, reference), reference, tallies.confusion[0]


def bootstrap(arrangement: Arrangement, reference: Reference, *, resamples: int, seed: int) -> Values:
    """The metrics of resamples of the clusters.

    Args:
        arrangement: The judged samples, by cluster.
        reference: The classes to average over, and the majority class.
        resamples: How many resamples B.
        seed: Decides the resamples; resample b of S clusters is the same whatever else is computed, so that two
            classifiers judged on the same subjects meet the same resamples.

    Returns:
        B values each. Memory is bounded however large N and B are.
    """
    draws = draws_of(arrangement.clusters, resamples, seed)
    return _joined([_values(arrangement.tally(counts), reference) for counts in draws])


def jackknife(arrangement: Arrangement, reference: Reference) -> Values:
    """The metrics without each cluster in turn, or without each of :data:`JACKKNIFE_GROUPS` groups of clusters.

    Args:
        arrangement: The judged samples, by cluster.
        reference: The classes to average over, and the majority class.

    Returns:
        A value for each cluster or group.
    """
    groups = np.arange(arrangement.clusters) % JACKKNIFE_GROUPS
    blocks = np.array_split(np.unique(groups), -(-min(arrangement.clusters, JACKKNIFE_GROUPS) // RESAMPLES_AT_ONCE))
    parts = [
        _values(arrangement.tally((groups[:, None] != block[None]).astype(np.float64)), reference) for block in blocks
    ]
    return _joined(parts)


def draws_of(clusters: int, resamples: int, seed: int) -> Iterator[Floats]:
    """How often each cluster is drawn in each resample: arrays (clusters, a few), at least one, maybe of none."""
    step = int(np.clip(COUNTS_AT_ONCE // max(clusters, 1), 1, RESAMPLES_AT_ONCE))
    for start in range(0, max(resamples, 1), step):
        yield draw_counts(clusters, range(start, min(start + step, resamples)), seed)


def draw_counts(clusters: int, resamples: range, seed: int) -> Floats:
    """How often each cluster is drawn in each of some resamples, (clusters, len(resamples)); not to be changed."""
    return (_few_counts if clusters <= FEW_CLUSTERS else _counts)(clusters, resamples, seed)


def _counts(clusters: int, resamples: range, seed: int) -> Floats:
    draws = (np.random.default_rng((seed, number)).integers(clusters, size=clusters) for number in resamples)
    counts = [np.bincount(draw, minlength=clusters) for draw in draws]
    drawn = np.array(counts, dtype=np.float64).reshape(-1, clusters).T.copy()
    drawn.flags.writeable = False
    return drawn


_few_counts = lru_cache(maxsize=256)(_counts)
"""One report asks for the same draws a dozen times: of both units, each baseline, each curve. 64 MB at the most."""


def percentile_interval(resampled: Floats, level: float) -> tuple[float, float]:
    """The central share of the resamples (Efron 1979).

    Args:
        resampled: The metric of each resample, shape (B,), at least one.
        level: The share, 0.95 for a 95 % interval.
    """
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def bca_interval(value: float, resampled: Floats, left_out: Floats, level: float) -> tuple[float, float]:
    """Bias-corrected and accelerated interval (Efron 1987): percentiles that are moved for bias and skewness.

    Args:
        value: The metric of the sample itself.
        resampled: The metric of each resample, shape (B,), at least one.
        left_out: The metric without each cluster, shape (S,); where it is not defined or does not vary, there is no
            acceleration.
        level: The share, 0.95 for a 95 % interval.
    """
    below = (resampled < value).mean() + 0.5 * (resampled == value).mean()
    bias = stats.norm.ppf(np.clip(below, 0.5 / len(resampled), 1 - 0.5 / len(resampled)))
    acceleration = _acceleration(left_out[~np.isnan(left_out)])
    ends = bias + stats.norm.ppf([(1 - level) / 2, (1 + level) / 2])
    low, high = np.quantile(resampled, stats.norm.cdf(bias + ends / (1 - acceleration * ends)))
    return float(low), float(high)


@dataclass(frozen=True)
class IntervalNotes:
    """What to say about a score where the numbers cannot.

    Attributes:
        undefined: Why it has no value.
        scarce: What there is too little of, so that resamples miss it.
        always: What goes with it in any case.
    """

    undefined: str
    scarce: str
    always: str = ""


def estimate(
    value: float, resampled: Floats, level: float, words: IntervalNotes, left_out: Floats | None = None
) -> Estimate:
    """A score with its interval, or with the reason in words why there is none.

    Args:
        value: The score, NaN where it is not defined.
        resampled: The score of each resample, NaN where it is not defined, shape (B,).
        level: The share that the interval covers.
        words: What to say where the numbers cannot.
        left_out: The score without each cluster, for a BCa interval in place of percentiles.
    """
    if np.isnan(value):
        return Estimate(None, note=words.undefined)
    defined = resampled[~np.isnan(resampled)]
    if not len(resampled):
        return Estimate(float(value), note=_join(words.always, "no interval: no resamples were asked for"))
    missed = len(resampled) - len(defined)
    share = f"{missed} of {len(resampled)} resamples have no value ({words.scarce})" if missed else ""
    if len(defined) < DEFINED_SHARE * len(resampled):
        return Estimate(float(value), note=_join(words.always, f"no interval: {share}"))
    if defined.min() == defined.max():
        return Estimate(float(value), note=_join(words.always, f"no interval: {_CONSTANT}"))
    ends = percentile_interval(defined, level) if left_out is None else bca_interval(value, defined, left_out, level)
    return Estimate(float(value), *ends, _join(words.always, share))


_CONSTANT = "every resample gives the same value, so that they cannot tell how uncertain it is"


def _acceleration(left_out: Floats) -> float:
    """Sixth of the skewness of the jackknife (Efron 1987, equation 6.6)."""
    deviations = left_out.mean() - left_out if len(left_out) else left_out
    squares = float((deviations**2).sum())
    return float((deviations**3).sum() / (6 * squares**1.5)) if squares > 0 else 0.0


def _joined(parts: Sequence[Values]) -> Values:
    return Values(
        {name: np.concatenate([part.overall[name] for part in parts]) for name in METRICS},
        {name: np.concatenate([part.by_class[name] for part in parts]) for name in CLASS_METRICS},
    )


def _join(*parts: str) -> str:
    return "; ".join(part for part in parts if part)


def _values(tallies: Tallies, reference: Reference) -> Values:
    return Values(
        {name: metric.compute(tallies, reference) for name, metric in METRICS.items()},
        {name: class_values(name, tallies) for name in CLASS_METRICS},
    )
