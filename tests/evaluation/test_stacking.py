from __future__ import annotations

import numpy as np

from gyrus.evaluation.stacking import cross_fitted, fit_stack
from gyrus.inference.late_fusion import LateFusion, Stack, pooled


def answers(count=400, seed=0):
    """Classes, the answer of a classifier that knows something, and one that guesses."""
    random = np.random.default_rng(seed)
    score = random.normal(size=count) * 2
    targets = (score + random.logistic(size=count) > 0).astype(np.int64)
    noise = random.normal(size=count)
    return targets, np.column_stack([-score / 2, score / 2]), np.column_stack([-noise / 2, noise / 2])


def test_a_classifier_that_guesses_gets_no_weight_and_a_good_one_its_own():
    targets, good, guess = answers()
    for stack in (fit_stack(good, guess, targets), fit_stack(guess, good, targets)):
        small, large = sorted([stack.image, stack.table])
        assert small < 0.2
        assert 0.8 < large < 1.3
    assert fit_stack(-good, guess, targets).image == 0  # never a negative weight


def test_weights_of_few_subjects_stay_near_those_of_the_mean():
    targets, good, guess = answers(count=4)
    stack = fit_stack(good, guess, targets)
    assert abs(stack.image - 0.5) < 0.5
    assert abs(stack.table - 0.5) < 0.5


def test_cross_fitted_answers_come_from_weights_without_their_own_subject():
    targets, good, guess = answers(count=60)
    together = cross_fitted(good, guess, targets, list(range(60)), seed=0)
    flipped = targets.copy()
    flipped[0] = 1 - flipped[0]
    assert np.isfinite(together).all()
    changed = cross_fitted(good, guess, targets, [0, *range(59)], seed=0)
    assert not np.array_equal(changed, together)
    assert not np.allclose(together, fit_stack(good, guess, targets).combine(good, guess))


def test_all_images_of_a_subject_get_its_pooled_answer():
    logits = np.array([[0.0, 2.0], [0.0, -2.0], [1.0, 0.0], [3.0, 0.0]])
    together = pooled(logits, ["a", "a", None, None])
    np.testing.assert_array_equal(together[0], together[1])
    np.testing.assert_allclose(np.exp(together[0]), [0.5, 0.5])
    assert not np.array_equal(together[2], together[3])
    stack = Stack(1.0, 0.0, (0.0, 0.0))
    np.testing.assert_allclose(stack.combine(together, together), together)
    assert LateFusion.SCHEMA == "gyrus.late_fusion/1"
