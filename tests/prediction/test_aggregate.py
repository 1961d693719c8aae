"""Pooling slices into people."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gyrus.errors import DataError
from gyrus.prediction.aggregate import pool_by_subject
from gyrus.prediction.table import Predictions

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


def test_the_pooled_table_keeps_targets_and_words() -> None:
    predictions = make(np.zeros((4, 3)), ["q", "p", "q", "p"], ["b", None, "b", None], split_unit="scan", part="val")
    pooled = pool_by_subject(predictions)
    assert pooled.table["target"].fillna("?").tolist() == ["?", "b"]
    assert (pooled.part, pooled.statement, pooled.subject_kind) == ("val", predictions.statement, "scan")


def test_a_slice_without_a_target_does_not_disagree() -> None:
    assert pool_by_subject(make(np.zeros((2, 3)), ["p", "p"], [None, "c"])).targets.tolist() == [2]


def test_a_subject_of_two_classes_is_named() -> None:
    with pytest.raises(DataError, match=r"1 subjects have .* the first is 'p' with \['a', 'b'\]"):
        pool_by_subject(make(np.zeros((3, 3)), ["p", "p", "q"], ["a", "b", "a"]))


def test_unknown_subjects_are_refused() -> None:
    with pytest.raises(DataError, match="1 of 2 samples do not say whose they are, the first is 's1'"):
        pool_by_subject(make(np.zeros((2, 3)), ["p", None]))
