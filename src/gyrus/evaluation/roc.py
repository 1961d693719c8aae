"""ROC AUC, average precision and the ROC curve, exact, and for many weightings of the samples at once.

The samples are sorted once. Any weighting then needs three sums for each group of equal score that holds a sample of
the class: the weight of the class in the group, the weight of the rest in the group (ties), and the weight of the rest
above it. Each is linear in the weights, so a sparse matrix computes it for all resamples of a bootstrap together, in
blocks of groups that fit into the processor's cache.

Sources: Hanley and McNeil 1982, "The meaning and use of the area under a ROC curve" (ties count one half); average
precision as in scikit-learn: the sum over thresholds of precision times the step in recall, without interpolation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy  # loads its submodules on first use

Floats = npt.NDArray[np.float64]

GROUPS_AT_ONCE = 4096
"""Groups of equal score whose sums are in memory at a time; 4,096 by 32 resamples by 8 bytes is one megabyte."""

RUN = 32
"""Rows of a cumulative sum that are added one after the other, for all runs of this length at once."""


class RankingAreas(NamedTuple):
    """Areas under both curves, one per weighting; NaN where it leaves no sample of the class, or none of the rest."""

    roc: Floats
    precision_recall: Floats


class RocCurve(NamedTuple):
    """Points of a ROC curve from (0, 0) to (1, 1), one per distinct score, and the score at each."""

    false_positive_rate: Floats
    true_positive_rate: Floats
    threshold: Floats


@dataclass(frozen=True)
class _Block:
    """Some groups in descending order of score; each matrix is (groups, clusters) and sums the weights of samples."""

    positives: scipy.sparse.csr_array
    tied: scipy.sparse.csr_array | None
    others: scipy.sparse.csr_array  # those at or above the group and below the group before


@dataclass(frozen=True)
class Ranking:
    """Samples sorted by score, ready for any weighting of their clusters. Made by :func:`rank`."""

    blocks: tuple[_Block, ...]
    positives: Floats  # (clusters,) weight of the class in each cluster
    others: Floats  # (clusters,) weight of the rest

    def areas(self, counts: npt.ArrayLike) -> RankingAreas:
        """The areas under both curves when cluster s counts ``counts[s, b]`` times, for each b.

        Args:
            counts: Non-negative weights, shape (clusters, B).

        Returns:
            Two arrays of shape (B,).
        """
        counts = np.asarray(counts, dtype=np.float64)
        all_positives, all_others = self.positives @ counts, self.others @ counts
        pairs, precisions = np.zeros_like(all_positives), np.zeros_like(all_positives)
        hits, alarms = np.zeros_like(all_positives), np.zeros_like(all_positives)
        for block in self.blocks:
            positives = block.positives @ counts
            hit = _running(positives, hits)
            alarm = _running(block.others @ counts, alarms)
            hits, alarms = hit[-1].copy(), alarm[-1].copy()
            pairs += np.einsum("gb,gb->b", positives, all_others - alarm)
            if block.tied is not None:
                pairs += np.einsum("gb,gb->b", positives, block.tied @ counts) / 2
            alarm += hit
            np.divide(hit, alarm, out=hit, where=alarm > 0)
            precisions += np.einsum("gb,gb->b", positives, hit)
        defined = (all_positives > 0) & (all_others > 0)
        return RankingAreas(
            np.divide(pairs, all_positives * all_others, out=np.full_like(pairs, np.nan), where=defined),
            np.divide(precisions, all_positives, out=np.full_like(pairs, np.nan), where=defined),
        )


def rank(
    relevant: npt.ArrayLike,
    scores: npt.ArrayLike,
    *,
    clusters: npt.ArrayLike | None = None,
    weights: npt.ArrayLike | None = None,
) -> Ranking:
    """Sort samples by score once, so that any weighting of their clusters can be scored.

    Args:
        relevant: Whether each sample is of the class, shape (N,).
        scores: Higher means more likely of the class, shape (N,), finite.
        clusters: Index of the cluster (subject) of each sample, shape (N,); by default all are in one.
        weights: Non-negative weight of each sample, shape (N,); by default 1.
    """
    relevant = np.asarray(relevant, dtype=bool)
    group, tied = _groups(relevant, np.asarray(scores, dtype=np.float64))
    cluster = np.zeros(len(relevant), np.int64) if clusters is None else np.asarray(clusters, dtype=np.int64)
    weight = np.ones(len(relevant)) if weights is None else np.asarray(weights, dtype=np.float64)
    groups = int(group[relevant].max(initial=-1)) + 1
    shape = (groups, int(cluster.max(initial=0)) + 1)

    def matrix(chosen: npt.NDArray[np.bool_]) -> scipy.sparse.csr_array:
        cells = (group[chosen], cluster[chosen])
        return scipy.sparse.coo_array((weight[chosen], cells), shape=shape).tocsr()

    positives, ties = matrix(relevant), matrix(tied)
    others = matrix(~relevant & (group < groups))
    parts = [slice(start, start + GROUPS_AT_ONCE) for start in range(0, groups, GROUPS_AT_ONCE)]
    return Ranking(
        tuple(_Block(positives[part], ties[part] if ties[part].nnz else None, others[part]) for part in parts),
        np.bincount(cluster, weight * relevant, minlength=shape[1]).astype(np.float64),
        np.bincount(cluster, weight * ~relevant, minlength=shape[1]).astype(np.float64),
    )


def roc_auc(relevant: npt.ArrayLike, scores: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> float:
    """Area under the ROC curve: the probability that a sample of the class scores above one of the rest, ties one half.

    Args:
        relevant: Whether each sample is of the class, shape (N,).
        scores: Higher means more likely of the class, shape (N,).
        weights: Weight of each sample, shape (N,); by default 1.

    Returns:
        The area, or NaN where no sample is of the class, or every one is.
    """
    return float(rank(relevant, scores, weights=weights).areas([[1.0]]).roc[0])


def concordance(stages: npt.ArrayLike, scores: npt.ArrayLike, classes: int) -> float:
    """The fraction of pairs of different stages that the scores order as the stages do, ties one half.

    Args:
        stages: In [0, classes), shape (N,).
        scores: Higher for higher stages, shape (N,).
        classes: The number of stages K.

    Returns:
        The fraction, or NaN where all are of one stage.
    """
    steps = rank_stages(stages, scores, classes)
    pairs = [float(step.positives.sum() * step.others.sum()) for step in steps]
    areas = [float(step.areas([[1.0]]).roc[0]) if count else 0.0 for step, count in zip(steps, pairs, strict=True)]
    return float(np.dot(areas, pairs) / sum(pairs)) if sum(pairs) else float("nan")


def rank_stages(
    stages: npt.ArrayLike, scores: npt.ArrayLike, classes: int, clusters: npt.ArrayLike | None = None
) -> tuple[Ranking, ...]:
    """For each stage but the first: its samples against those of all lower stages, sorted by score."""
    stages = np.asarray(stages)
    return tuple(
        rank(stages == index, scores, clusters=clusters, weights=stages <= index) for index in range(1, classes)
    )


def average_precision(relevant: npt.ArrayLike, scores: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> float:
    """Area under the precision-recall curve without interpolation; arguments and result as for :func:`roc_auc`."""
    return float(rank(relevant, scores, weights=weights).areas([[1.0]]).precision_recall[0])


def roc_curve(relevant: npt.ArrayLike, scores: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> RocCurve:
    """The points of the ROC curve, one per distinct score, from strict to lenient.

    Args:
        relevant: Whether each sample is of the class, shape (N,), some True and some False.
        scores: Higher means more likely of the class, shape (N,).
        weights: Weight of each sample, shape (N,); by default 1.
    """
    relevant, scores = np.asarray(relevant, dtype=bool), np.asarray(scores, dtype=np.float64)
    weight = np.ones(len(scores)) if weights is None else np.asarray(weights, dtype=np.float64)
    levels, group = np.unique(-scores, return_inverse=True)
    hits = np.bincount(group, weight * relevant, minlength=len(levels)).cumsum()
    alarms = np.bincount(group, weight * ~relevant, minlength=len(levels)).cumsum()
    return RocCurve(np.append(0.0, alarms / alarms[-1]), np.append(0.0, hits / hits[-1]), np.append(np.inf, -levels))


def _groups(relevant: npt.NDArray[np.bool_], scores: Floats) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """For each sample the first group whose score it reaches, in descending order, and whether it ties with it.

    Only distinct scores of relevant samples make a group; samples that score below all of them get one number more.
    """
    levels = np.unique(-scores[relevant])
    group = np.searchsorted(levels, -scores, side="left")
    reached = np.append(levels, np.nan)[group]
    return group.astype(np.int64), ~relevant & (reached == -scores)


def _running(values: Floats, before: Floats) -> Floats:
    """Cumulative sums along the first axis of (G, B), added to ``before``; ``values`` is not changed.

    Sums runs of rows in parallel, then their ends: five times as fast as ``np.cumsum``, which goes column by column.
    """
    groups, resamples = values.shape
    if groups <= RUN:
        return np.asarray(values.cumsum(axis=0) + before)
    total = np.zeros((-(-groups // RUN) * RUN, resamples))
    total[:groups] = values
    runs = total.reshape(len(total) // RUN, RUN, resamples)
    for row in range(1, RUN):
        runs[:, row] += runs[:, row - 1]
    runs[1:] += runs[:-1, -1].cumsum(axis=0)[:, None]
    total += before
    return np.asarray(total[:groups])
