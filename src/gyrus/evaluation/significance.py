"""Classical tests between classifiers: DeLong, McNemar and the corrected resampled t-test."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy  # loads its submodules on first use

from gyrus.errors import DataError

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class DeLong:
    """Areas under the ROC curves of classifiers on the same subjects, with their covariance.

    Attributes:
        values: The areas, shape (M,).
        covariance: Of the areas, shape (M, M).
    """

    values: Floats
    covariance: Floats

    def interval(self, index: int = 0, level: float = 0.95) -> tuple[float, float]:
        """Interval of one area, on the logit scale so that it stays within [0, 1] (Pepe 2003, section 4.3.3).

        For an area of exactly 0 or 1 the variance is 0 and the method fails: the interval is then [value, value].
        """
        value, error = float(self.values[index]), float(np.sqrt(self.covariance[index, index]))
        if value in (0.0, 1.0):
            return value, value
        half = scipy.stats.norm.ppf((1 + level) / 2) * error / (value * (1 - value))
        logit = np.log(value / (1 - value))
        return float(1 / (1 + np.exp(half - logit))), float(1 / (1 + np.exp(-half - logit)))

    def difference(self, first: int = 0, second: int = 1, level: float = 0.95) -> tuple[float, float, float]:
        """An area minus another, and the ends of its interval (normal, DeLong et al. 1988)."""
        value = float(self.values[first] - self.values[second])
        half = float(scipy.stats.norm.ppf((1 + level) / 2)) * float(np.sqrt(max(self._variance(first, second), 0.0)))
        return value, value - half, value + half

    def p_value(self, first: int = 0, second: int = 1) -> float:
        """Of no difference between two areas, two-sided; 1 where both rank all subjects alike."""
        variance = self._variance(first, second)
        difference = float(self.values[first] - self.values[second])
        if variance <= 1e-15:
            return 1.0 if abs(difference) <= 1e-12 else 0.0
        return float(2 * scipy.stats.norm.sf(abs(difference) / np.sqrt(variance)))

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
    return DeLong(np.asarray(of_positives.mean(axis=1)), covariance)


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
        p_value: Two-sided.
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
        return ResampledT(mean, float(np.sign(mean) * np.inf) if mean else 0.0, 0.0 if mean else 1.0)
    statistic = mean / np.sqrt((1 / len(values) + test_size / train_size) * variance)
    return ResampledT(mean, float(statistic), float(2 * scipy.stats.t.sf(abs(statistic), len(values) - 1)))
