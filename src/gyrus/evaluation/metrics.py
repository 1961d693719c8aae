"""Classification metrics as pure functions of arrays, and the tables that name them.

Every metric is computed from the confusion matrix and the areas under the curves of each class. These inputs may have
any number of leading axes, so one function computes the score itself and its thousands of bootstrap resamples.
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
    """Summed weights by true class (row) and predicted class (column).

    Args:
        targets: True class of each sample, in [0, classes), shape (N,).
        predicted: Predicted class of each sample, in [0, classes), shape (N,).
        classes: The number of classes K.
        weights: Weight of each sample, shape (N,); by default 1.

    Returns:
        An array of shape (K, K).
    """
    cells = np.asarray(targets, dtype=np.int64) * classes + np.asarray(predicted, dtype=np.int64)
    weight = None if weights is None else np.asarray(weights, dtype=np.float64)
    return np.bincount(cells, weight, minlength=classes**2).astype(np.float64).reshape(classes, classes)


def accuracy(confusion: Floats) -> Floats:
    """Fraction of samples classified correctly; (..., K, K) to (...)."""
    return _ratio(_diagonal(confusion).sum(axis=-1), confusion.sum(axis=(-2, -1)), np.nan)


def recall(confusion: Floats) -> Floats:
    """Recall (sensitivity) of each class, 0 for a class without samples; (..., K, K) to (..., K)."""
    return _ratio(_diagonal(confusion), confusion.sum(axis=-1), 0.0)


def precision(confusion: Floats) -> Floats:
    """Precision (PPV) of each class, 0 for a class that is never predicted; (..., K, K) to (..., K)."""
    return _ratio(_diagonal(confusion), confusion.sum(axis=-2), 0.0)


def f1(confusion: Floats) -> Floats:
    """Harmonic mean of precision and recall, 0 where both are 0; (..., K, K) to (..., K)."""
    return _ratio(2 * _diagonal(confusion), confusion.sum(axis=-1) + confusion.sum(axis=-2), 0.0)


def balanced_accuracy(confusion: Floats) -> Floats:
    """Mean recall over the classes that have samples; (..., K, K) to (...)."""
    present = confusion.sum(axis=-1) > 0
    return _ratio((recall(confusion) * present).sum(axis=-1), present.sum(axis=-1).astype(np.float64), np.nan)


@dataclass(frozen=True)
class MetricInputs:
    """What the metrics are computed from.

    Attributes:
        confusion: Weight by true class and predicted class, shape (..., K, K).
        roc_auc: Area under the ROC curve of each class against the rest, shape (..., K), NaN where undefined.
        pr_auc: Average precision of each class, shape (..., K), NaN where undefined.
    """

    confusion: Floats
    roc_auc: Floats
    pr_auc: Floats


@dataclass(frozen=True)
class Reference:
    """What stays fixed while the samples are resampled.

    Attributes:
        present: The classes that have samples, shape (K,); macro averages run over them.
        majority: Index of the most frequent class; always predicting it is the baseline.
    """

    present: npt.NDArray[np.bool_]
    majority: int

    @classmethod
    def from_confusion(cls, confusion: Floats) -> Reference:
        """The reference of all samples, from their confusion matrix (K, K)."""
        support = confusion.sum(axis=-1)
        return cls(support > 0, int(support.argmax()))


@dataclass(frozen=True)
class ClassMetric:
    """A metric of each class: its title, and how to compute it, inputs to (..., K)."""

    title: str
    compute: Callable[[MetricInputs], Floats]


@dataclass(frozen=True)
class Metric:
    """A metric of all classes together: its title, and how to compute it, inputs to (...)."""

    title: str
    compute: Callable[[MetricInputs, Reference], Floats]


CLASS_METRICS: dict[str, ClassMetric] = {
    "precision": ClassMetric("Precision", lambda inputs: precision(inputs.confusion)),
    "recall": ClassMetric("Recall", lambda inputs: recall(inputs.confusion)),
    "f1": ClassMetric("F1", lambda inputs: f1(inputs.confusion)),
    "roc_auc": ClassMetric("ROC AUC", lambda inputs: inputs.roc_auc),
    "pr_auc": ClassMetric("PR AUC", lambda inputs: inputs.pr_auc),
}


def class_values(name: str, inputs: MetricInputs) -> Floats:
    """A class metric of :data:`CLASS_METRICS`, NaN for a class without samples."""
    present = inputs.confusion.sum(axis=-1) > 0
    return np.where(present, CLASS_METRICS[name].compute(inputs), np.nan)


def _mean_of(name: str) -> Callable[[MetricInputs, Reference], Floats]:
    """The macro average; NaN where a class of the reference has no samples, for the mean then is another quantity."""

    def compute(inputs: MetricInputs, reference: Reference) -> Floats:
        return np.asarray(class_values(name, inputs)[..., reference.present].mean(axis=-1))

    return compute


def _gain(inputs: MetricInputs, reference: Reference) -> Floats:
    support = inputs.confusion.sum(axis=-1)
    return accuracy(inputs.confusion) - _ratio(support[..., reference.majority], support.sum(axis=-1), np.nan)


METRICS: dict[str, Metric] = {
    "accuracy": Metric("Accuracy", lambda inputs, reference: accuracy(inputs.confusion)),  # noqa: ARG005
    "accuracy_gain": Metric("Accuracy above the majority class", _gain),
    "balanced_accuracy": Metric("Balanced accuracy", _mean_of("recall")),
    "macro_precision": Metric("Macro precision", _mean_of("precision")),
    "macro_recall": Metric("Macro recall", _mean_of("recall")),
    "macro_f1": Metric("Macro F1", _mean_of("f1")),
    "macro_roc_auc": Metric("Macro ROC AUC", _mean_of("roc_auc")),
    "macro_pr_auc": Metric("Macro PR AUC", _mean_of("pr_auc")),
}

METRIC_TITLES: dict[str, str] = {
    **{name: metric.title for name, metric in METRICS.items() if name != "macro_recall"},
    "balanced_accuracy": "Balanced accuracy (macro recall)",
}
"""The metrics that reports list, with their titles; macro recall is the balanced accuracy under its other name."""

CLASS_METRIC_TITLES: dict[str, str] = {name: metric.title for name, metric in CLASS_METRICS.items()}

HEADLINE_METRICS: dict[str, str] = {
    name: METRICS[name].title for name in ("accuracy", "balanced_accuracy", "macro_roc_auc")
}
"""The metrics that short tables, baselines and subgroups show, with their titles."""


def _diagonal(confusion: Floats) -> Floats:
    return np.diagonal(confusion, axis1=-2, axis2=-1)


def _ratio(part: Floats, whole: Floats, otherwise: float) -> Floats:
    part, whole = np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64)
    return np.divide(part, whole, out=np.full(whole.shape, otherwise), where=whole > 0)
