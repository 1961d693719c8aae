"""The vectorised bootstrap against a plain loop over the same resamples, its coverage, and intervals of sums."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sklearn_metrics

from gyrus.evaluation import bootstrap
from gyrus.evaluation.bootstrap import (
    DEFINED_FRACTION,
    BootstrapConfig,
    Estimate,
    Fallbacks,
    IntervalNotes,
    bca_interval,
    bootstrap_metrics,
    cluster_indices,
    cluster_samples,
    divide,
    estimate,
    estimate_fraction,
    estimate_from_sums,
    estimate_mean,
    jackknife_metrics,
    resample_counts,
    score_samples,
    stratify,
)
from gyrus.evaluation.metrics import CLASS_METRICS, METRICS
from gyrus.inference.predictions import Predictions

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
        (0.5, [np.nan] * 2, "no interval: 2 of 2 resamples have no value"),
        (1.0, [1.0] * 9, "every resample gives the same value"),
    ],
)
def test_where_there_is_no_interval_a_note_says_why(value: float, resampled: list[float], words: str) -> None:
    result = estimate(value, np.array(resampled), 0.95, NOTES)
    assert result.low is None
    assert result.high is None
    assert words in result.note


@pytest.mark.parametrize(
    ("value", "resampled", "method"),
    [
        (1.0, [1.0, 1.0, 0.5], "exact"),
        (0.0, [0.0, 0.2, 0.0], "exact"),
        (0.5, [0.5, 0.5, 0.5], "exact"),
        (0.5, [0.4, 0.5, 0.6], "bootstrap"),
    ],
)
def test_scores_of_0_or_1_and_constant_ones_have_the_exact_interval(value, resampled, method) -> None:
    exact = Fallbacks(constant=lambda: Estimate(None, 0.25, 0.75, "", "exact"))
    result = estimate(value, np.array(resampled), 0.95, IntervalNotes("", ""), fallbacks=exact)
    assert (result.value, result.method, result.note) == (value, method, "")
    assert ((result.low, result.high) == (0.25, 0.75)) == (method == "exact")


def test_the_interval_is_bca_where_left_out_values_are_given() -> None:
    resampled, left_out = np.random.default_rng(0).gamma(2, size=200), np.random.default_rng(1).gamma(2, size=20)
    result = estimate(1.5, resampled, 0.9, NOTES, left_out)
    assert (result.low, result.high) == bca_interval(1.5, resampled, left_out, 0.9)
    assert (result.low, result.high) != bca_interval(1.5, resampled, left_out, 0.95)


def test_exact_intervals_count_the_clusters_of_each_class() -> None:
    """One subject of class 0, two of class 1, one of class 2, which is never predicted, and none of class 3."""
    targets, predicted = np.array([0, 0, 0, 1, 1, 1, 2]), np.array([0, 0, 1, 1, 1, 0, 1])
    samples = cluster_samples(targets, predicted, np.eye(4)[predicted], np.array([0, 0, 0, 1, 2, 2, 3]))
    point, reference, _ = score_samples(samples)
    constant = samples.constant_scores(point, reference, 0.9)
    assert (constant.true.tolist(), constant.others.tolist()) == ([1, 2, 1, 0], [3, 2, 3, 4])
    assert (constant.predicted.tolist(), constant.involved.tolist()) == ([2, 4, 0, 0], [2, 4, 1, 0])
    assert constant.gains.tolist() == [-1 / 3, 1, 0.5, 0]
    assert constant.by_class["recall"][:3].tolist() == [2 / 3, 2 / 3, 0]
    assert (constant.reference, constant.level) == (reference, 0.9)
    assert {values.shape for values in point.overall.values()} == {(1,)}


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


def test_bca_is_finite_where_all_resamples_are_on_one_side() -> None:
    """The correction for bias has the fraction of half a resample, and no acceleration without a jackknife."""
    resampled = np.arange(100) / 100
    for value, bias in ((-1.0, stats.norm.ppf(0.005)), (2.0, stats.norm.ppf(0.995))):
        wanted = np.quantile(resampled, stats.norm.cdf(2 * bias + stats.norm.ppf([0.025, 0.975])))
        for left_out in (np.full(5, 0.5), np.full(5, np.nan), np.empty(0)):
            assert bca_interval(value, resampled, left_out, 0.95) == pytest.approx(tuple(wanted), rel=1e-9)


def test_resamples_of_many_clusters_are_drawn_as_those_of_few() -> None:
    for clusters in (7, bootstrap.FEW_CLUSTERS + 1):
        counts = resample_counts(clusters, range(2, 5), seed=3)
        for column, number in enumerate(range(2, 5)):
            draw = np.random.default_rng((3, number)).integers(clusters, size=clusters)
            np.testing.assert_array_equal(counts[:, column], np.bincount(draw, minlength=clusters))
        with pytest.raises(ValueError, match="read-only"):
            counts[0] = 1


def test_many_samples_are_ranked_by_threads_with_the_same_result(monkeypatch) -> None:
    arrangement = cluster_samples(*study(5))
    counts = resample_counts(12, range(4), seed=0)
    one = arrangement.weighted(counts)
    monkeypatch.setattr(bootstrap, "MANY", 1)
    monkeypatch.setattr(bootstrap.os, "cpu_count", lambda: 3)
    several = arrangement.weighted(counts)
    for name in ("confusion", "roc_auc", "pr_auc"):
        np.testing.assert_array_equal(getattr(one, name), getattr(several, name))


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


def strata_study() -> tuple[np.ndarray, ...]:
    """Subjects of three of four classes, 5, 3 and 2 of each; subjects 5 and 8 have two and four rows."""
    classes = np.array([0, 0, 0, 0, 0, 1, 1, 1, 2, 2])
    clusters = np.repeat(np.arange(10), [1, 1, 1, 1, 1, 2, 1, 1, 4, 1])
    probabilities = np.random.default_rng(0).dirichlet(np.ones(4), size=len(clusters))
    return classes[clusters], probabilities.argmax(axis=1), probabilities, clusters


def test_small_classes_get_one_subject_that_is_right_and_one_that_is_wrong() -> None:
    targets, predicted, probabilities, clusters = strata_study()
    strata = stratify(targets, predicted, probabilities, clusters)
    assert strata.targets.tolist() == [*targets, 1, 1, 2, 2]
    assert strata.predicted.tolist() == [*predicted, 1, 0, 2, 0]  # wrong: the largest of the other classes
    assert strata.scores.tolist() == [*probabilities.tolist(), *np.eye(4)[[1, 0, 2, 0]].tolist()]
    assert strata.clusters.tolist() == [*clusters, 10, 11, 12, 13]
    assert strata.classes.tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 1, 1, 2, 2]
    assert strata.sizes.tolist() == [5, 3, 2, 0]
    assert strata.weights.tolist() == pytest.approx([*[1.0] * 10, 4 / 3, 4 / 3, 2.5, 2.5])
    turned = stratify(targets, predicted, probabilities, clusters, wrong_first=True)
    assert turned.predicted.tolist() == [*predicted, 0, 1, 0, 2]
    tiny = np.array([0, 0, 0, 1])
    added = stratify(tiny, tiny, np.eye(2)[tiny], np.arange(4))
    assert (added.targets[4:].tolist(), added.predicted[4:].tolist()) == ([0, 0, 1, 1], [0, 1, 1, 0])
    large = stratify(targets[:5], predicted[:5], probabilities[:5], clusters[:5])
    assert (len(large.targets), large.sizes.tolist()) == (5, [5, 0, 0, 0])
    assert {each.dtype for each in (large.targets, large.predicted, large.classes)} == {np.dtype(np.int64)}


def test_resamples_within_classes_draw_as_many_of_each_class_as_there_are() -> None:
    strata = stratify(*strata_study())
    counts = np.concatenate(list(strata.counts(70, seed=3)), axis=1)
    drawn = counts / strata.weights[:, None]
    assert counts.shape == (14, 70)
    for index, size in enumerate(strata.sizes):
        assert drawn[strata.classes == index].sum(axis=0).tolist() == [size] * 70
    assert (drawn[10:].sum(axis=1) > 0).all()
    assert 0.3 < (drawn[8:10].sum() / 140) < 0.7  # two of the class and two added ones
    same = np.concatenate(list(strata.counts(70, seed=3)), axis=1)
    other = np.concatenate(list(strata.counts(70, seed=4)), axis=1)
    assert (same == counts).all()
    assert (other != counts).any()
    assert (counts[:, :32] != counts[:, 32:64]).any()

    _, reference, _ = score_samples(cluster_samples(*strata_study()))
    values = strata.metrics(reference, resamples=70, seed=3)
    expected = cluster_samples(strata.targets, strata.predicted, strata.scores, strata.clusters).weighted(counts)
    correct = np.trace(expected.confusion, axis1=1, axis2=2) / expected.confusion.sum(axis=(1, 2))
    np.testing.assert_allclose(values.overall["accuracy"], correct)


@pytest.mark.parametrize("missing", [10, 11])
def test_where_more_than_a_tenth_of_the_resamples_have_no_value_they_are_drawn_within_classes(missing: int) -> None:
    assert pytest.approx(0.9) == DEFINED_FRACTION
    resampled = np.append(np.linspace(0.4, 0.6, 100 - missing), np.full(missing, np.nan))
    within = np.append(np.linspace(0.0, 0.8, 81), np.nan)
    found = estimate(0.9, resampled, 0.9, NOTES, fallbacks=Fallbacks(within_classes=lambda: within))
    if missing == 10:
        ends = np.quantile(resampled[:90], [0.05, 0.95])
        assert (found.low, found.high, found.method) == (pytest.approx(ends[0]), pytest.approx(ends[1]), "bootstrap")
    else:
        assert (found.value, found.low, found.high) == (0.9, pytest.approx(0.04), 0.9)
        assert found.method == "stratified"
        assert "resampled within classes, because 11 of 100 resamples have no value" in found.note
    nothing = estimate(0.9, resampled, 0.9, NOTES, fallbacks=Fallbacks(within_classes=lambda: np.full(3, np.nan)))
    assert (nothing.low is None) == (missing == 11)


def test_the_mean_of_equal_values_has_the_interval_of_its_bounds() -> None:
    clusters, config = np.repeat(np.arange(6), 2), BootstrapConfig(resamples=50)
    bounded = estimate_mean(np.full(12, 0.5), clusters, config, (0.0, 1.0))
    other = estimate_mean(np.full(12, 0.5), np.arange(12), config, (0.0, 1.0))
    assert bounded.low < 0.5 < bounded.high
    assert bounded.high - bounded.low > other.high - other.low  # six subjects tell less than twelve
    assert estimate_mean(np.full(12, 0.5), clusters, config).low is None
    assert estimate_mean(np.full(12, 0.5), clusters, BootstrapConfig(resamples=0), (0.0, 1.0)).low is None
    varied = np.r_[0.5, np.full(11, 0.25)]
    assert estimate_mean(varied, clusters, config, (0.0, 1.0)) == estimate_mean(varied, clusters, config)


def test_divide_is_undefined_where_nothing_is_counted() -> None:
    np.testing.assert_array_equal(divide([1.0, 0.25], [1.0, 0.5]), [1, 0.5])
    np.testing.assert_array_equal(divide([1, 2, 3], [2.0, 0.0, -1.0]), [0.5, np.nan, np.nan])


def test_clusters_that_change_class_are_not_resampled_within_classes() -> None:
    """A subject whose label changes between visits belongs to no stratum."""
    targets, predicted, probabilities, clusters = strata_study()
    targets = np.where(np.arange(len(targets)) == len(targets) - 2, 0, targets)
    strata = stratify(targets, predicted, probabilities, clusters)
    (counts,) = strata.counts(40, seed=0)
    assert counts.shape == (len(strata.classes), 0)


def test_clusters_are_numbered_in_the_order_of_their_names() -> None:
    """Two classifiers whose samples are in another order are resampled alike."""
    predictions = Predictions.from_logits(
        ["1", "2", "3"], np.eye(3)[:, :2], classes=["a", "b"], split_unit="subject", subjects=["q", "p", "q"]
    )
    assert cluster_indices(predictions).tolist() == [1, 0, 1]


def test_rows_have_weights_in_means_and_fractions() -> None:
    config, weights = BootstrapConfig(resamples=20), np.array([3.0, 1.0, 2.0, 2.0])
    mean = estimate_mean([1, 0, 1, 0], np.arange(4), config, weights=weights)
    fraction = estimate_fraction(
        [1, 0, 1, 0], [1, 1, 1, 1], np.arange(4), config, IntervalNotes("nobody", "few"), weights
    )
    assert mean.value == pytest.approx(5 / 8)
    assert (fraction.value, fraction.low, fraction.high) == (mean.value, mean.low, mean.high)


def test_a_mean_of_one_row_has_the_interval_of_its_bounds() -> None:
    one = estimate_mean([0.5], np.array([0]), BootstrapConfig(resamples=20), (0.0, 1.0))
    assert (one.value, one.low, one.high) == pytest.approx((0.5, 0.5 * 0.025, 0.5 * 0.025 + 0.975))
