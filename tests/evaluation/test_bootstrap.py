"""The vectorised bootstrap against a plain loop over the same resamples, its coverage, and intervals of sums."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sklearn_metrics

from gyrus.evaluation import bootstrap
from gyrus.evaluation.bootstrap import (
    BootstrapConfig,
    IntervalNotes,
    bca_interval,
    bootstrap_metrics,
    cluster_samples,
    divide,
    estimate,
    estimate_fraction,
    estimate_from_sums,
    estimate_mean,
    jackknife_metrics,
    resample_counts,
    score_samples,
)
from gyrus.evaluation.metrics import CLASS_METRICS, METRICS

CLASSES = 3
NOTES = IntervalNotes(undefined="only one class", scarce="class 'x' has 1 subject", always="by the way")


def study(seed: int, people: int = 12, slices: int = 4, rounded: bool = True) -> tuple[np.ndarray, ...]:
    """Targets, predicted, scores and clusters of people whose slices are alike; scores have ties."""
    random = np.random.default_rng(seed)
    clusters = np.repeat(np.arange(people), random.integers(1, slices + 1, size=people))
    targets = random.integers(CLASSES, size=people)[clusters]
    scores = random.random((people, CLASSES))[clusters] + random.random((len(clusters), CLASSES))
    scores[np.arange(len(targets)), targets] += 0.3
    scores = np.round(scores, 1) if rounded else scores
    return targets, scores.argmax(axis=1), scores, clusters


def plain(targets, predicted, scores, rows, present) -> dict:
    """All metrics of one resample, by scikit-learn."""
    targets, predicted, scores = targets[rows], predicted[rows], scores[rows]
    occurs = np.isin(present, targets)
    values = {"accuracy": np.mean(targets == predicted)}
    keywords = {"labels": present, "average": None, "zero_division": 0}
    by_class = {
        "precision": sklearn_metrics.precision_score(targets, predicted, **keywords),
        "recall": sklearn_metrics.recall_score(targets, predicted, **keywords),
        "f1": sklearn_metrics.f1_score(targets, predicted, **keywords),
        "roc_auc": [area(sklearn_metrics.roc_auc_score, targets == one, scores[:, one]) for one in present],
        "pr_auc": [area(sklearn_metrics.average_precision_score, targets == one, scores[:, one]) for one in present],
    }
    by_class = {name: np.where(occurs, numbers, np.nan) for name, numbers in by_class.items()}
    values |= {f"macro_{name}": numbers.mean() for name, numbers in by_class.items()}
    return values | {"balanced_accuracy": values["macro_recall"]} | by_class


def area(function, relevant, scores) -> float:
    return np.nan if relevant.all() or not relevant.any() else function(relevant, scores)


@pytest.mark.parametrize("seed", range(3))
def test_all_resamples_at_once_equal_a_plain_loop(seed: int) -> None:
    targets, predicted, scores, clusters = study(seed)
    arrangement = cluster_samples(targets, predicted, scores, clusters)
    _, reference, _ = score_samples(arrangement)
    resampled = bootstrap_metrics(arrangement, reference, resamples=50, seed=seed)
    present, majority = np.flatnonzero(reference.present), reference.majority
    for number in range(50):
        drawn = np.random.default_rng((seed, number)).integers(len(np.unique(clusters)), size=clusters.max() + 1)
        rows = np.concatenate([np.flatnonzero(clusters == one) for one in drawn])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scikit-learn on absent classes
            expected = plain(targets, predicted, scores, rows, present)
        expected["accuracy_gain"] = expected["accuracy"] - np.mean(targets[rows] == majority)
        for name in METRICS:
            np.testing.assert_allclose(resampled.overall[name][number], expected[name], rtol=0, atol=1e-12)
        for name in CLASS_METRICS:
            np.testing.assert_allclose(resampled.by_class[name][number, present], expected[name], rtol=0, atol=1e-12)


def test_the_result_does_not_depend_on_how_many_resamples_fit_at_once(monkeypatch) -> None:
    arrangement = cluster_samples(*study(0))
    _, reference, _ = score_samples(arrangement)
    whole = bootstrap_metrics(arrangement, reference, resamples=50, seed=3)
    monkeypatch.setattr("gyrus.evaluation.bootstrap.RESAMPLES_AT_ONCE", 7)
    subsets = bootstrap_metrics(arrangement, reference, resamples=50, seed=3)
    for name in METRICS:
        np.testing.assert_array_equal(whole.overall[name], subsets.overall[name])


def test_resamples_are_decided_by_the_seed() -> None:
    np.testing.assert_array_equal(resample_counts(20, range(5, 9), 1), resample_counts(20, range(9), 1)[:, 5:])
    assert (resample_counts(20, range(9), 1) != resample_counts(20, range(9), 2)).any()
    np.testing.assert_array_equal(resample_counts(20, range(9), 1).sum(axis=0), 20)


def test_a_percentile_interval_is_the_central_part() -> None:
    values = np.append(np.arange(1001.0), [np.nan] * 10)
    result = estimate(500.0, values, 0.9, NOTES)
    assert (result.low, result.high) == pytest.approx((50, 950))
    assert result.note == "by the way; 10 of 1011 resamples have no value (class 'x' has 1 subject)"


@pytest.mark.parametrize(
    ("value", "resampled", "words"),
    [
        (np.nan, [np.nan] * 9, "only one class"),
        (0.5, [0.4, 0.5, 0.6, np.nan], "1 of 4 resamples have no value (class 'x' has 1 subject)"),
        (0.5, [], "no resamples were requested"),
        (1.0, [1.0] * 9, "every resample gives the same value"),
    ],
)
def test_where_there_is_no_interval_a_note_says_why(value: float, resampled: list[float], words: str) -> None:
    result = estimate(value, np.array(resampled), 0.95, NOTES)
    assert result.low is None
    assert result.high is None
    assert words in result.note


def test_by_subject_the_interval_covers_and_by_image_it_does_not() -> None:
    """A short form of the coverage study: accuracy over slices of people who are easy or hard as a whole."""
    random, trials, people, slices = np.random.default_rng(7), 100, 40, 16
    covered = {"subject": 0, "image": 0}
    for _ in range(trials):
        right = random.random((people, slices)) < random.beta(0.7, 0.3, size=people)[:, None]
        targets = np.zeros(people * slices, np.int64)
        predicted = 1 - right.ravel().astype(np.int64)
        for unit, clusters in {
            "subject": np.repeat(np.arange(people), slices),
            "image": np.arange(people * slices),
        }.items():
            arrangement = cluster_samples(targets, predicted, np.zeros((len(targets), 2)), clusters)
            _, reference, _ = score_samples(arrangement)
            values = bootstrap_metrics(arrangement, reference, resamples=200, seed=0).overall["accuracy"]
            interval = estimate(0.7, values, 0.95, NOTES)
            covered[unit] += bool(interval.low <= 0.7 <= interval.high)
    assert covered["subject"] / trials > 0.88
    assert covered["image"] / trials < 0.6


def variation(sample: np.ndarray, axis: int = -1) -> np.ndarray:
    return np.std(sample, axis=axis) / np.mean(sample, axis=axis)


@pytest.mark.parametrize("statistic", [np.mean, np.median, variation])
def test_bca_is_that_of_scipy_on_the_same_resamples(statistic) -> None:
    sample = np.random.default_rng(3).lognormal(size=40)
    ours = stats.bootstrap((sample,), statistic, n_resamples=3000, method="BCa", rng=np.random.default_rng(1))
    left_out = np.array([statistic(np.delete(sample, row)) for row in range(len(sample))])
    found = bca_interval(statistic(sample), ours.bootstrap_distribution, left_out, 0.95)
    assert found == pytest.approx(tuple(ours.confidence_interval), rel=1e-6)


def test_left_out_values_are_those_without_each_cluster() -> None:
    targets, predicted, scores, clusters = study(5)
    arrangement = cluster_samples(targets, predicted, scores, clusters)
    left_out = jackknife_metrics(arrangement, score_samples(arrangement)[1])
    for person in range(12):
        kept = clusters != person
        assert left_out.overall["accuracy"][person] == pytest.approx((predicted == targets)[kept].mean())


def test_groups_are_left_out_where_there_are_many_clusters(monkeypatch) -> None:
    monkeypatch.setattr(bootstrap, "JACKKNIFE_GROUPS", 5)
    targets, predicted, scores, clusters = study(5)
    arrangement = cluster_samples(targets, predicted, scores, clusters)
    left_out = jackknife_metrics(arrangement, score_samples(arrangement)[1]).overall["accuracy"]
    assert left_out == pytest.approx([(predicted == targets)[clusters % 5 != group].mean() for group in range(5)])


def test_resamples_of_sums_equal_a_plain_loop_over_rows() -> None:
    random = np.random.default_rng(0)
    clusters = np.repeat(np.arange(12), random.integers(1, 6, size=12))
    rows = random.random((len(clusters), 2))
    config = BootstrapConfig(resamples=70, seed=3, level=0.9)

    def statistic(sums: np.ndarray) -> np.ndarray:
        return np.stack([sums[..., 0] / sums[..., 1], sums[..., 0] - sums[..., 1]], axis=-1)

    found = estimate_from_sums(rows, clusters, statistic, config, IntervalNotes("nobody", "few"))
    counts = resample_counts(12, range(70), 3)
    loop = []
    for column in counts.T:
        drawn = np.concatenate([np.tile(rows[clusters == each], (int(n), 1)) for each, n in enumerate(column) if n])
        loop.append(statistic(drawn.sum(axis=0)))
    ends = np.quantile(loop, [0.05, 0.95], axis=0).T
    for one, (low, high) in zip(found, ends, strict=True):
        assert (one.low, one.high) == pytest.approx((low, high), abs=1e-12)


def test_the_interval_of_a_mean_is_that_of_theory() -> None:
    values = np.random.default_rng(1).normal(size=400)
    found = estimate_mean(values, np.arange(400), BootstrapConfig())
    half = stats.sem(values) * stats.norm.ppf(0.975)
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.02)


@pytest.mark.parametrize(("hits", "value"), [(np.ones(30), 1.0), (np.zeros(30), 0.0)])
def test_a_fraction_of_0_or_1_has_the_exact_interval_of_the_number_of_subjects(hits: np.ndarray, value: float) -> None:
    clusters = np.repeat(np.arange(10), 3)
    among = clusters < 8
    found = estimate_fraction(hits, among, clusters, BootstrapConfig(level=0.9), IntervalNotes("nobody", "few"))
    exact = stats.binomtest(8 * int(value), 8).proportion_ci(0.9, method="exact")
    assert (found.value, found.low, found.high) == pytest.approx((value, exact.low, exact.high))


def test_a_fraction_of_no_rows_is_undefined() -> None:
    found = estimate_fraction(np.ones(4), np.zeros(4), np.arange(4), BootstrapConfig(), IntervalNotes("nobody", "few"))
    assert (found.value, found.note) == (None, "nobody")
    assert np.isnan(divide([0.0], [0.0]))[0]
