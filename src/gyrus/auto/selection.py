"""Choose one of several candidates by scores on subjects that none of them was trained on.

Candidates race over inner folds: after each fold, those without a chance of being the best are given up (Maron and
Moore 1994, Hoeffding races; here by a paired bootstrap over subjects). Among those that finish, the simplest one within
one standard error of the best is chosen. Nothing here sees the subjects of an outer fold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import scipy  # loads its submodules on first use

from gyrus.evaluation.bootstrap import cluster_indices, cluster_samples, resample_counts
from gyrus.evaluation.comparison import labelled_rows
from gyrus.evaluation.metrics import METRICS, Reference
from gyrus.evaluation.out_of_fold import join_folds
from gyrus.inference.pooling import average_predictions, fit_ensemble_weights
from gyrus.inference.predictions import Predictions
from gyrus.serialisation import Saved

Floats = npt.NDArray[np.float64]

RESAMPLES = 1000

NO_CHANCE = 0.025
"""A candidate is given up if it is at least as good as the leader in a smaller fraction of the resamples."""

FEWEST_TO_JUDGE = 10
"""Nothing is given up before so many subjects of the rarest class were scored: the bootstrap of fewer is too narrow."""

STANDARD_ERRORS = 1.0
"""Candidates within so many standard errors of the best are equal to it (Breiman et al. 1984, the 1-SE rule); here of
the paired difference."""

STACK = "stack"
"""The name of the weighted mean of the candidates that finish."""

RANKING_METRICS = ("macro_roc_auc", "macro_pr_auc")


@dataclass(frozen=True)
class Round:
    """One inner fold of a race.

    Attributes:
        subjects: Subjects scored so far.
        scores: The score of each candidate on them.
        given_up: Candidates given up after this fold, with the reason.
    """

    subjects: int
    scores: Mapping[str, float]
    given_up: Mapping[str, str]


@dataclass(frozen=True)
class Selection(Saved):
    """How a candidate was chosen.

    Attributes:
        chosen: Its name.
        best: The candidate with the highest score; another one than the chosen where simpler ones are equal to it.
        reason: Why it was chosen.
        scores: The score of each candidate that finished.
        behind: The best score minus that of each, and the standard error of this difference.
        weights: The weight of each member of the stack; empty where it was not fitted.
        rounds: What happened after each inner fold.
    """

    SCHEMA: ClassVar[str] = "gyrus.auto_selection/1"

    chosen: str
    best: str
    reason: str
    scores: Mapping[str, float]
    behind: Mapping[str, tuple[float, float]]
    weights: Mapping[str, float] = field(default_factory=dict)
    rounds: tuple[Round, ...] = ()

    @property
    def given_up(self) -> dict[str, str]:
        """The candidates that were given up, with the reason."""
        return {name: reason for each in self.rounds for name, reason in each.given_up.items()}

    @property
    def members(self) -> dict[str, float]:
        """The candidates that the choice consists of, and their weights."""
        return dict(self.weights) if self.chosen == STACK else {self.chosen: 1.0}


class Race:
    """Candidates that are compared fold by fold."""

    def __init__(
        self,
        simplicity: Mapping[str, int],
        *,
        metric: str,
        stack: Sequence[str] = (),
        seed: int = 0,
        resamples: int = RESAMPLES,
    ) -> None:
        """Start a race.

        Args:
            simplicity: The candidates; a lower number is simpler.
            metric: A name of :data:`gyrus.evaluation.metrics.METRICS`.
            stack: The candidates that may be averaged, if two or more of them finish.
            seed: Seed of the resamples.
            resamples: Their number.
        """
        self._resamples = resamples
        self._simplicity = dict(simplicity)
        self._metric, self._stack, self._seed = metric, tuple(stack), seed
        self._answers: dict[str, list[Predictions]] = {name: [] for name in simplicity}
        self._rounds: list[Round] = []

    @property
    def running(self) -> tuple[str, ...]:
        """The candidates that are neither given up nor withdrawn."""
        return tuple(self._answers)

    @property
    def folds(self) -> int:
        """The number of folds that were scored."""
        return len(self._rounds)

    @property
    def leader(self) -> str | None:
        """The candidate with the highest score so far; None before the first fold."""
        scores = self._rounds[-1].scores if self._rounds else {}
        running = [name for name in scores if name in self._answers]
        return max(running, key=lambda name: scores[name]) if running else None

    def withdraw(self, name: str) -> None:
        """Leave a candidate out for a reason other than its score, such as its time."""
        self._answers.pop(name, None)

    def run_fold(self, answer: Callable[[str], Predictions | None]) -> Round:
        """Score all running candidates on one more fold, then give up those without a chance.

        Args:
            answer: The predictions of a candidate for the subjects of the fold, of a classifier that has never seen
                them; None withdraws it.
        """
        # All answers come first: if one ends with an error, the fold counts for no candidate.
        found = {name: answer(name) for name in self.running}
        for name, each in found.items():
            if each is None:
                self.withdraw(name)
            else:
                self._answers[name].append(_rows(each))
        scores = self._scores(self._answers)
        last = Round(
            subjects=sum(map(len, next(iter(self._answers.values()), []))),
            scores={name: float(values[0]) for name, values in scores.items()},
            given_up=without_chance(scores) if self._rarest() >= FEWEST_TO_JUDGE else {},
        )
        for name in last.given_up:
            del self._answers[name]
        self._rounds.append(last)
        return last

    def choose(self) -> Selection:
        """Choose among the candidates that are still running."""
        answers: dict[str, Sequence[Predictions]] = dict(self._answers)
        weights: dict[str, float] = {}
        members = [name for name in self._stack if name in answers]
        if len(members) > 1 and len(answers[members[0]]) > 1:
            answers[STACK] = cross_fitted([answers[name] for name in members])
            together = [join_folds(answers[name]) for name in members]
            weights = dict(zip(members, fit_ensemble_weights(together), strict=True))
        order = self._simplicity | {STACK: max(self._simplicity.values()) + 1}
        return choose(self._scores(answers), order, weights, tuple(self._rounds))

    def _scores(self, answers: Mapping[str, Sequence[Predictions]]) -> dict[str, Floats]:
        return resampled_scores(answers, self._metric, seed=self._seed, resamples=self._resamples)

    def _rarest(self) -> int:
        """Subjects of the rarest class that were scored."""
        folds = next(iter(self._answers.values()), [])
        if not folds:
            return 0
        counts = np.bincount(np.concatenate([each.targets for each in folds]))
        return int(counts[counts > 0].min())


def resampled_scores(
    answers: Mapping[str, Sequence[Predictions]], metric: str, *, seed: int, resamples: int = RESAMPLES
) -> dict[str, Floats]:
    """The score of each candidate, followed by its scores on resamples of the subjects that all candidates share.

    Scores that rank subjects rank them within their fold: classifiers of different folds may use different ranges.

    Args:
        answers: One table per fold, of the same folds for each candidate.
        metric: A name of :data:`gyrus.evaluation.metrics.METRICS`.
        seed: Seed of the resamples.
        resamples: Their number B.

    Returns:
        Shape (1 + B,) for each candidate; NaN where a resample lacks a class.
    """
    found = {}
    for name, folds in answers.items():
        rows = [_rows(each) for each in folds]
        scores = [each.probabilities for each in rows]
        if metric in RANKING_METRICS:
            scores = [scipy.stats.rankdata(each, axis=0) / (len(each) + 1) for each in scores]
        targets, predicted = (
            np.concatenate([getattr(each, part) for each in rows]) for part in ("targets", "predicted")
        )
        # Visits of one subject are in one fold, and are resampled together.
        offsets, clusters = 0, []
        for each in rows:
            clusters.append(cluster_indices(each) + offsets)
            offsets = int(clusters[-1].max()) + 1
        samples = cluster_samples(targets, predicted, np.concatenate(scores), np.concatenate(clusters))
        drawn = resample_counts(samples.clusters, range(resamples), seed)
        inputs = samples.weighted(np.column_stack([np.ones(samples.clusters), drawn]))
        reference = Reference.from_confusion(inputs.confusion[0])
        found[name] = METRICS[metric].goodness(METRICS[metric].compute(inputs, reference))
    return found


def without_chance(scores: Mapping[str, Floats]) -> dict[str, str]:
    """The candidates that are very probably worse than the leader, with the reason.

    Args:
        scores: From :func:`resampled_scores`.
    """
    if len(scores) < 2:
        return {}
    leader = _leader(scores)
    given_up = {}
    for name, values in scores.items():
        ahead = _differences(values, scores[leader])
        fraction = float((ahead >= 0).mean()) if len(ahead) else 1.0
        if name != leader and fraction < NO_CHANCE:
            given_up[name] = (
                f"{values[0]:.3f} against {scores[leader][0]:.3f} of {leader}; at least as good in "
                f"{100 * fraction:.1f} % of the resamples"
            )
    return given_up


def choose(
    scores: Mapping[str, Floats],
    simplicity: Mapping[str, int],
    weights: Mapping[str, float] | None = None,
    rounds: tuple[Round, ...] = (),
) -> Selection:
    """The simplest candidate within one standard error of the best.

    Args:
        scores: From :func:`resampled_scores`.
        simplicity: A lower number is simpler.
        weights: Those of the stack.
        rounds: What happened before.
    """
    best = _leader(scores)
    behind: dict[str, tuple[float, float]] = {}
    for name, values in scores.items():
        differences = _differences(scores[best], values)
        error = float(differences.std(ddof=1)) if len(differences) > 1 else 0.0
        behind[name] = float(scores[best][0] - values[0]), error
    equal = [name for name, (gap, error) in behind.items() if gap <= STANDARD_ERRORS * error or name == best]
    chosen = min(equal, key=lambda name: (simplicity[name], behind[name][0]))
    if len(scores) == 1:
        reason = "the only candidate left"
    elif chosen == best:
        others = len(equal) - 1
        reason = "the highest score" + (", and the simplest of those within one standard error" if others else "")
    else:
        gap, error = behind[chosen]
        reason = (
            f"simpler than {best}, which is {gap:.3f} better: within one standard error of the difference ({error:.3f})"
        )
    points = {name: float(each[0]) for name, each in scores.items()}
    return Selection(chosen, best, reason, points, behind, dict(weights or {}), rounds)


def cross_fitted(members: Sequence[Sequence[Predictions]]) -> list[Predictions]:
    """The weighted mean of several candidates, each fold with weights fitted on the other folds.

    Args:
        members: For each candidate one table per fold.
    """
    found = []
    for fold in range(len(members[0])):
        others = [join_folds([each for place, each in enumerate(folds) if place != fold]) for folds in members]
        found.append(average_predictions([folds[fold] for folds in members], fit_ensemble_weights(others)))
    return found


def _rows(predictions: Predictions) -> Predictions:
    """One row per subject, or per image where subjects are unknown, sorted."""
    return labelled_rows(predictions, "subject" if predictions.subjects_known else "image")


def _leader(scores: Mapping[str, Floats]) -> str:
    return max(scores, key=lambda name: float(np.nan_to_num(scores[name][0], nan=-np.inf)))


def _differences(one: Floats, other: Floats) -> Floats:
    """The differences in the resamples in which both are defined."""
    differences = one[1:] - other[1:]
    return differences[~np.isnan(differences)]
