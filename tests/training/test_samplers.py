from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gyrus.training.samplers import SAMPLERS, balanced, batches, shuffle

RARE = np.repeat([0, 1, 2], [900, 90, 10])


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_order_follows_from_seed_and_epoch_alone(sampler):
    order = sampler(RARE, 1, 5)
    np.random.seed(0)
    assert np.array_equal(sampler(RARE, 1, 5), order)
    assert not np.array_equal(sampler(RARE, 1, 6), order)
    assert not np.array_equal(sampler(RARE, 2, 5), order)
    assert len(order) == len(RARE)


@given(st.integers(1, 200), st.integers(0, 2**40), st.integers(0, 100))
def test_shuffle_has_every_image_once(count, seed, epoch):
    assert sorted(shuffle(np.zeros(count, dtype=np.int64), seed, epoch)) == list(range(count))


def test_balanced_draws_every_class_as_often():
    drawn = np.concatenate([RARE[balanced(RARE, 0, epoch)] for epoch in range(30)])
    shares = np.bincount(drawn) / len(drawn)
    # 30,000 draws: the standard deviation of a share is 0.0027.
    np.testing.assert_allclose(shares, 1 / 3, atol=5 * 0.0027)


def test_balanced_copes_with_an_absent_class():
    assert set(balanced(np.array([0, 3, 3]), 0, 0)) <= {0, 1, 2}


@given(st.integers(1, 300), st.integers(1, 40))
def test_batches_keep_the_order_and_leave_no_single_image(count, size):
    order = np.random.default_rng(count).permutation(count)
    subsets = batches(order, size)
    assert np.array_equal(np.concatenate(subsets), order)
    assert all(len(subset) == size for subset in subsets[:-1]) or len(subsets) == 1 or len(subsets[-1]) == size + 1
    assert size == 1 or count == 1 or min(len(subset) for subset in subsets) > 1
    assert max(len(subset) for subset in subsets) <= size + 1
