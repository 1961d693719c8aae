"""Pooling slices by subject, and averaging an ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gyrus.errors import DataError
from gyrus.inference.pooling import average_predictions, fit_ensemble_weights, pool_by_subject
from gyrus.inference.predictions import Predictions

CLASSES = ("a", "b", "c")


def make(logits: np.ndarray, subjects: list, targets: list | None = None, **changes: object) -> Predictions:
    keywords: dict = {"classes": CLASSES, "split_unit": "subject", "subjects": subjects, "targets": targets}
    return Predictions.from_logits([f"s{row}" for row in range(len(logits))], logits, **(keywords | changes))


logit_tables = hnp.arrays(
    float, st.tuples(st.integers(1, 12), st.just(3)), elements=st.floats(-900, 900, allow_nan=False)
)


@settings(max_examples=40, deadline=None)
@given(logit_tables, st.randoms())
def test_the_pooled_probability_is_the_mean_over_the_slices(logits: np.ndarray, random) -> None:
    subjects = [f"p{random.randrange(3)}" for _ in logits]
    predictions = make(logits, subjects)
    pooled = pool_by_subject(predictions)
    assert pooled.table["subject"].tolist() == sorted(set(subjects))
    assert np.isfinite(pooled.logits).all()
    for row, subject in enumerate(pooled.table["subject"]):
        mean = predictions.probabilities[[one == subject for one in subjects]].mean(axis=0)
        np.testing.assert_allclose(pooled.probabilities[row], mean, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(logit_tables, st.randoms())
def test_the_order_of_the_rows_does_not_matter(logits: np.ndarray, random) -> None:
    predictions = make(logits, [f"p{row % 3}" for row in range(len(logits))])
    order = random.sample(range(len(logits)), len(logits))
    np.testing.assert_array_equal(
        pool_by_subject(predictions).logits, pool_by_subject(predictions.select(order)).logits
    )


def test_the_pooled_table_keeps_targets_and_warning() -> None:
    predictions = make(np.zeros((4, 3)), ["q", "p", "q", "p"], ["b", None, "b", None], split_unit="scan", subset="val")
    pooled = pool_by_subject(predictions)
    assert pooled.table["target"].fillna("?").tolist() == ["?", "b"]
    assert (pooled.subset, pooled.warning, pooled.subject_kind) == ("val", predictions.warning, "scan")
    assert pooled.table["subject"].tolist() == pooled.table["sample"].tolist() == ["p", "q"]
    assert pool_by_subject(make(np.zeros((2, 3)), ["p", "p"], subject_kind="scan")).subject_kind == "scan"


def test_a_slice_without_a_target_is_ignored() -> None:
    assert pool_by_subject(make(np.zeros((2, 3)), ["p", "p"], [None, "c"])).targets.tolist() == [2]


def test_a_subject_of_two_classes_is_named() -> None:
    with pytest.raises(DataError, match=r"1 subject has .* the first is 'p' with \['a', 'b'\]"):
        pool_by_subject(make(np.zeros((3, 3)), ["p", "p", "q"], ["a", "b", "a"]))


def test_unknown_subjects_are_refused() -> None:
    with pytest.raises(DataError, match="The subject of 1 of 2 samples is unknown, the first is 's1'"):
        pool_by_subject(make(np.zeros((2, 3)), ["p", None]))


def classifier(probabilities: np.ndarray, **changes: object) -> Predictions:
    rows = np.asarray(probabilities, dtype=float)
    subjects, targets = [f"p{row}" for row in range(len(rows))], [CLASSES[row % 3] for row in range(len(rows))]
    return make(np.log(rows), subjects, targets, **changes)


def some(seed: int, rows: int = 9) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet([1, 1, 1], size=rows)


def test_the_mean_of_classifiers_is_that_of_their_probabilities_by_name() -> None:
    first, second = classifier(some(0)), classifier(some(1))
    swapped = replace(second, classes=("c", "a", "b")).select(np.arange(9)[::-1])
    for other in (second, swapped):
        mean = average_predictions([first, other], [0.25, 0.75])
        np.testing.assert_allclose(mean.probabilities, 0.25 * some(0) + 0.75 * some(1), atol=1e-12)
        assert mean.table["sample"].tolist() == first.table["sample"].tolist()
        assert mean.table["target"].tolist() == first.table["target"].tolist()


def test_the_mean_keeps_what_is_known_of_the_samples() -> None:
    subjects, targets = ["p", None, "q"], [None, "b", "c"]
    first, second = (
        make(np.log(some(seed, 3)), subjects, targets, subset="val", split_unit="image", subject_kind="scan")
        for seed in (0, 1)
    )
    mean = average_predictions([first, second])
    assert mean.table["subject"].fillna("?").tolist() == ["p", "?", "q"]
    assert mean.table["target"].fillna("?").tolist() == ["?", "b", "c"]
    assert (mean.subset, mean.subject_kind, mean.split_unit) == ("val", "scan", "image")
    np.testing.assert_allclose(mean.probabilities, (some(0, 3) + some(1, 3)) / 2, atol=1e-12)


def test_visits_keep_their_subjects() -> None:
    """Also where an ensemble is averaged; resampling is by these subjects."""
    visits = ["p/1", "p/2", "p/2", "q/1"]
    first, second = (
        make(np.log(some(seed, 4)), visits, ["a", "b", "b", "c"], subject_kind="visit", subjects_of_visits=list("pppq"))
        for seed in (0, 1)
    )
    mean = average_predictions([first, second])
    pooled = pool_by_subject(mean)
    assert (mean.subject_kind, pooled.subject_kind) == ("visit", "visit")
    assert list(mean.independent_units) == list("pppq")
    assert list(pooled.independent_units) == list("ppq")


def test_weights_of_samples_without_subjects_are_fitted_by_sample() -> None:
    known, other = classifier(some(0)), classifier(some(1))
    one, two = (replace(each, table=each.table.assign(subject=None)) for each in (known, other))
    expected = fit_ensemble_weights([known, other])
    assert fit_ensemble_weights([one, two.select(np.arange(9)[::-1])]) == pytest.approx(expected, abs=1e-6)


def test_an_ensemble_carries_the_warning_of_its_leakiest_member() -> None:
    members = [classifier(some(0), split_unit=unit) for unit in ("subject", "image", "scan")]
    assert average_predictions(members).split_unit == "image"


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (classifier(some(0, 8)), "Classifier 2 predicts 8 samples, the first 9"),
        (make(np.zeros((9, 3)), [f"p{row}" for row in range(9)], ["a"] * 9), "true classes differ"),
        (make(np.zeros((9, 2)), ["p"] * 9, classes=("a", "b")), "has the classes"),
    ],
)
def test_predictions_of_other_samples_are_not_averaged(other: Predictions, words: str) -> None:
    with pytest.raises(DataError, match=words):
        average_predictions([classifier(some(0)), other])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_fitted_weights_are_fractions_and_no_member_or_mean_is_likelier(seed: int) -> None:
    members = [classifier(some(seed + number, 30)) for number in range(3)]
    of_truth = np.stack([member.probabilities[np.arange(30), members[0].targets] for member in members])

    def likelihood(weights: Sequence[float]) -> float:
        return float(np.log(np.asarray(weights) @ of_truth).mean())

    weights = fit_ensemble_weights(members)
    assert min(weights) >= 0
    assert sum(weights) == pytest.approx(1)
    others = [*np.eye(3), [1 / 3] * 3, *np.random.default_rng(seed).dirichlet([1, 1, 1], size=20)]
    assert all(likelihood(weights) >= likelihood(other) - 1e-6 for other in others)


def test_weights_count_each_subject_once() -> None:
    right, wrong = [0.8, 0.1, 0.1], [0.1, 0.8, 0.1]
    subjects, targets = ["p"] * 50 + ["q"], ["a"] * 51
    one, other = (make(np.log(rows), subjects, targets) for rows in ([right] * 50 + [wrong], [wrong] * 50 + [right]))
    assert fit_ensemble_weights([one, other]) == pytest.approx((0.5, 0.5), abs=1e-6)


def test_weights_need_true_classes() -> None:
    with pytest.raises(DataError, match="cannot be fitted"):
        fit_ensemble_weights([make(np.zeros((2, 3)), ["p", "q"])] * 2)
