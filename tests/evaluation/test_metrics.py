"""Every metric against scikit-learn, on anything that hypothesis can think of."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from gyrus.evaluation import metrics
from gyrus.evaluation.intervals import arrange, score
from gyrus.evaluation.roc import average_precision, rank, roc_auc, roc_curve

CLASSES = 4


@st.composite
def judged(draw: st.DrawFn, classes: int = CLASSES) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Targets, predicted and weights; some classes are absent, some weights zero."""
    size = draw(st.integers(1, 30))
    used = draw(st.lists(st.integers(0, classes - 1), min_size=1, max_size=classes, unique=True))
    targets = draw(st.lists(st.sampled_from(used), min_size=size, max_size=size))
    predicted = draw(st.lists(st.integers(0, classes - 1), min_size=size, max_size=size))
    weights = draw(st.lists(st.sampled_from([0.0, 1.0, 2.0, 0.3]), min_size=size, max_size=size))
    return np.array(targets), np.array(predicted), np.array(weights)


@st.composite
def ranked(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Relevance, scores with many ties, and weights; both classes have weight."""
    size = draw(st.integers(2, 40))
    relevant = draw(st.lists(st.booleans(), min_size=size, max_size=size))
    scores = draw(
        st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0]) | st.floats(0, 1), min_size=size, max_size=size)
    )
    weights = draw(st.lists(st.sampled_from([0.0, 1.0, 1.0, 3.0, 0.7]), min_size=size, max_size=size))
    relevant[0], relevant[1], weights[0], weights[1] = True, False, 1.0, 1.0
    return np.array(relevant), np.array(scores), np.array(weights)


@settings(max_examples=60, deadline=None)
@given(judged())
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
@given(judged())
def test_balanced_accuracy_is_that_of_scikit_learn(sample: tuple) -> None:
    targets, predicted, _ = sample
    confusion = metrics.confusion_matrix(targets, predicted, CLASSES)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # classes that were called but do not occur
        expected = sklearn_metrics.balanced_accuracy_score(targets, predicted)
    close(metrics.balanced_accuracy(confusion), expected)


@settings(max_examples=60, deadline=None)
@given(ranked())
def test_areas_are_those_of_scikit_learn(sample: tuple) -> None:
    relevant, scores, weights = sample
    for weight in (None, weights):
        keywords = {"sample_weight": weight}
        close(roc_auc(relevant, scores, weight), sklearn_metrics.roc_auc_score(relevant, scores, **keywords))
        expected = sklearn_metrics.average_precision_score(relevant, scores, **keywords)
        close(average_precision(relevant, scores, weight), expected)


@settings(max_examples=60, deadline=None)
@given(ranked())
def test_the_roc_curve_is_that_of_scikit_learn(sample: tuple) -> None:
    relevant, scores, weights = sample
    for weight in (None, weights):
        expected = sklearn_metrics.roc_curve(relevant, scores, sample_weight=weight, drop_intermediate=False)
        curve = roc_curve(relevant, scores, weight)
        for mine, theirs in zip(curve, distinct(expected, scores), strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-12)


def distinct(curve: tuple, scores: np.ndarray) -> tuple:
    """Scikit-learn leaves samples of weight zero out, whose scores are points of no effect here: put them in."""
    thresholds = np.append(np.inf, np.unique(scores)[::-1])
    position = np.searchsorted(-curve[2], -thresholds, side="right") - 1
    return curve[0][position], curve[1][position], thresholds


@settings(max_examples=60, deadline=None)
@given(ranked(), st.integers(1, 5), st.randoms())
def test_weights_by_cluster_are_weights_by_sample(sample: tuple, clusters: int, random) -> None:
    relevant, scores, weights = sample
    cluster = np.array([random.randrange(clusters) for _ in relevant])
    counts = np.array([[random.choice([0, 1, 2, 5]) for _ in range(3)] for _ in range(cluster.max() + 1)], dtype=float)
    areas = rank(relevant, scores, clusters=cluster, weights=weights).areas(counts)
    for column in range(3):
        weight = weights * counts[cluster, column]
        close(areas.roc[column], roc_auc(relevant, scores, weight))
        close(areas.precision_recall[column], average_precision(relevant, scores, weight))


def test_areas_agree_over_many_blocks_of_groups(monkeypatch) -> None:
    random = np.random.default_rng(0)
    scores = np.round(random.random(3000), 3)
    relevant = random.random(3000) < scores
    monkeypatch.setattr("gyrus.evaluation.roc.GROUPS_AT_ONCE", 100)
    close(roc_auc(relevant, scores), sklearn_metrics.roc_auc_score(relevant, scores))
    close(average_precision(relevant, scores), sklearn_metrics.average_precision_score(relevant, scores))


@pytest.mark.parametrize("relevant", [[True, True], [False, False], []])
def test_areas_need_both_sides(relevant: list[bool]) -> None:
    scores = [0.2, 0.8][: len(relevant)]
    assert np.isnan(roc_auc(relevant, scores))
    assert np.isnan(average_precision(relevant, scores))


@settings(max_examples=60, deadline=None)
@given(judged(), st.integers(0, 2**32))
def test_the_table_of_metrics_leaves_out_absent_classes_and_nothing_else(sample: tuple, seed: int) -> None:
    targets, predicted, _ = sample
    scores = np.random.default_rng(seed).integers(0, 5, size=(len(targets), CLASSES)) / 4
    values, reference, _ = score(arrange(targets, predicted, scores, np.arange(len(targets))))
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
