"""Classification metrics as pure functions of arrays, and the tables that name them.

Every metric is computed from the confusion matrix and the areas under the curves of each class. These inputs may have
any number of leading axes, so one function computes the score itself and its thousands of bootstrap resamples.

Ordered classes (stages) have further metrics, which weigh an error by the number of stages between the classes or use
the order of the predicted probabilities.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

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


def quadratic_kappa(confusion: Floats) -> Floats:
    """Cohen's kappa with quadratic weights (Cohen 1968); (..., K, K) to (...), NaN where all are of one cell."""
    squares = _stages_apart(confusion) ** 2
    expected = confusion.sum(axis=-1)[..., :, None] * confusion.sum(axis=-2)[..., None, :]
    count = confusion.sum(axis=(-2, -1))
    return 1 - _ratio((squares * confusion).sum(axis=(-2, -1)) * count, (squares * expected).sum(axis=(-2, -1)), np.nan)


def stage_error(confusion: Floats) -> Floats:
    """Mean absolute error in stages: how far the predicted stage is from the true one; (..., K, K) to (...)."""
    apart = (_stages_apart(confusion) * confusion).sum(axis=(-2, -1))
    return _ratio(apart, confusion.sum(axis=(-2, -1)), np.nan)


def stage_scores(probabilities: npt.ArrayLike) -> Floats:
    """Scores that rank samples by stage: the probability of at least each stage but the first, and the mean stage.

    Args:
        probabilities: Of the classes in their order, shape (N, K).

    Returns:
        Shape (N, K); column k - 1 is the probability of stage k or a higher one, the last column the expected stage,
        from 0 to K - 1.
    """
    at_least = np.asarray(probabilities, dtype=np.float64)[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:]
    return np.column_stack([at_least, at_least.sum(axis=1)])


@dataclass(frozen=True)
class MetricInputs:
    """What the metrics are computed from.

    Attributes:
        confusion: Weight by true class and predicted class, shape (..., K, K).
        roc_auc: Area under the ROC curve of each class against the rest, shape (..., K), NaN where undefined.
        pr_auc: Average precision of each class, shape (..., K), NaN where undefined.
        cut_auc: Of ordered classes: area under the ROC curve at each cut between two stages, of the higher stages
            against the lower ones, shape (..., K - 1), NaN where undefined.
        concordance: Of ordered classes: see :data:`ORDERED_METRICS`, shape (...).
    """

    confusion: Floats
    roc_auc: Floats
    pr_auc: Floats
    cut_auc: Floats = field(default_factory=lambda: np.empty(0))
    concordance: Floats = field(default_factory=lambda: np.empty(0))


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

    @property
    def cuts(self) -> npt.NDArray[np.bool_]:
        """The cuts between two stages that have samples on both sides, shape (K - 1,)."""
        below, above = np.maximum.accumulate(self.present), np.maximum.accumulate(self.present[::-1])[::-1]
        return np.asarray(below[:-1] & above[1:])


@dataclass(frozen=True)
class ClassMetric:
    """A metric of each class: its title, and how to compute it, inputs to (..., K)."""

    title: str
    compute: Callable[[MetricInputs], Floats]


@dataclass(frozen=True)
class Metric:
    """A metric of all classes together.

    Attributes:
        title: Its title.
        compute: How to compute it, inputs to (...).
        higher_is_better: False for errors.
        most: The highest possible value, from the number of classes.
    """

    title: str
    compute: Callable[[MetricInputs, Reference], Floats]
    higher_is_better: bool = True
    most: Callable[[int], float] = lambda classes: 1.0  # noqa: ARG005

    def goodness(self, values: Floats) -> Floats:
        """The values with the sign that makes higher ones better."""
        return values if self.higher_is_better else -values


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


def _mean_over_cuts(inputs: MetricInputs, reference: Reference) -> Floats:
    """The mean over the cuts of the reference; NaN where one is undefined, or where all samples have one stage."""
    areas = inputs.cut_auc[..., reference.cuts]
    return np.asarray(areas.mean(axis=-1)) if areas.shape[-1] else np.full(areas.shape[:-1], np.nan)


ORDERED_METRICS: dict[str, Metric] = {
    "quadratic_kappa": Metric(
        "Quadratic-weighted kappa",
        lambda inputs, reference: quadratic_kappa(inputs.confusion),  # noqa: ARG005
    ),
    "stage_error": Metric(
        "Mean absolute error in stages",
        lambda inputs, reference: stage_error(inputs.confusion),  # noqa: ARG005
        higher_is_better=False,
        most=lambda classes: classes - 1.0,
    ),
    "cut_auc": Metric("Mean ROC AUC of the cuts between stages", _mean_over_cuts),
    "concordance": Metric(
        "Concordance of the mean stage",
        lambda inputs, reference: inputs.concordance,  # noqa: ARG005
    ),
}
"""The further metrics of ordered classes. Concordance: the fraction of pairs of different stages in which the sample of
the higher stage has the higher expected stage; ties count one half. Somers' D is twice the concordance, minus 1.
"""

ALL_METRICS: dict[str, Metric] = METRICS | ORDERED_METRICS
"""The metrics of unordered and of ordered classes."""

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


ORDERED_TITLES: dict[str, str] = {name: metric.title for name, metric in ORDERED_METRICS.items()}

ORDERED_HEADLINES: dict[str, str] = {name: ORDERED_TITLES[name] for name in ("quadratic_kappa", "stage_error")}
"""What short tables, baselines and subgroups of ordered classes show beside :data:`HEADLINE_METRICS`."""


def metrics_of(*, ordered: bool) -> dict[str, Metric]:
    """The metrics of classes with or without an order, by name."""
    return ALL_METRICS if ordered else METRICS


def headline_metrics(*, ordered: bool) -> dict[str, str]:
    """The titles of the metrics that short tables, baselines and subgroups show, by name."""
    return HEADLINE_METRICS | ORDERED_HEADLINES if ordered else HEADLINE_METRICS


def _stages_apart(confusion: Floats) -> Floats:
    """The number of stages between each true and predicted class, shape (K, K)."""
    stages = np.arange(confusion.shape[-1], dtype=np.float64)
    return np.abs(stages[:, None] - stages)


def _diagonal(confusion: Floats) -> Floats:
    return np.diagonal(confusion, axis1=-2, axis2=-1)


def _ratio(part: Floats, whole: Floats, otherwise: float) -> Floats:
    part, whole = np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64)
    return np.divide(part, whole, out=np.full(whole.shape, otherwise), where=whole > 0)
