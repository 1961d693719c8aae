"""Confidence intervals by the bootstrap over subjects, vectorised.

The slices of one subject are alike, so the subject is the independent unit of a study, not the slice. A resample draws
whole subjects with replacement; a subject that is drawn twice counts twice with all its slices (Field and Welsh 2007,
"Bootstrapping clustered data"). Every metric is computed from sums that are linear in those counts, so no resample is
ever built row by row.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy  # loads its submodules on first use

from gyrus.evaluation.exact_intervals import ConstantScores, bounded_mean, exact_fraction
from gyrus.evaluation.metrics import (
    CLASS_METRICS,
    MetricInputs,
    Reference,
    class_values,
    metrics_of,
    stage_scores,
)
from gyrus.evaluation.result import Estimate
from gyrus.evaluation.roc import Ranking, rank, rank_stages
from gyrus.inference.predictions import PredictionTable

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

Statistic = Callable[[Floats], Floats]
"""From sums of M columns (..., M) to T numbers (..., T), NaN where they are undefined."""

RESAMPLES_AT_ONCE = 32
"""Resamples that are scored at a time: so few that sums over many samples stay in the processor's cache."""

CELLS_AT_ONCE = 2**13
"""Of few clusters more resamples are scored at a time, up to this number of counts: each step costs time of Python."""

COUNTS_AT_ONCE = 2**22
"""The most counts of clusters in memory at a time (32 MB)."""

FEW_CLUSTERS = 1000
"""Counts of no more clusters than these are cached."""

JACKKNIFE_GROUPS = 500
"""With more clusters than these, the jackknife leaves out groups of clusters (Shao and Tu 1995, section 2.3)."""

MANY = 100_000
"""From so many samples on, the classes are ranked in parallel threads."""

DEFINED_FRACTION = 0.9
"""Where fewer resamples have a value, subjects are resampled within the classes: a class of two of 32 lacks in 13 %."""

FEW_OF_A_STRATUM = 5
"""Classes with fewer subjects than these get two more when subjects are resampled within the classes."""


@dataclass(frozen=True)
class BootstrapConfig:
    """How confidence intervals are computed.

    Attributes:
        resamples: The number of bootstrap resamples of the subjects; 0 for no intervals.
        seed: Seed of the resamples.
        level: Confidence level.
    """

    resamples: int = 2000
    seed: int = 0
    level: float = 0.95


DEFAULT_BOOTSTRAP = BootstrapConfig()


@dataclass(frozen=True)
class IntervalNotes:
    """The notes of a score that has no value or no interval.

    Attributes:
        undefined: Why it has no value.
        scarce: What is so rare that resamples may lack it.
        always: A note in any case.
    """

    undefined: str
    scarce: str
    always: str = ""


@dataclass(frozen=True)
class Fallbacks:
    """Other intervals for a score that the bootstrap has none for.

    Attributes:
        constant: The interval of a score that is the same in every resample, or None (``exact_intervals``).
        within_classes: The score when clusters are resampled within their classes, shape (B,).
    """

    constant: Callable[[], Estimate | None] = lambda: None
    within_classes: Callable[[], Floats] = lambda: np.empty(0)


NO_FALLBACKS = Fallbacks()


