"""Random numbers depend on seed and position only."""

from __future__ import annotations

import random
import signal

import numpy as np
import torch

from gyrus.training.random_state import generator
from tests.support.toy_training import assert_same_training, train


def test_numbers_differ_by_purpose_and_position():
    draws = [
        generator(3, purpose, *position).random()
        for purpose, position in (
            ("order", (0,)),
            ("order", (1,)),
            ("mixing", (0,)),
            ("mixing", (0, 1)),
            ("torch", (0,)),
        )
    ]
    assert len(set(draws)) == len(draws)
    assert generator(3, "order", 1).random() == draws[1]


def test_global_random_state_has_no_effect_and_is_restored(tmp_path, unbroken):
    torch.manual_seed(99)
    np.random.seed(99)
    random.seed(99)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    train(tmp_path)
    assert_same_training(tmp_path, unbroken)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert random.getstate() == before[2]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert not torch.are_deterministic_algorithms_enabled()
