"""Compare two classifiers that were evaluated on the same subjects: paired bootstrap and classical tests.

Two confidence intervals side by side do not answer whether one is better: both depend on the same subjects, who are
easy or hard for both classifiers. The bootstrap here resamples the difference. The classical tests are those of DeLong
and McNemar, and the corrected resampled t-test.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import scipy  # loads its submodules on first use

from gyrus.errors import DataError
from gyrus.evaluation.bootstrap import (
    ClusteredSamples,
    Fallbacks,
    IntervalNotes,
    MetricValues,
    Strata,
    cluster_indices,
    cluster_samples,
    estimate,
    resample_blocks,
    score_samples,
    stratify,
)
from gyrus.evaluation.exact_intervals import BOUND_NOTE, area_limits, bounded_mean, mean_limits
from gyrus.evaluation.metrics import ALL_METRICS, Reference, metrics_of, stage_scores
from gyrus.evaluation.result import Estimate, Unit
from gyrus.inference.pooling import pool_by_subject
from gyrus.inference.predictions import Predictions
from gyrus.registry import look_up

Floats = npt.NDArray[np.float64]

LEAST_P = float(np.finfo(np.float64).eps)
"""P-values of approximations are not lower (2.2e-16): their tails mean nothing there, and no p-value is 0."""

AT_ONCE = 64
"""Permutations that are scored at a time."""


@dataclass(frozen=True)
class Difference:
    """The score of a first classifier minus that of a second.

    Attributes:
        metric: A name of :func:`gyrus.evaluation.metrics.metrics_of`.
        unit: What was scored.
        first: The score of the first; NaN where it is undefined.
        second: The score of the second.
        estimate: Their difference, with the interval of the paired bootstrap over subjects.
        p_value: Of no difference, by paired permutation of whole subjects; None where there is none to test.
    """

    metric: str
    unit: Unit
    first: float
    second: float
    estimate: Estimate
    p_value: float | None


def compare(
    first: Predictions,
    second: Predictions,
    *,
    metric: str = "balanced_accuracy",
    unit: Unit | None = None,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Difference:
    """Compare two classifiers that were evaluated on the same subjects.

    The interval is that of a paired bootstrap: both classifiers get the same resamples of the subjects. The p-value is
    that of a paired permutation test: each permutation swaps the two predictions of randomly drawn subjects. For areas
    under curves the scores of each classifier are first replaced by their ranks, so that it does not matter if the two
    use different ranges of probability (Venkatraman and Begg 1996). The p-value is ``(1 + b) / (1 + B)`` for b of B
    permutations with a difference at least as large (Phipson and Smyth 2010).

    Args:
        first: Predictions of a classifier; rows without a true class are left out.
        second: Predictions of another one for the same samples, in any order.
        metric: A name of :func:`gyrus.evaluation.metrics.metrics_of`.
        unit: "subject" or "image"; by default by subject where subjects are known. Both resample subjects.
        resamples: The number of resamples, and of permutations; 0 for neither.
        seed: Seed of both.
        level: Confidence level.

    Raises:
        DataError: The samples, classes, true classes or split units differ.
        UnknownNameError: There is no such metric.
    """
    return compare_metrics(first, second, metrics=(metric,), unit=unit, resamples=resamples, seed=seed, level=level)[
        metric
    ]


def compare_metrics(
    first: Predictions,
    second: Predictions,
    *,
    metrics: Sequence[str],
    unit: Unit | None = None,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Difference]:
    """:func:`compare` by several metrics, on the same resamples and permutations; arguments and errors as there."""
    for metric in metrics:
        look_up(metric, metrics_of(ordered=first.target.is_ordered), "metric")
    chosen: Unit = unit or ("subject" if first.subjects_known else "image")
    rows = labelled_rows(first, chosen), labelled_rows(second, chosen)
    _require_same(*rows)
    pair = _Pair.from_predictions(*rows, metrics)
    ones, zeros = np.ones((pair.clusters, 1)), np.zeros((pair.clusters, 1))
    one, other = (scores[:, 0] for scores in pair.scores(ones, zeros))
    resampled, permuted = pair.bootstrap(resamples, seed), pair.permuted(resamples, seed)
    fallbacks = pair.fallbacks(resamples, seed, level)
    return {
        metric: Difference(
            metric,
            chosen,
            float(one[place]),
            float(other[place]),
            estimate(
                float(one[place] - other[place]),
                resampled[place],
                level,
                IntervalNotes(f"{ALL_METRICS[metric].title} is undefined here", "they lack a class"),
                fallbacks=fallbacks[metric],
            ),
            permutation_p(float(one[place] - other[place]), permuted[place]),
        )
        for place, metric in enumerate(metrics)
    }


def labelled_rows(predictions: Predictions, unit: Unit) -> Predictions:
    """One row per subject or image with a true class, sorted.

    Args:
        predictions: Rows without a true class are left out.
        unit: "subject" pools the images of each subject.

    Raises:
        DataError: ``unit`` is "subject", and the subject of an image is unknown.
    """
    labelled = predictions.select(predictions.targets >= 0)
    if unit == "subject":
        return pool_by_subject(labelled)
    return labelled.select(labelled.table["sample"].argsort())


def holm(p_values: Sequence[float | None]) -> tuple[float | None, ...]:
    """P-values corrected for the number of comparisons by Holm's method (Holm 1979).

    Args:
        p_values: One per comparison of a family; None where there was no test, which does not count.

    Returns:
        The adjusted p-values, in the same order.
    """
    tested = [index for index, value in enumerate(p_values) if value is not None]
    values = np.array([p_values[index] for index in tested], dtype=np.float64)
    order = np.argsort(values, kind="stable")
    adjusted = np.minimum(np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)), 1.0)
    found = {tested[place]: float(value) for place, value in zip(order, adjusted, strict=True)}
    return tuple(found.get(index) for index in range(len(p_values)))


@dataclass(frozen=True)
class DeLong:
    """Areas under the ROC curves of classifiers on the same subjects, with their covariance.

    Attributes:
        values: The areas, shape (M,).
        covariance: Of the areas, shape (M, M).
        cases: The number of cases.
        others: The number of the others.
    """

    values: Floats
    covariance: Floats
    cases: int
    others: int

    def interval(self, index: int = 0, level: float = 0.95) -> tuple[float, float]:
        """Interval of one area, on the logit scale so that it stays within [0, 1] (Pepe 2003, section 4.3.3).

        For an area of exactly 0 or 1 the variance is 0 and the method fails. The interval is then that of
        :func:`gyrus.evaluation.exact_intervals.area_limits`.
        """
        value, error = float(self.values[index]), float(np.sqrt(self.covariance[index, index]))
        if value in (0.0, 1.0):
            return area_limits(value, self.cases, self.others, level)
        half = scipy.stats.norm.ppf((1 + level) / 2) * error / (value * (1 - value))
        logit = np.log(value / (1 - value))
        return float(1 / (1 + np.exp(half - logit))), float(1 / (1 + np.exp(-half - logit)))

    def difference(self, first: int = 0, second: int = 1, level: float = 0.95) -> tuple[float, float, float]:
        """An area minus another, and the ends of its interval (normal, DeLong et al. 1988)."""
        value = float(self.values[first] - self.values[second])
        half = float(scipy.stats.norm.ppf((1 + level) / 2)) * float(np.sqrt(max(self._variance(first, second), 0.0)))
        return value, value - half, value + half

    def p_value(self, first: int = 0, second: int = 1) -> float:
        """Of no difference between two areas, two-sided; 1 where both rank all subjects alike, and never 0.

        Where areas differ without any variance, the normal approximation fails; the p-value is then the least one that
        a permutation of the classes among the subjects can have.
        """
        variance = self._variance(first, second)
        difference = float(self.values[first] - self.values[second])
        if variance <= 1e-15:
            least = min(1.0, 2 / math.comb(self.cases + self.others, self.cases))
            return 1.0 if abs(difference) <= 1e-12 else max(least, LEAST_P)
        return max(float(2 * scipy.stats.norm.sf(abs(difference) / np.sqrt(variance))), LEAST_P)

    def _variance(self, first: int, second: int) -> float:
        one = self.covariance
        return float(one[first, first] + one[second, second] - 2 * one[first, second])


def delong(targets: npt.ArrayLike, scores: npt.ArrayLike) -> DeLong:
    """Areas under ROC curves and their covariance without resampling (DeLong, DeLong and Clarke-Pearson 1988).

    The fast algorithm of Sun and Xu 2014, from mid-ranks in N log N. It assumes that every row is an independent
    subject: pool the slices of a subject first.

    Args:
        targets: Whether each subject is a case, shape (N,).
        scores: One row per classifier, higher for cases, shape (M, N) or (N,).

    Raises:
        DataError: There are fewer than two cases or two others.
    """
    cases = np.asarray(targets, dtype=bool)
    values = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    positives, negatives = values[:, cases], values[:, ~cases]
    m, n = positives.shape[1], negatives.shape[1]
    if min(m, n) < 2:
        raise DataError(f"DeLong's method needs at least two cases and two others, got {m} and {n}.")
    whole = scipy.stats.rankdata(np.concatenate([positives, negatives], axis=1), axis=1)
    of_positives = (whole[:, :m] - scipy.stats.rankdata(positives, axis=1)) / n
    of_negatives = 1 - (whole[:, m:] - scipy.stats.rankdata(negatives, axis=1)) / m
    covariance = np.atleast_2d(np.cov(of_positives)) / m + np.atleast_2d(np.cov(of_negatives)) / n
    return DeLong(np.asarray(of_positives.mean(axis=1)), covariance, m, n)


@dataclass(frozen=True)
class McNemar:
    """McNemar's test of two classifiers.

    Attributes:
        only_first: Number of subjects that only the first classifies correctly.
        only_second: Number of subjects that only the second classifies correctly.
        exact: Two-sided p-value of the binomial test (McNemar 1947).
        mid_p: The same with half of the observed probability: less conservative (Fagerland, Lydersen and Laake 2013).
    """

    only_first: int
    only_second: int
    exact: float
    mid_p: float


def mcnemar(first_correct: npt.ArrayLike, second_correct: npt.ArrayLike) -> McNemar:
    """McNemar's test of equal accuracy on the same subjects.

    It assumes that every row is an independent subject: pool the slices of a subject first.

    Args:
        first_correct: Whether the first classifier is correct, shape (N,).
        second_correct: Whether the second is correct, shape (N,).
    """
    first, second = np.asarray(first_correct, dtype=bool), np.asarray(second_correct, dtype=bool)
    only_first, only_second = int((first & ~second).sum()), int((~first & second).sum())
    differing, fewer = only_first + only_second, min(only_first, only_second)
    if not differing:
        return McNemar(0, 0, 1.0, 1.0)
    exact = min(1.0, float(2 * scipy.stats.binom.cdf(fewer, differing, 0.5)))
    observed = float(scipy.stats.binom.pmf(fewer, differing, 0.5))
    mid_p = (
        1 - observed
        if only_first == only_second
        else 2 * float(scipy.stats.binom.cdf(fewer, differing, 0.5)) - observed
    )
    return McNemar(only_first, only_second, exact, min(1.0, mid_p))


@dataclass(frozen=True)
class ResampledT:
    """A t-test over folds or repeats that accounts for their overlapping training sets.

    Attributes:
        mean: The mean difference.
        statistic: t, with one degree of freedom fewer than differences.
        p_value: Two-sided. Where all differences are equal there is no t, and the p-value is that of a sign test.
    """

    mean: float
    statistic: float
    p_value: float


def corrected_resampled_t(differences: npt.ArrayLike, *, train_size: int, test_size: int) -> ResampledT:
    """Student's t over repeated splits with the variance of Nadeau and Bengio 2003.

    The training sets of folds overlap, so the plain t-test finds differences too often. Here the variance is multiplied
    by ``1/k + test/train`` instead of ``1/k``.

    Args:
        differences: The difference of two scores in each of k folds or repeats, shape (k,).
        train_size: Subjects in a training set.
        test_size: Subjects in a test set.

    Raises:
        DataError: There are fewer than two differences.
    """
    values = np.asarray(differences, dtype=np.float64)
    if len(values) < 2:
        raise DataError(f"A t-test over folds needs at least two differences, got {len(values)}.")
    mean, variance = float(values.mean()), float(values.var(ddof=1))
    if variance == 0:
        return ResampledT(
            mean, float(np.sign(mean) * np.inf) if mean else 0.0, 0.5 ** (len(values) - 1) if mean else 1.0
        )
    statistic = mean / np.sqrt((1 / len(values) + test_size / train_size) * variance)
    p_value = float(2 * scipy.stats.t.sf(abs(statistic), len(values) - 1))
    return ResampledT(mean, float(statistic), max(p_value, LEAST_P))


@dataclass(frozen=True)
class _Pair:
    """Two classifiers as one set of samples: cluster s is subject s as predicted by the first, S + s by the second."""

    samples: ClusteredSamples
    reference: Reference
    metrics: tuple[str, ...]
    clusters: int
    alone: tuple[ClusteredSamples, ClusteredSamples]
    strata: tuple[Strata, Strata]

    @classmethod
    def from_predictions(cls, first: Predictions, second: Predictions, metrics: Sequence[str]) -> _Pair:
        clusters = cluster_indices(first)
        count = int(clusters.max()) + 1
        ordered = first.target.is_ordered
        strata = tuple(
            stratify(
                each.targets, each.predicted, each.probabilities, clusters, wrong_first=wrong_first, ordered=ordered
            )
            for each, wrong_first in ((first, False), (second, True))
        )
        stages = [stage_scores(each.probabilities) if ordered else None for each in (first, second)]
        alone = tuple(
            cluster_samples(each.targets, each.predicted, each.probabilities, clusters, scores)
            for each, scores in zip((first, second), stages, strict=True)
        )
        samples = cluster_samples(
            np.concatenate([first.targets, second.targets]),
            np.concatenate([first.predicted, second.predicted]),
            np.concatenate([_ranks(first.probabilities), _ranks(second.probabilities)]),
            np.concatenate([clusters, clusters + count]),
            np.concatenate([_ranks(scores) for scores in stages if scores is not None]) if ordered else None,
        )
        inputs = samples.weighted(np.concatenate([np.ones((count, 1)), np.zeros((count, 1))]))
        reference = Reference.from_confusion(inputs.confusion[0])
        return cls(samples, reference, tuple(metrics), count, (alone[0], alone[1]), (strata[0], strata[1]))

    def fallbacks(self, resamples: int, seed: int, level: float) -> dict[str, Fallbacks]:
        """Intervals of the differences where the bootstrap has none, by metric."""

        @cache
        def within_classes() -> tuple[MetricValues, ...]:
            return tuple(each.metrics(self.reference, resamples=resamples, seed=seed) for each in self.strata)

        def of(metric: str) -> Fallbacks:
            return Fallbacks(
                lambda: self._constant_difference(metric, level),
                lambda: np.subtract(*(values.overall[metric] for values in within_classes())),
            )

        return {metric: of(metric) for metric in self.metrics}

    def _constant_difference(self, metric: str, level: float) -> Estimate | None:
        """The interval of a difference that is the same in every resample.

        The difference of two scores that are each 0 or 1 lies between the differences of their limits. Where the two
        classifiers are right on the same subjects, the difference of their accuracies is at most the fraction of
        subjects on which they are not.
        """
        correct = [one.cells[np.arange(self._shape[0]) * (self._shape[0] + 1)].toarray() for one in self.alone]
        if metric in {"accuracy", "accuracy_gain"}:
            rows = self.alone[0].cells.sum(axis=0)
            gains = (correct[0] - correct[1]).sum(axis=0) / rows
            if (gains == gains[0]).all():
                return bounded_mean(float(gains[0]), self.clusters, level, -1.0, 1.0)
        scores = [score_samples(one)[0] for one in self.alone]
        if metric in {"balanced_accuracy", "macro_recall"} and (correct[0] == correct[1]).all():
            true = self.alone[0].constant_scores(scores[0], self.reference, level).true[self.reference.present]
            _, high = mean_limits([0.0] * len(true), true.tolist(), level)
            return Estimate(0.0, -high, high, BOUND_NOTE, "bound")
        ends = []
        for one, point in zip(self.alone, scores, strict=True):
            value = float(point.overall[metric][0])
            found = one.constant_scores(point, self.reference, level).overall(metric, value)
            if value not in (0.0, 1.0) or found is None or found.low is None or found.high is None:
                return None
            ends.append((found.low, found.high))
        (first_low, first_high), (second_low, second_high) = ends
        return Estimate(None, first_low - second_high, first_high - second_low, BOUND_NOTE, "bound")

    @property
    def _shape(self) -> tuple[int, int, int]:
        classes = len(self.samples.rankings)
        return classes, classes, -1

    def scores(self, first: Floats, second: Floats) -> tuple[Floats, Floats]:
        """The scores of two mixtures of the classifiers by each of M metrics, shape (M, B) each.

        The first mixture counts each subject ``first`` times with the first classifier's predictions and ``second``
        times with the second's, shape (S, B) each; the second mixture has the two swapped.
        """
        return self._score(np.concatenate([first, second])), self._score(np.concatenate([second, first]))

    def bootstrap(self, resamples: int, seed: int) -> Floats:
        """The differences in each resample of the subjects, shape (M, B)."""
        blocks = resample_blocks(self.clusters, resamples, seed)
        return self._concatenated([np.subtract(*self.scores(counts, np.zeros_like(counts))) for counts in blocks])

    def permuted(self, permutations: int, seed: int) -> Floats:
        """The differences when the predictions of randomly drawn subjects are swapped, shape (M, B)."""
        random = np.random.default_rng((seed, 0x5EED))
        sizes = [min(AT_ONCE, permutations - start) for start in range(0, permutations, AT_ONCE)]
        draws = (random.integers(2, size=(self.clusters, size)).astype(np.float64) for size in sizes)
        return self._concatenated([np.subtract(*self.scores(1 - swapped, swapped)) for swapped in draws])

    def _score(self, counts: Floats) -> Floats:
        inputs = self.samples.weighted(counts)
        return np.stack([ALL_METRICS[metric].compute(inputs, self.reference) for metric in self.metrics])

    def _concatenated(self, blocks: Sequence[Floats]) -> Floats:
        return np.concatenate([np.empty((len(self.metrics), 0)), *blocks], axis=1)


def _ranks(scores: Floats) -> Floats:
    """Each column as ranks; ties share the mean rank."""
    return np.asarray(scipy.stats.rankdata(scores, axis=0), dtype=np.float64)


def permutation_p(value: float, permuted: Floats) -> float | None:
    """The p-value ``(1 + b) / (1 + B)`` for b of B permutations at least as far from 0 (Phipson and Smyth 2010).

    Args:
        value: The difference.
        permuted: Those of the permutations, shape (B,).

    Returns:
        None where the difference is undefined or there is no permutation.
    """
    if np.isnan(value) or not len(permuted):
        return None
    extreme = int((np.abs(permuted) >= abs(value) - 1e-12).sum())
    return (1 + extreme) / (1 + len(permuted))


def _require_same(first: Predictions, second: Predictions) -> None:
    if first.split_unit != second.split_unit:
        raise DataError(
            f"One classifier comes from a split by {first.split_unit}, the other from one by {second.split_unit}, so "
            "their scores answer different questions. Compare classifiers from the same kind of split."
        )
    if first.classes != second.classes:
        raise DataError(f"The classes differ: {list(first.classes)} and {list(second.classes)}.")
    one, other = (set(zip(each.table["sample"], each.table["target"], strict=True)) for each in (first, second))
    if one != other:
        raise DataError(
            f"The two were not evaluated on the same samples: of {len(one)} and {len(other)}, {len(one & other)} are "
            "the same with the same class. Compare classifiers on the samples that both predicted."
        )
