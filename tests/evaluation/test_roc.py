"""Areas under curves and the ROC curve against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from gyrus.evaluation.roc import average_precision, rank, roc_auc, roc_curve


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


def close(mine, theirs) -> None:
    np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-12)
