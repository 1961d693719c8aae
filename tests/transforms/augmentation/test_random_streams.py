from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from gyrus.transforms.augmentation.random_streams import Streams

places = st.integers(0, 2**40)


def test_numbers_agree_with_splitmix64():
    # The reference implementation's first numbers for the seed 1234567.
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    streams = Streams(np.array([1234567], dtype=np.uint64))
    assert [int(streams.seeds()[0]) for _ in expected] == expected


@settings(deadline=None)
@given(seed=places, epoch=places, positions=st.lists(places, min_size=1, max_size=20))
def test_a_row_depends_only_on_its_own_key(seed, epoch, positions):
    together = Streams.at(seed, epoch, np.array(positions)).uniforms(3)
    alone = [Streams.at(seed, epoch, np.array([position])).uniforms(3)[0] for position in positions]
    np.testing.assert_array_equal(together, alone)


@settings(deadline=None)
@given(place=st.tuples(places, places), other=st.tuples(places, places))
def test_another_key_gives_other_numbers(place, other):
    same = np.array_equal(Streams.at(*place).uniforms(4), Streams.at(*other).uniforms(4))
    assert same == (place == other)


def test_children_are_independent_of_what_was_drawn_before():
    streams = Streams.at(0, np.arange(5))
    before = streams.child(2).uniform()
    streams.uniforms(7)
    np.testing.assert_array_equal(streams.child(2).uniform(), before)
    assert not np.isin(streams.child(3).uniform(), before).any()


@pytest.mark.parametrize("along", ["rows", "numbers", "seeds", "children"])
def test_numbers_are_uniform_and_independent(along):
    drawn = {
        "rows": lambda: Streams.at(0, 0, np.arange(20000)).uniform(),
        "numbers": lambda: Streams.at(0, 0).uniforms(20000)[0],
        "seeds": lambda: Streams.at(np.arange(20000), 0).uniform(),
        "children": lambda: np.array([Streams.at(0).child(number).uniform()[0] for number in range(20000)]),
    }[along]()
    assert stats.kstest(drawn, "uniform").pvalue > 0.01
    for lag in (1, 2, 7):
        assert abs(np.corrcoef(drawn[:-lag], drawn[lag:])[0, 1]) < 0.02


def test_normal_numbers_and_choices_have_their_distributions():
    streams = Streams.at(3, np.arange(20000))
    assert stats.kstest(streams.normal(), "norm").pvalue > 0.01
    counts = np.bincount(streams.choices(1, 7)[:, 0], minlength=7)
    assert len(counts) == 7
    assert stats.chisquare(counts).pvalue > 0.01
