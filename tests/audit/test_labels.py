from __future__ import annotations

import numpy as np
import pandas as pd

from gyrus.audit.labels import assign_folds, find_label_errors, out_of_fold


def two_clouds(subjects: int = 60, each: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features of subjects of two separable classes, their classes, and their numbers."""
    generator = np.random.default_rng(seed)
    numbers = np.repeat(np.arange(subjects), each)
    targets = numbers % 2
    return generator.normal(size=(len(numbers), 5)) + 3.0 * targets[:, None], targets, numbers


def test_label_errors_are_found() -> None:
    features, targets, subjects = two_clouds()
    wrong = np.isin(subjects, [3, 10])
    given = np.where(wrong, 1 - targets, targets)
    rows, guesses = find_label_errors(out_of_fold(features, given, subjects), given)
    assert set(np.nonzero(wrong)[0]) <= set(rows[:8])
    assert (guesses[:8] == targets[rows[:8]]).all()
    assert len(rows) < 12


def test_subjects_stay_in_one_fold_and_classes_are_spread() -> None:
    _, targets, subjects = two_clouds(subjects=40)
    folds = assign_folds(targets, subjects, seed=3)
    assert (pd.Series(folds).groupby(subjects).nunique() == 1).all()
    assert (pd.crosstab(folds, targets) > 0).all(axis=None)


def test_out_of_fold_predictions_of_random_labels_are_chance() -> None:
    generator = np.random.default_rng(1)
    subjects = np.repeat(np.arange(80), 5)
    faces = generator.normal(size=(80, 10))
    targets = generator.integers(0, 2, 80)[subjects]
    guess = np.argmax(out_of_fold(faces[subjects], targets, subjects), axis=1)
    assert abs((guess == targets).mean() - 0.5) < 0.2
