"""Every metric against scikit-learn, on samples that hypothesis draws."""

from __future__ import annotations

import warnings

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sklearn_metrics

from gyrus.evaluation import metrics
from gyrus.evaluation.bootstrap import cluster_samples, score_samples

CLASSES = 4


@st.composite
def labelled(draw: st.DrawFn, classes: int = CLASSES) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Targets, predicted and weights; some classes are absent, some weights zero."""
    size = draw(st.integers(1, 30))
    used = draw(st.lists(st.integers(0, classes - 1), min_size=1, max_size=classes, unique=True))
    targets = draw(st.lists(st.sampled_from(used), min_size=size, max_size=size))
    predicted = draw(st.lists(st.integers(0, classes - 1), min_size=size, max_size=size))
    weights = draw(st.lists(st.sampled_from([0.0, 1.0, 2.0, 0.3]), min_size=size, max_size=size))
    return np.array(targets), np.array(predicted), np.array(weights)


@settings(max_examples=60, deadline=None)
@given(labelled())
def test_confusion_metrics_are_those_of_scikit_learn(sample: tuple) -> None:
    targets, predicted, weights = sample
    labels = range(CLASSES)
    for weight in (None, weights if weights.sum() else None):
        confusion = metrics.confusion_matrix(targets, predicted, CLASSES, weight)
        expected = sklearn_metrics.confusion_matrix(targets, predicted, labels=labels, sample_weight=weight)
        np.testing.assert_allclose(confusion, expected, rtol=0, atol=1e-12)
        close(metrics.accuracy(confusion), sklearn_metrics.accuracy_score(targets, predicted, sample_weight=weight))
        keywords = {"labels": labels, "average": None, "zero_division": 0, "sample_weight": weight}
        close(metrics.precision(confusion), sklearn_metrics.precision_score(targets, predicted, **keywords))
        close(metrics.recall(confusion), sklearn_metrics.recall_score(targets, predicted, **keywords))
        close(metrics.f1(confusion), sklearn_metrics.f1_score(targets, predicted, **keywords))


@settings(max_examples=60, deadline=None)
@given(labelled())
def test_balanced_accuracy_is_that_of_scikit_learn(sample: tuple) -> None:
    targets, predicted, _ = sample
    confusion = metrics.confusion_matrix(targets, predicted, CLASSES)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # classes that were called but do not occur
        expected = sklearn_metrics.balanced_accuracy_score(targets, predicted)
    close(metrics.balanced_accuracy(confusion), expected)


@settings(max_examples=60, deadline=None)
@given(labelled(), st.integers(0, 2**32))
def test_the_table_of_metrics_leaves_out_absent_classes_and_nothing_else(sample: tuple, seed: int) -> None:
    targets, predicted, _ = sample
    scores = np.random.default_rng(seed).integers(0, 5, size=(len(targets), CLASSES)) / 4
    values, reference, _ = score_samples(cluster_samples(targets, predicted, scores, np.arange(len(targets))))
    present = np.unique(targets)
    assert np.flatnonzero(reference.present).tolist() == present.tolist()
    keywords = {"labels": present, "zero_division": 0}
    for name, function in (
        ("precision", sklearn_metrics.precision_score),
        ("recall", sklearn_metrics.recall_score),
        ("f1", sklearn_metrics.f1_score),
    ):
        close(values.overall[f"macro_{name}"][0], function(targets, predicted, average="macro", **keywords))
        close(values.by_class[name][0, present], function(targets, predicted, average=None, **keywords))
        assert np.isnan(np.delete(values.by_class[name][0], present)).all()
    if len(present) == 1:
        assert np.isnan(values.overall["macro_roc_auc"][0])
        return
    areas = [sklearn_metrics.roc_auc_score(targets == one, scores[:, one]) for one in present]
    close(values.by_class["roc_auc"][0, present], areas)
    close(values.overall["macro_roc_auc"][0], np.mean(areas))
    areas = [sklearn_metrics.average_precision_score(targets == one, scores[:, one]) for one in present]
    close(values.overall["macro_pr_auc"][0], np.mean(areas))
    majority = np.bincount(targets).max() / len(targets)
    close(values.overall["accuracy_gain"][0], np.mean(targets == predicted) - majority)


def close(mine, theirs) -> None:
    np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(labelled())
def test_errors_in_stages_are_those_of_scikit_learn(sample: tuple) -> None:
    targets, predicted, _ = sample
    confusion = metrics.confusion_matrix(targets, predicted, CLASSES)
    close(metrics.stage_error(confusion), sklearn_metrics.mean_absolute_error(targets, predicted))
    if len({*targets, *predicted}) > 1:
        expected = sklearn_metrics.cohen_kappa_score(targets, predicted, labels=range(CLASSES), weights="quadratic")
        close(metrics.quadratic_kappa(confusion), expected)
    else:
        assert np.isnan(metrics.quadratic_kappa(confusion))


@settings(max_examples=60, deadline=None)
@given(labelled(), st.integers(0, 2**32))
def test_ranking_by_stage_is_that_of_scikit_learn_and_scipy(sample: tuple, seed: int) -> None:
    targets, predicted, weights = sample
    scores = np.random.default_rng(seed).integers(1, 5, size=(len(targets), CLASSES)) / 4
    probabilities = scores / scores.sum(axis=1, keepdims=True)
    stages = np.round(metrics.stage_scores(probabilities), 9)
    np.testing.assert_allclose(stages[:, -1], probabilities @ np.arange(CLASSES), atol=1e-8)
    # Each sample is a cluster; counting clusters twice is repeating samples.
    samples = cluster_samples(targets, predicted, probabilities, np.arange(len(targets)), stages)
    counts = np.ceil(weights)
    for drawn in (np.ones(len(targets)), counts):
        found = samples.weighted(drawn[:, None])
        rows = np.repeat(np.arange(len(targets)), drawn.astype(int))
        for cut in range(1, CLASSES):
            above = targets[rows] >= cut
            two_sided = len(rows) and above.any() and not above.all()
            expected = sklearn_metrics.roc_auc_score(above, stages[rows, cut - 1]) if two_sided else np.nan
            close(found.cut_auc[0, cut - 1], expected)
        if len(set(targets[rows])) > 1:
            somers = stats.somersd(targets[rows], stages[rows, -1]).statistic
            np.testing.assert_allclose(2 * found.concordance[0] - 1, somers, atol=1e-9)
        else:
            assert np.isnan(found.concordance[0])


def test_metrics_of_stages_of_a_worked_example() -> None:
    # 3 right, 1 one stage too low, 1 two stages too high: (0 + 1 + 2) / 5 stages.
    confusion = metrics.confusion_matrix([0, 1, 2, 2, 0], [0, 1, 2, 1, 2], 3)
    assert metrics.stage_error(confusion) == 0.6
    # Squares: 1 + 4. By chance, 2, 1, 2 true and 1, 2, 2 predicted: (2 * (2 + 4 * 2) + 1 + 2 + 2 * (4 + 2)) / 5 = 7.
    np.testing.assert_allclose(metrics.quadratic_kappa(confusion), 1 - 5 / 7)
