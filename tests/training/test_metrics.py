from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn import metrics

from gyrus.training.config import Quantile
from gyrus.training.metrics import number_scores, validation_scores

CLASSES = ("none", "mild", "severe")


def test_scores_are_those_of_scikit_learn():
    numbers = np.random.default_rng(0)
    targets = numbers.choice(3, 200, p=[0.7, 0.2, 0.1])
    logits = numbers.normal(size=(200, 3)).astype(np.float32)
    logits[np.arange(200), targets] += 1
    probabilities = np.exp(logits.astype(np.float64))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    predicted = logits.argmax(axis=1)
    scores = validation_scores(logits, targets, CLASSES)
    assert scores == pytest.approx(
        {
            "val_loss": metrics.log_loss(targets, probabilities),
            "val_accuracy": metrics.accuracy_score(targets, predicted),
            "val_balanced_accuracy": metrics.balanced_accuracy_score(targets, predicted),
            "val_macro_f1": metrics.f1_score(targets, predicted, average="macro"),
            "val_auc": metrics.roc_auc_score(targets, probabilities, multi_class="ovr"),
            **{
                f"val_f1_{name}": value
                for name, value in zip(CLASSES, metrics.f1_score(targets, predicted, average=None), strict=True)
            },
        }
    )


def test_absent_classes_are_excluded():
    logits = np.array([[3.0, 0, 1], [0, 3.0, 1], [0, 3.0, 4.0]])
    scores = validation_scores(logits, np.array([0, 1, 1]), CLASSES)
    assert scores["val_balanced_accuracy"] == pytest.approx(0.75)
    assert scores["val_macro_f1"] == pytest.approx((1 + 2 / 3) / 2)
    assert scores["val_auc"] == 1.0
    assert math.isnan(scores["val_f1_severe"])


def test_wrong_and_certain_predictions_have_a_finite_loss():
    assert validation_scores(np.array([[1e4, 0.0], [0.0, 1.0]]), np.array([1, 1]), ("a", "b"))["val_loss"] > 1000


def test_scores_of_numbers_are_those_of_scikit_learn_on_the_median():
    numbers = np.random.default_rng(0)
    targets = numbers.normal(60, 10, 50).astype(np.float32)
    outputs = np.sort(targets[:, None] + numbers.normal(0, 5, (50, 3)), axis=1).astype(np.float32)
    median = outputs[:, 1]
    scores = number_scores(outputs, targets, Quantile(), 10.0)
    assert scores.pop("val_loss") > 0
    expected = {
        "val_mae": metrics.mean_absolute_error(targets, median),
        "val_rmse": metrics.root_mean_squared_error(targets, median),
        "val_r2": metrics.r2_score(targets, median),
        "val_pearson": np.corrcoef(targets, median)[0, 1],
    }
    assert scores == pytest.approx(expected, rel=1e-5)