@dataclass(frozen=True)
class ClusteredSamples:
    """Samples with their clusters, ready for any weighting of the clusters. Made by :func:`cluster_samples`."""

    cells: scipy.sparse.csr_array  # (K * K, clusters): how often a cluster falls into each cell of the confusion matrix
    rankings: tuple[Ranking, ...]  # one per class
    cuts: tuple[Ranking, ...] = ()  # of ordered classes: one per cut, the stages above it against those below it
    steps: tuple[Ranking, ...] = ()  # one per stage but the first: it against all lower ones, by the mean stage

    @property
    def clusters(self) -> int:
        """The number of clusters."""
        return int(self.cells.shape[1])

    def constant_scores(self, point: MetricValues, reference: Reference, level: float) -> ConstantScores:
        """What the intervals of scores that are the same in every resample need.

        Args:
            point: The metrics of the samples, B = 1.
            reference: From :func:`score_samples`.
            level: Confidence level.
        """
        classes, cells = len(self.rankings), self.cells.tocoo()  # a dense array would have K * K numbers per cluster
        (true, predicted), clusters, rows = np.divmod(cells.row, classes), cells.col, cells.data

        def clusters_of(*labels: Integers) -> Integers:
            """The number of clusters in which each class occurs among the labels."""
            pairs = np.concatenate([each.astype(np.int64) * self.clusters + clusters for each in labels])
            return np.bincount(np.unique(pairs) // self.clusters, minlength=classes)

        def clusters_in(of: np.ndarray) -> int:
            return len(np.unique(clusters[of]))

        def sums(of: np.ndarray) -> Floats:
            return np.bincount(clusters[of], rows[of], self.clusters).astype(np.float64)

        labels = np.unique(true.astype(np.int64) * self.clusters + clusters)
        alone = np.bincount(labels % self.clusters, minlength=self.clusters)[labels % self.clusters] == 1
        majority = sums(true == reference.majority)
        return ConstantScores(
            {name: values[0] for name, values in point.by_class.items()},
            true=clusters_of(true),
            others=self.clusters - np.bincount(labels[alone] // self.clusters, minlength=classes),
            predicted=clusters_of(predicted),
            involved=clusters_of(true, predicted),
            sides=tuple((clusters_in(true <= cut), clusters_in(true > cut)) for cut in range(len(self.cuts))),
            cut_auc=point.by_cut[0] if self.cuts else np.empty(0),
            gains=(sums(true == predicted) - majority) / sums(np.ones(len(rows), dtype=bool)),
            reference=reference,
            level=level,
        )

    def weighted(self, counts: Floats) -> MetricInputs:
        """The inputs of the metrics when cluster s counts ``counts[s, b]`` times, for each b; leading axis B."""
        classes = len(self.rankings)
        # NumPy and SciPy release the interpreter lock, so that many samples profit from threads; few do not.
        workers = min(classes, os.cpu_count() or 1) if self.cells.data.sum() >= MANY else 1
        if workers == 1:  # starting a thread takes longer than the areas of few samples
            areas = [ranking.areas(counts) for ranking in (*self.rankings, *self.cuts, *self.steps)]
        else:
            with ThreadPoolExecutor(workers) as pool:
                every = (*self.rankings, *self.cuts, *self.steps)
                areas = list(pool.map(lambda ranking: ranking.areas(counts), every))
        confusion = (self.cells @ counts).T.reshape(-1, classes, classes)
        roc = np.stack([area.roc for area in areas], axis=-1)
        return MetricInputs(
            confusion=confusion,
            roc_auc=roc[:, :classes],
            pr_auc=np.stack([area.precision_recall for area in areas[:classes]], axis=-1),
            cut_auc=roc[:, classes : classes + len(self.cuts)],
            concordance=_concordance(roc[:, classes + len(self.cuts) :], confusion.sum(axis=-1)),
        )


@dataclass(frozen=True)
class MetricValues:
    """Metrics of B weightings of the same samples.

    Attributes:
        overall: By name of :func:`gyrus.evaluation.metrics.metrics_of`, shape (B,).
        by_class: By name of :data:`gyrus.evaluation.metrics.CLASS_METRICS`, shape (B, K).
        by_cut: The area under the ROC curve at each cut between ordered classes, shape (B, K - 1), or (B, 0).
    """

    overall: dict[str, Floats]
    by_class: dict[str, Floats]
    by_cut: Floats


def cluster_samples(
    targets: Integers, predicted: Integers, scores: Floats, clusters: Integers, stages: Floats | None = None
) -> ClusteredSamples:
    """Prepare samples for resampling by cluster.

    Args:
        targets: True class of each sample, shape (N,).
        predicted: Predicted class of each sample, shape (N,).
        scores: One score per class by which its samples are ranked, shape (N, K).
        clusters: The cluster of each sample, all of [0, S) in use, shape (N,).
        stages: Of ordered classes: :func:`gyrus.evaluation.metrics.stage_scores`, or their ranks, shape (N, K).
    """
    classes = scores.shape[1]
    shape = (classes**2, int(clusters.max()) + 1)
    cells = scipy.sparse.coo_array((np.ones(len(targets)), (targets * classes + predicted, clusters)), shape=shape)
    rankings = (rank(targets == index, scores[:, index], clusters=clusters) for index in range(classes))
    if stages is None:
        return ClusteredSamples(cells.tocsr(), tuple(rankings))
    return ClusteredSamples(
        cells.tocsr(),
        tuple(rankings),
        tuple(rank(targets >= index, stages[:, index - 1], clusters=clusters) for index in range(1, classes)),
        rank_stages(targets, stages[:, -1], classes, clusters),
    )


def score_samples(samples: ClusteredSamples) -> tuple[MetricValues, Reference, Floats]:
    """The metrics of the samples (B = 1), what resampling keeps fixed, and the confusion matrix (K, K)."""
    inputs = samples.weighted(np.ones((samples.clusters, 1)))
    reference = Reference.from_confusion(inputs.confusion[0])
    return _values(inputs, reference), reference, inputs.confusion[0]


def bootstrap_metrics(samples: ClusteredSamples, reference: Reference, *, resamples: int, seed: int) -> MetricValues:
    """The metrics of resamples of the clusters.

    Args:
        samples: The samples with their clusters.
        reference: The classes to average over, and the majority class.
        resamples: The number of resamples B.
        seed: Seed of the resamples. Resample b of S clusters is the same whatever else is computed, so that two
            classifiers evaluated on the same subjects are resampled alike.

    Returns:
        B values of each metric. Memory is bounded however large N and B are.
    """
    blocks = resample_blocks(samples.clusters, resamples, seed)
    return _concatenated([_values(samples.weighted(counts), reference) for counts in blocks])


def jackknife_metrics(samples: ClusteredSamples, reference: Reference) -> MetricValues:
    """The metrics without each cluster in turn, or without each of :data:`JACKKNIFE_GROUPS` groups of clusters.

    Args:
        samples: The samples with their clusters.
        reference: The classes to average over, and the majority class.

    Returns:
        One value of each metric per cluster or group.
    """
    groups = np.arange(samples.clusters) % JACKKNIFE_GROUPS
    numbers = np.unique(groups)
    blocks = np.array_split(numbers, -(-len(numbers) // _resamples_at_once(samples.clusters)))
    return _concatenated(
        [_values(samples.weighted((groups[:, None] != block[None]).astype(np.float64)), reference) for block in blocks]
    )


def resample_blocks(clusters: int, resamples: int, seed: int) -> Iterator[Floats]:
    """Resamples in blocks that fit into memory: counts (clusters, b) of each; at least one block, maybe with b = 0."""
    step = _resamples_at_once(clusters)
    for start in range(0, max(resamples, 1), step):
        yield resample_counts(clusters, range(start, min(start + step, resamples)), seed)


def _resamples_at_once(clusters: int) -> int:
    """How many resamples of clusters are scored at a time."""
    many = min(max(RESAMPLES_AT_ONCE, CELLS_AT_ONCE // max(clusters, 1)), 8 * RESAMPLES_AT_ONCE)
    return int(np.clip(COUNTS_AT_ONCE // max(clusters, 1), 1, many))


def resample_counts(clusters: int, resamples: range, seed: int) -> Floats:
    """How often each cluster is drawn in each of some resamples, shape (clusters, len(resamples)), read-only."""
    return (_cached_counts if clusters <= FEW_CLUSTERS else _counts)(clusters, resamples, seed)


def _counts(clusters: int, resamples: range, seed: int) -> Floats:
    draws = (np.random.default_rng((seed, number)).integers(clusters, size=clusters) for number in resamples)
    counts = [np.bincount(draw, minlength=clusters) for draw in draws]
    drawn = np.array(counts, dtype=np.float64).reshape(-1, clusters).T.copy()
    drawn.flags.writeable = False
    return drawn


_cached_counts = lru_cache(maxsize=256)(_counts)
"""One report needs the same counts a dozen times: for both units, each baseline, each curve. 64 MB at most."""


@dataclass(frozen=True)
class Strata:
    """Samples to be resampled within their classes. Made by :func:`stratify`.

    A class of one subject does not vary when it is resampled within itself, and one of two hardly does. So a class of
    fewer than :data:`FEW_OF_A_STRATUM` subjects gets two more: one that is classified correctly and one wrongly, both
    with full confidence. Agresti and Caffo (2000), "Simple and effective confidence intervals for proportions and
    differences of proportions", add one success and one failure to each fraction in the same way. The score of such a
    class then varies over nearly all that is possible. docs/evaluation.md reports the coverage with and without.

    Attributes:
        targets: True class of each row, added ones last, shape (N,).
        predicted: Predicted class, shape (N,).
        scores: One score per class, shape (N, K).
        clusters: The cluster of each row, shape (N,).
        classes: The class of each cluster, or one of its classes, shape (S,).
        sizes: How many clusters of each class are drawn: those that are not added, shape (K,).
        weights: How many rows one row of a cluster stands for, shape (S,).
        ordered: Whether the classes are ordered.
    """

    targets: Integers
    predicted: Integers
    scores: Floats
    clusters: Integers
    classes: Integers
    sizes: Integers
    weights: Floats
    ordered: bool = False

    @property
    def mixed(self) -> bool:
        """Whether a cluster has rows of two classes, as a subject whose label changes between visits."""
        return bool((self.classes[self.clusters] != self.targets).any())

    def counts(self, resamples: int, seed: int) -> Iterator[Floats]:
        """Resamples in blocks that fit into memory: how often each cluster counts, (S, b); b = 0 if ``mixed``."""
        resamples = 0 if self.mixed else resamples
        members = [np.flatnonzero(self.classes == index) for index in range(len(self.sizes))]
        step = _resamples_at_once(len(self.classes))
        for start in range(0, max(resamples, 1), step):
            drawn = np.zeros((len(self.classes), min(step, resamples - start)))
            random = np.random.default_rng((seed, start, 0x57A7A))
            for rows, size in zip(members, self.sizes, strict=True):
                if size:
                    drawn[rows] = random.multinomial(size, np.full(len(rows), 1 / len(rows)), size=drawn.shape[1]).T
            yield drawn * self.weights[:, None]

    def metrics(self, reference: Reference, *, resamples: int, seed: int) -> MetricValues:
        """The metrics of resamples within the classes; of none if clusters have several classes."""
        stages = stage_scores(self.scores) if self.ordered else None
        samples = cluster_samples(self.targets, self.predicted, self.scores, self.clusters, stages)
        return _concatenated([_values(samples.weighted(counts), reference) for counts in self.counts(resamples, seed)])


def stratify(
    targets: Integers,
    predicted: Integers,
    probabilities: Floats,
    clusters: Integers,
    *,
    wrong_first: bool = False,
    ordered: bool = False,
) -> Strata:
    """Prepare samples for resampling within the classes.

    Args:
        targets: True class of each sample, shape (N,).
        predicted: Predicted class of each sample, shape (N,).
        probabilities: Shape (N, K).
        clusters: The cluster of each sample, all of [0, S) in use, shape (N,).
        wrong_first: The order of the two added subjects of a class. The second of two classifiers gets the other
            order, so that the added subjects are those on which the two differ.
        ordered: Whether the classes are ordered.
    """
    number = probabilities.shape[1]
    rows = np.bincount(clusters)
    classes = np.empty(len(rows), dtype=np.int64)
    classes[clusters] = targets
    sizes = np.bincount(classes, minlength=number)
    added, answers, weights = [], [], []
    for index in np.flatnonzero((sizes > 0) & (sizes < FEW_OF_A_STRATUM)):
        others = np.where(np.arange(number) == index, -1, sizes)
        pair = [int(others.argmax()), int(index)] if wrong_first else [int(index), int(others.argmax())]
        added += [int(index)] * 2
        answers += pair
        weights += [float(rows[classes == index].mean())] * 2
    return Strata(
        np.append(targets, np.array(added, np.int64)),
        np.append(predicted, np.array(answers, np.int64)),
        np.concatenate([probabilities, np.eye(number)[answers]]) if answers else probabilities,
        np.append(clusters, len(rows) + np.arange(len(added))),
        np.append(classes, np.array(added, np.int64)),
        sizes,
        np.append(np.ones(len(rows)), weights),
        ordered,
    )


def percentile_interval(resampled: Floats, level: float) -> tuple[float, float]:
    """Percentile interval (Efron 1979).

    Args:
        resampled: The metric of each resample, shape (B,), at least one.
        level: Confidence level, 0.95 for a 95 % interval.
    """
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def bca_interval(value: float, resampled: Floats, left_out: Floats, level: float) -> tuple[float, float]:
    """Bias-corrected and accelerated interval (Efron 1987): percentiles corrected for bias and skewness.

    Args:
        value: The metric of the samples.
        resampled: The metric of each resample, shape (B,), at least one.
        left_out: The metric without each cluster, shape (S,); where it is undefined or constant, the acceleration
            is 0.
        level: Confidence level, 0.95 for a 95 % interval.
    """
    below = (resampled < value).mean() + 0.5 * (resampled == value).mean()
    bias = scipy.stats.norm.ppf(np.clip(below, 0.5 / len(resampled), 1 - 0.5 / len(resampled)))
    acceleration = _acceleration(left_out[~np.isnan(left_out)])
    ends = bias + scipy.stats.norm.ppf([(1 - level) / 2, (1 + level) / 2])
    low, high = np.quantile(resampled, scipy.stats.norm.cdf(bias + ends / (1 - acceleration * ends)))
    return float(low), float(high)


def _acceleration(left_out: Floats) -> float:
    """One sixth of the skewness of the jackknife (Efron 1987, equation 6.6)."""
    deviations = left_out.mean() - left_out if len(left_out) else left_out
    squares = float((deviations**2).sum())
    return float((deviations**3).sum() / (6 * squares**1.5)) if squares > 0 else 0.0


def estimate(
    value: float,
    resampled: Floats,
    level: float,
    notes: IntervalNotes,
    left_out: Floats | None = None,
    fallbacks: Fallbacks = NO_FALLBACKS,
) -> Estimate:
    """A score with its interval, or with the reason why there is none.

    Args:
        value: The score, NaN where it is undefined.
        resampled: The score of each resample, NaN where it is undefined, shape (B,).
        level: Confidence level.
        notes: The notes for a missing value or interval.
        left_out: The score without each cluster, for a BCa interval instead of a percentile interval.
        fallbacks: Where the score is 0 or 1, all resamples are equal, or too many have no value.
    """
    if np.isnan(value):
        return Estimate(None, note=notes.undefined)
    defined = resampled[~np.isnan(resampled)]
    missed = len(resampled) - len(defined)
    undefined = f"{missed} of {len(resampled)} resamples have no value ({notes.scarce})" if missed else ""
    constant = not len(defined) or defined.min() == defined.max()
    # A perfect precision is 0 in the few resamples without a prediction of its class, and 1 in all others.
    exact = fallbacks.constant() if constant or value in (0.0, 1.0) else None
    if not len(resampled):
        found = Estimate(None, note="no interval: no resamples were requested")
    elif exact is not None:
        found = exact
    elif constant:
        same = "every resample gives the same value, which does not measure the uncertainty"
        found = Estimate(None, note=f"no interval: {same if len(defined) else undefined}")
    elif len(defined) < DEFINED_FRACTION * len(resampled):
        found = _within_classes(value, fallbacks.within_classes(), level, undefined)
    else:
        ends = (
            percentile_interval(defined, level) if left_out is None else bca_interval(value, defined, left_out, level)
        )
        found = Estimate(None, *ends, undefined, "bootstrap")
    return replace(found, value=float(value), note="; ".join(filter(None, [notes.always, found.note])))


def _within_classes(value: float, resampled: Floats, level: float, undefined: str) -> Estimate:
    """The percentile interval of resamples within the classes, or none."""
    defined = resampled[~np.isnan(resampled)]
    if not len(defined):
        return Estimate(None, note=f"no interval: {undefined}")
    low, high = percentile_interval(defined, level)
    note = f"resampled within classes, because {undefined}"
    return Estimate(None, min(low, value), max(high, value), note, "stratified")


def cluster_indices(predictions: PredictionTable) -> Integers:
    """The cluster of each row: its subject, with all visits, or the row itself where subjects are unknown.

    Returns:
        Indices in the order of the names, all of [0, S) in use, shape (N,).
    """
    return np.asarray(pd.factorize(predictions.independent_units, sort=True)[0], dtype=np.int64)


def estimate_from_sums(
    rows: Floats, clusters: Integers, statistic: Statistic, bootstrap: BootstrapConfig, notes: IntervalNotes
) -> tuple[Estimate, ...]:
    """Numbers that depend on sums over rows, with intervals that resample the clusters.

    All resamples come from one matrix product: how often each cluster was drawn, times the sums of each cluster.

    Args:
        rows: What is summed, shape (N, M).
        clusters: The cluster of each row, all of [0, S) in use, shape (N,).
        statistic: From the sums (..., M) to the numbers (..., T).
        bootstrap: How intervals are computed.
        notes: The notes for a missing value or interval.

    Returns:
        T estimates.
    """
    sums = np.column_stack([np.bincount(clusters, column) for column in rows.T])
    values = statistic(sums.sum(axis=0))
    blocks = resample_blocks(len(sums), bootstrap.resamples, bootstrap.seed)
    resampled = np.concatenate([statistic(counts.T @ sums) for counts in blocks])
    return tuple(
        estimate(float(value), resampled[:, index], bootstrap.level, notes) for index, value in enumerate(values)
    )


def estimate_mean(
    values: npt.ArrayLike,
    clusters: Integers,
    bootstrap: BootstrapConfig,
    bounds: tuple[float, float] | None = None,
    weights: Floats | None = None,
) -> Estimate:
    """The mean of values that are always defined.

    Args:
        values: Shape (N,).
        clusters: The cluster of each row, shape (N,).
        bootstrap: How intervals are computed.
        bounds: The least and the greatest value that is possible, for an interval also where all values are equal.
        weights: Of the rows, shape (N,); by default equal.
    """
    values = np.asarray(values, dtype=np.float64)
    weights = np.ones(len(clusters)) if weights is None else weights
    rows = np.column_stack([values * weights, weights])
    found = estimate_from_sums(rows, clusters, ratio, bootstrap, IntervalNotes("no rows to evaluate", ""))[0]
    if bounds is None or not bootstrap.resamples or not len(values) or (values != values[0]).any():
        return found
    return bounded_mean(float(values[0]), len(np.unique(clusters)), bootstrap.level, *bounds)


def estimate_fraction(
    hits: npt.ArrayLike,
    among: npt.ArrayLike,
    clusters: Integers,
    bootstrap: BootstrapConfig,
    notes: IntervalNotes,
    weights: Floats | None = None,
) -> Estimate:
    """A fraction of rows, such as the sensitivity.

    Where it is 0 or 1 all resamples are equal or without a value, and the exact interval of Clopper and Pearson
    replaces the bootstrap: 10 detected of 10 do not rule out a sensitivity of 70 %.

    Args:
        hits: The rows that count, shape (N,).
        among: The rows of the denominator, shape (N,).
        clusters: The cluster of each row, shape (N,).
        bootstrap: How intervals are computed.
        notes: The notes for an empty denominator.
        weights: Of the rows, shape (N,); by default equal.
    """
    hit, counted = (np.asarray(values, dtype=bool)[:, None] for values in (hits, among))
    return estimate_fractions(hit, counted, clusters, bootstrap, notes, weights)[0]


def estimate_fractions(
    hits: npt.NDArray[np.bool_],
    among: npt.NDArray[np.bool_],
    clusters: Integers,
    bootstrap: BootstrapConfig,
    notes: IntervalNotes,
    weights: Floats | None = None,
) -> tuple[Estimate, ...]:
    """T fractions at once, as :func:`estimate_fraction`: ``hits`` has shape (N, T) or (N, 1), ``among`` (N, T)."""
    number = among.shape[1]
    counts = np.concatenate([hits & among, among], axis=1).astype(np.float64)
    found = estimate_from_sums(
        counts if weights is None else counts * weights[:, None],
        clusters,
        lambda sums: divide(sums[..., :number], sums[..., number:]),
        bootstrap,
        notes,
    )
    return tuple(
        exact_fraction(each.value, len(np.unique(clusters[column])), bootstrap.level)
        if each.value in (0.0, 1.0) and bootstrap.resamples
        else each
        for each, column in zip(found, among.T, strict=True)
    )


def ratio(sums: Floats) -> Floats:
    """The first of two sums over the second, (..., 2) to (..., 1); NaN where the second is 0."""
    return divide(sums[..., :1], sums[..., 1:])


def divide(numerator: npt.ArrayLike, denominator: npt.ArrayLike) -> Floats:
    """The quotient of two arrays of one shape, NaN where the denominator is not above 0."""
    above, below = np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    return np.divide(above, below, out=np.full(below.shape, np.nan), where=below > 0)


def _concatenated(blocks: Sequence[MetricValues]) -> MetricValues:
    return MetricValues(
        {name: np.concatenate([block.overall[name] for block in blocks]) for name in blocks[0].overall},
        {name: np.concatenate([block.by_class[name] for block in blocks]) for name in CLASS_METRICS},
        np.concatenate([block.by_cut for block in blocks]),
    )


def _values(inputs: MetricInputs, reference: Reference) -> MetricValues:
    metrics = metrics_of(ordered=inputs.cut_auc.shape[-1] > 0)
    return MetricValues(
        {name: metric.compute(inputs, reference) for name, metric in metrics.items()},
        {name: class_values(name, inputs) for name in CLASS_METRICS},
        inputs.cut_auc,
    )


def _concordance(areas: Floats, support: Floats) -> Floats:
    """The concordance over all pairs, from those of each stage with all lower ones.

    Args:
        areas: Of each stage but the first against all lower ones, shape (B, K - 1); NaN where there is no pair.
        support: Weight of the samples of each class, shape (B, K).
    """
    pairs = support[:, 1:] * support.cumsum(axis=-1)[:, :-1] if areas.shape[-1] else areas
    return divide((np.nan_to_num(areas) * pairs).sum(axis=-1), pairs.sum(axis=-1))
