"""What is measured, as pure functions on arrays, and the tables of all of it.

A metric is computed from tallies: the confusion matrix, and for each class the areas under its curves. Tallies have
any number of leading axes, so that the same function serves the score itself and thousands of bootstrap resamples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def confusion_matrix(
    targets: npt.ArrayLike, predicted: npt.ArrayLike, classes: int, weights: npt.ArrayLike | None = None
) -> Floats:
    """Summed weights by true class (row) and chosen class (column).

    Args:
        targets: True class of each sample, in [0, classes), shape (N,).
        predicted: Chosen class of each sample, in [0, classes), shape (N,).
        classes: The number of classes K.
        weights: A weight for each sample, shape (N,); by default one.

    Returns:
        An array of shape (K, K).
    """
    cells = np.asarray(targets, dtype=np.int64) * classes + np.asarray(predicted, dtype=np.int64)
    weight = None if weights is None else np.asarray(weights, dtype=np.float64)
    return np.bincount(cells, weight, minlength=classes**2).astype(np.float64).reshape(classes, classes)


def accuracy(confusion: Floats) -> Floats:
    """Share of the samples that are right; (..., K, K) to (...)."""
    return _ratio(_diagonal(confusion).sum(axis=-1), confusion.sum(axis=(-2, -1)), np.nan)


def recall(confusion: Floats) -> Floats:
    """Share of each class's samples that were found, 0 for a class without samples; (..., K, K) to (..., K)."""
    return _ratio(_diagonal(confusion), confusion.sum(axis=-1), 0.0)


def precision(confusion: Floats) -> Floats:
    """Share of each class's calls that are right, 0 for a class never called; (..., K, K) to (..., K)."""
    return _ratio(_diagonal(confusion), confusion.sum(axis=-2), 0.0)


def f1(confusion: Floats) -> Floats:
    """Harmonic mean of precision and recall, 0 where there is neither; (..., K, K) to (..., K)."""
    return _ratio(2 * _diagonal(confusion), confusion.sum(axis=-1) + confusion.sum(axis=-2), 0.0)


def balanced_accuracy(confusion: Floats) -> Floats:
    """Mean recall over the classes that have samples; (..., K, K) to (...)."""
    present = confusion.sum(axis=-1) > 0
    return _ratio((recall(confusion) * present).sum(axis=-1), present.sum(axis=-1).astype(np.float64), np.nan)


@dataclass(frozen=True)
class Tallies:
    """All that the metrics are computed from.

    Attributes:
        confusion: Weight by true class and chosen class, shape (..., K, K).
        roc_auc: Area under each class's ROC curve against the rest, shape (..., K), NaN where undefined.
        pr_auc: Average precision of each class, shape (..., K), NaN where undefined.
    """

    confusion: Floats
    roc_auc: Floats
    pr_auc: Floats


@dataclass(frozen=True)
class Reference:
    """What is held fixed while the samples are resampled.

    Attributes:
        present: The classes that have samples, shape (K,); macro averages run over them.
        majority: The most frequent class; the one to beat by always saying it.
    """

    present: npt.NDArray[np.bool_]
    majority: int

    @classmethod
    def of(cls, confusion: Floats) -> Reference:
        """The reference of all samples together, from their confusion matrix (K, K)."""
        support = confusion.sum(axis=-1)
        return cls(support > 0, int(support.argmax()))


@dataclass(frozen=True)
class ClassMetric:
    """A number for each class: its title, and how to compute it, tallies to (..., K)."""

    title: str
    compute: Callable[[Tallies], Floats]


@dataclass(frozen=True)
class Metric:
    """A number for all classes together: its title, and how to compute it, tallies to (...)."""

    title: str
    compute: Callable[[Tallies, Reference], Floats]


CLASS_METRICS: dict[str, ClassMetric] = {
    "precision": ClassMetric("Precision", lambda tallies: precision(tallies.confusion)),
    "recall": ClassMetric("Recall", lambda tallies: recall(tallies.confusion)),
    "f1": ClassMetric("F1", lambda tallies: f1(tallies.confusion)),
    "roc_auc": ClassMetric("ROC AUC", lambda tallies: tallies.roc_auc),
    "pr_auc": ClassMetric("PR AUC", lambda tallies: tallies.pr_auc),
}


def class_values(name: str, tallies: Tallies) -> Floats:
    """A class metric of :data:`CLASS_METRICS`, NaN for a class without samples: it has nothing to be right about."""
    present = tallies.confusion.sum(axis=-1) > 0
    return np.where(present, CLASS_METRICS[name].compute(tallies), np.nan)


def _mean_of(name: str) -> Callable[[Tallies, Reference], Floats]:
    """The macro average; NaN where a class of the reference has no samples: a mean over others is another quantity."""

    def compute(tallies: Tallies, reference: Reference) -> Floats:
        return np.asarray(class_values(name, tallies)[..., reference.present].mean(axis=-1))

    return compute


def _gain(tallies: Tallies, reference: Reference) -> Floats:
    support = tallies.confusion.sum(axis=-1)
    return accuracy(tallies.confusion) - _ratio(support[..., reference.majority], support.sum(axis=-1), np.nan)


METRICS: dict[str, Metric] = {
    "accuracy": Metric("Accuracy", lambda tallies, reference: accuracy(tallies.confusion)),  # noqa: ARG005
    "accuracy_gain": Metric("Accuracy above the majority class", _gain),
    "balanced_accuracy": Metric("Balanced accuracy", _mean_of("recall")),
    "macro_precision": Metric("Macro precision", _mean_of("precision")),
    "macro_recall": Metric("Macro recall", _mean_of("recall")),
    "macro_f1": Metric("Macro F1", _mean_of("f1")),
    "macro_roc_auc": Metric("Macro ROC AUC", _mean_of("roc_auc")),
    "macro_pr_auc": Metric("Macro PR AUC", _mean_of("pr_auc")),
}


def _diagonal(confusion: Floats) -> Floats:
    return np.diagonal(confusion, axis1=-2, axis2=-1)


def _ratio(part: Floats, whole: Floats, otherwise: float) -> Floats:
    part, whole = np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64)
    return np.divide(part, whole, out=np.full(whole.shape, otherwise), where=whole > 0)
