"""Whether one classifier is really better than another, judged on the same people.

Two intervals side by side do not answer that: both rest on the same people, who are easy or hard for both. What is
resampled here is the difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from gyrus.errors import DataError
from gyrus.evaluation.intervals import Arrangement, IntervalNotes, arrange, draw_counts, estimate
from gyrus.evaluation.metrics import METRICS, Reference, Tallies
from gyrus.evaluation.result import Estimate, Unit
from gyrus.evaluation.sampling import clusters_of
from gyrus.inference.pooling import pool_by_subject
from gyrus.inference.predictions import Predictions
from gyrus.registry import look_up

Floats = npt.NDArray[np.float64]

AT_ONCE = 64
"""Resamples that are held at a time."""


@dataclass(frozen=True)
class Difference:
    """The score of a first classifier minus that of a second.

    Attributes:
        metric: A name of :data:`gyrus.evaluation.metrics.METRICS`.
        unit: What was judged.
        first: The score of the first; NaN where it is not defined.
        second: The score of the second.
        estimate: Their difference, with the interval of the paired bootstrap over subjects.
        p_value: Of no difference: paired permutation of whole subjects; None where there is no difference to test.
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
    """Compare two classifiers that were judged on the same people.

    The interval is that of a paired bootstrap: both meet the same resamples of the subjects. The p-value is that of a
    paired permutation test: in each permutation, some subjects drawn at random swap what the two classifiers said about
    them. For areas under curves the scores of each classifier are replaced by their ranks first, so that it does not
    matter that the two use other parts of the range of probabilities (Venkatraman and Begg 1996). The p-value is
    ``(1 + b) / (1 + B)`` for b of B permutations with a difference at least as large (Phipson and Smyth 2010).

    Args:
        first: What a classifier said; rows without a true class are left out.
        second: What another said of the same samples, in any order.
        metric: A name of :data:`gyrus.evaluation.metrics.METRICS`.
        unit: "subject" or "image"; by default by subject where subjects are known. Subjects are resampled in both.
        resamples: How many resamples, and how many permutations; 0 for neither.
        seed: Decides both.
        level: The share that the interval covers.

    Raises:
        DataError: The two were not judged on the same samples with the same classes and truth, or split differently.
        UnknownNameError: There is no such metric.
    """
    look_up(metric, METRICS, "metric")
    chosen: Unit = unit or ("subject" if first.subjects_known else "image")
    pair = judged_rows(first, chosen), judged_rows(second, chosen)
    _require_same(*pair)
    both = _Both.of(*pair, metric)
    one, other = (float(each[0]) for each in both.values(np.ones((both.clusters, 1)), np.zeros((both.clusters, 1))))
    value = one - other
    words = IntervalNotes(f"{METRICS[metric].title} is not defined here", "a class is missing in them")
    return Difference(
        metric,
        chosen,
        one,
        other,
        estimate(value, both.bootstrap(resamples, seed), level, words),
        _permutation_p(value, both.permuted(resamples, seed)),
    )


def judged_rows(predictions: Predictions, unit: Unit) -> Predictions:
    """The rows that count, one for each judged, in an order of their own.

    Args:
        predictions: Rows without a true class are left out.
        unit: "subject" pools the images of each subject.

    Raises:
        DataError: By subject, where not every image says whose it is.
    """
    labelled = predictions.select(predictions.targets >= 0)
    if unit == "subject":
        return pool_by_subject(labelled)
    return labelled.select(labelled.table["sample"].argsort())


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """P-values corrected for their number, so that none is below alpha by chance but with probability alpha.

    Args:
        p_values: One for each comparison of a family.

    Returns:
        The adjusted p-values, in the same order (Holm 1979).
    """
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    adjusted = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    result = np.empty(len(values))
    result[order] = np.minimum(adjusted, 1.0)
    return tuple(float(value) for value in result)


@dataclass(frozen=True)
class _Both:
    """Two classifiers in one arrangement: cluster s is a subject as the first saw it, S + s as the second did."""

    arrangement: Arrangement
    reference: Reference
    metric: str
    clusters: int

    @classmethod
    def of(cls, first: Predictions, second: Predictions, metric: str) -> _Both:
        clusters = clusters_of(first)
        count = int(clusters.max()) + 1
        arrangement = arrange(
            np.concatenate([first.targets, second.targets]),
            np.concatenate([first.predicted, second.predicted]),
            np.concatenate([_ranked(first.probabilities), _ranked(second.probabilities)]),
            np.concatenate([clusters, clusters + count]),
        )
        whole = arrangement.tally(np.concatenate([np.ones((count, 1)), np.zeros((count, 1))]))
        return cls(arrangement, Reference.of(whole.confusion[0]), metric, count)

    def values(self, first: Floats, second: Floats) -> tuple[Floats, Floats]:
        """The scores of two mixtures, (B,) each.

        The first counts the subjects ``first`` times as the first classifier saw them and ``second`` times as the
        other did, (S, B) each; the second mixture has the two swapped.
        """
        return self._score(np.concatenate([first, second])), self._score(np.concatenate([second, first]))

    def bootstrap(self, resamples: int, seed: int) -> Floats:
        """The difference in each resample of the subjects, shape (B,)."""
        blocks = [range(start, min(start + AT_ONCE, resamples)) for start in range(0, resamples, AT_ONCE)]
        draws = (draw_counts(self.clusters, block, seed) for block in blocks)
        return _joined([np.subtract(*self.values(counts, np.zeros_like(counts))) for counts in draws])

    def permuted(self, permutations: int, seed: int) -> Floats:
        """The difference when subjects drawn at random are swapped, shape (B,)."""
        random = np.random.default_rng((seed, 0x5EED))
        sizes = [min(AT_ONCE, permutations - start) for start in range(0, permutations, AT_ONCE)]
        draws = (random.integers(2, size=(self.clusters, size)).astype(np.float64) for size in sizes)
        return _joined([np.subtract(*self.values(1 - swapped, swapped)) for swapped in draws])

    def _score(self, counts: Floats) -> Floats:
        tallies: Tallies = self.arrangement.tally(counts)
        return METRICS[self.metric].compute(tallies, self.reference)


def _ranked(scores: Floats) -> Floats:
    """Each column as ranks; equals share the mean rank."""
    return np.asarray(stats.rankdata(scores, axis=0), dtype=np.float64)


def _joined(parts: Sequence[Floats]) -> Floats:
    return np.concatenate(parts) if parts else np.empty(0)


def _permutation_p(value: float, permuted: Floats) -> float | None:
    if np.isnan(value) or not len(permuted):
        return None
    extreme = int((np.abs(permuted) >= abs(value) - 1e-12).sum())
    return (1 + extreme) / (1 + len(permuted))


def _require_same(first: Predictions, second: Predictions) -> None:
    if first.split_unit != second.split_unit:
        raise DataError(
            f"One was judged after a split by {first.split_unit}, the other by {second.split_unit}: their scores "
            "answer different questions. Compare classifiers whose data were split in the same way."
        )
    if first.classes != second.classes:
        raise DataError(f"The classes differ: {list(first.classes)} and {list(second.classes)}.")
    one, other = (set(zip(each.table["sample"], each.table["target"], strict=True)) for each in (first, second))
    if one != other:
        raise DataError(
            f"The two were not judged on the same: of {len(one)} and {len(other)}, {len(one & other)} are the same "
            "with the same class. Compare on the people that both were judged on, or not at all."
        )
