"""Operating points: the probability threshold for a positive prediction, and its sensitivity, specificity, PPV and NPV.

The threshold is chosen on the validation set and evaluated on the test set. Some classes count as positive (the
diseases), the others as negative (healthy).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import BeforeValidator

from gyrus.errors import ConfigError, DataError
from gyrus.evaluation.bootstrap import (
    DEFAULT_BOOTSTRAP,
    BootstrapConfig,
    IntervalNotes,
    cluster_indices,
    divide,
    estimate_fraction,
)
from gyrus.evaluation.calibrators import require_validation
from gyrus.evaluation.comparison import labelled_rows
from gyrus.evaluation.result import Estimate, Unit
from gyrus.inference.predictions import Predictions
from gyrus.registry import look_up
from gyrus.serialisation import Saved

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

FORMER_NAMES = {
    "positive_precision": "ppv",
    "negative_precision": "npv",
    "healthy_precision": "npv_with_sensitivity",
}
"""Rates and goals that files written before version 0.2 hold under another name."""


def _current_names(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {FORMER_NAMES.get(name, name): rate for name, rate in value.items()}
    return FORMER_NAMES.get(value, value)


CURRENT_NAMES = BeforeValidator(_current_names)


@dataclass(frozen=True)
class OperatingPoint(Saved):
    """A threshold, and how it was chosen.

    Attributes:
        classes: The classes of the classifier.
        positive: Those that count as positive; a row is predicted positive if their summed probability is at least
            ``threshold``.
        goal: A name of :data:`GOALS`.
        target: The number that the goal requires; None where it has none.
        threshold: From 0, all positive, to just above 1, none.
        unit: The unit it was chosen on: apply it to rows of the same unit.
        count: The number of rows it was chosen on.
        validation: The rates on them, by name of :data:`RATES`; None where undefined. They are optimistic, as the
            threshold was chosen on the same rows.
        reached: Whether the goal was reached on them.
    """

    SCHEMA = "gyrus.operating-point/1"

    classes: tuple[str, ...]
    positive: tuple[str, ...]
    goal: Annotated[str, CURRENT_NAMES]
    target: float | None
    threshold: float
    unit: Unit
    count: int
    validation: Annotated[Mapping[str, float | None], CURRENT_NAMES]
    reached: bool

    def predict_positive(self, predictions: Predictions) -> Bools:
        """Which rows are predicted positive, shape (N,).

        Raises:
            DataError: The classes differ.
        """
        if predictions.classes != self.classes:
            raise DataError(f"The threshold is for classes {list(self.classes)}, not {list(predictions.classes)}.")
        return np.asarray(positive_scores(predictions, self.positive) >= self.threshold)

    @property
    def title(self) -> str:
        """The goal with its target."""
        return GOALS[self.goal].title.format(target=self.target)

    def text(self) -> str:
        """The goal and the threshold."""
        missed = "" if self.reached else " (no threshold reaches it on the validation set; this is the nearest)"
        return f"{self.title}: threshold {self.threshold:.3f}{missed}"


@dataclass(frozen=True)
class OperatingResult:
    """An operating point on the test set.

    Attributes:
        point: The operating point.
        rates: By name of :data:`RATES`.
        true_positives: Positives that are predicted positive.
        false_positives: Negatives that are predicted positive.
        false_negatives: Positives that are predicted negative.
        true_negatives: Negatives that are predicted negative.
    """

    point: OperatingPoint
    rates: Annotated[Mapping[str, Estimate], CURRENT_NAMES]
    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int


@dataclass(frozen=True)
class _Counts:
    """True and false positives at each candidate threshold, shape (T,) each."""

    thresholds: Floats
    true_positives: Floats
    false_positives: Floats
    positives: float
    negatives: float

    @property
    def sensitivity(self) -> Floats:
        return self.true_positives / self.positives

    @property
    def specificity(self) -> Floats:
        return 1 - self.false_positives / self.negatives

    @property
    def npv(self) -> Floats:
        """Negative predictive value; 0 where none is predicted negative, as that serves no one."""
        healthy, missed = self.negatives - self.false_positives, self.positives - self.true_positives
        return np.nan_to_num(divide(healthy, healthy + missed), nan=0.0)


@dataclass(frozen=True)
class Goal:
    """A criterion by which a threshold is chosen.

    Attributes:
        title: Its title, with ``{target:g}`` in place of the target.
        order: From the counts and the target to criteria (levels, T), the most important first; higher is better.
        target: The target by default; None where it has none.
        bound: The highest valid target.
        reached: Whether each threshold reaches it, shape (T,).
    """

    title: str
    order: Callable[[_Counts, float], Sequence[Floats]]
    target: float | None = None
    bound: float = 1.0
    reached: Callable[[_Counts, float], Bools] = lambda counts, _: np.ones(len(counts.thresholds), bool)


def _at_least(title: str, target: float, rate: Callable[[_Counts], Floats], then: Callable[[_Counts], Floats]) -> Goal:
    """The goal that a rate reaches the target; of the thresholds that reach it the best by ``then``."""
    return Goal(
        title,
        lambda counts, target: (np.minimum(rate(counts), target), then(counts)),
        target,
        reached=lambda counts, target: rate(counts) >= target,
    )


GOALS: dict[str, Goal] = {
    "youden": Goal(
        "Highest sensitivity plus specificity (Youden 1950)",
        lambda counts, _: (counts.sensitivity + counts.specificity, counts.sensitivity),
    ),
    "sensitivity": _at_least(
        "Sensitivity of at least {target:g}", 0.9, lambda counts: counts.sensitivity, lambda counts: counts.specificity
    ),
    "specificity": _at_least(
        "Specificity of at least {target:g}", 0.9, lambda counts: counts.specificity, lambda counts: counts.sensitivity
    ),
    "cost": Goal(
        "Lowest cost if a missed case costs {target:g} times as much as a false positive",
        lambda counts, target: (
            -(target * (counts.positives - counts.true_positives) + counts.false_positives),
            counts.sensitivity,
        ),
        5.0,
        np.inf,
    ),
    "npv_with_sensitivity": _at_least(
        "NPV and sensitivity of at least {target:g}",
        0.95,
        lambda counts: np.minimum(counts.npv, counts.sensitivity),
        lambda counts: counts.specificity,
    ),
}


@dataclass(frozen=True)
class Rate:
    """A fraction of correct predictions.

    Attributes:
        title: Its title.
        among: The rows of the denominator, from (predicted positive, positive), shape (N,) each.
        empty: The note where there are none.
    """

    title: str
    among: Callable[[Bools, Bools], Bools]
    empty: str


RATES: dict[str, Rate] = {
    "sensitivity": Rate("Sensitivity", lambda _, positive: positive, "none is positive"),
    "specificity": Rate("Specificity", lambda _, positive: ~positive, "none is negative"),
    "ppv": Rate("Positive predictive value (PPV)", lambda predicted, _: predicted, "none is predicted positive"),
    "npv": Rate("Negative predictive value (NPV)", lambda predicted, _: ~predicted, "none is predicted negative"),
    "accuracy": Rate(
        "Accuracy (positive against negative)", lambda predicted, _: np.ones_like(predicted), "no rows to evaluate"
    ),
}
"""PPV and NPV depend on the prevalence of the positive classes in the test set: they do not transfer to another."""


def choose_threshold(
    validation: Predictions,
    positive: Sequence[str],
    goal: str = "youden",
    *,
    target: float | None = None,
    unit: Unit | None = None,
) -> OperatingPoint:
    """Choose the threshold that meets a goal best on the validation set.

    Thresholds lie half-way between neighbouring probabilities. If none reaches the target, the nearest is chosen, and
    the operating point reports it.

    Args:
        validation: Predictions of the subset "val"; rows without a true class are left out.
        positive: The classes that count as positive, some but not all.
        goal: A name of :data:`GOALS`.
        target: A fraction, or for "cost" the number of false positives that one missed case costs.
        unit: "subject" pools the images of each subject first; the default where subjects are known.

    Raises:
        ConfigError: The target is out of range, or the goal has none.
        DataError: These are not validation predictions, or none of them is positive, or none negative.
        UnknownNameError: There is no such goal or class.
    """
    require_validation(validation)
    names = checked_positive(validation.classes, positive)
    required = _checked_target(goal, target)
    chosen: Unit = unit or ("subject" if validation.subjects_known else "image")
    rows = labelled_rows(validation, chosen)
    scores, truth = positive_scores(rows, names), is_positive(rows, names)
    counts = _count(scores, truth)
    number = 0.0 if required is None else required
    best = int(np.lexsort(tuple(reversed(GOALS[goal].order(counts, number))))[-1])
    threshold = float(counts.thresholds[best])
    return OperatingPoint(
        classes=rows.classes,
        positive=names,
        goal=goal,
        target=required,
        threshold=threshold,
        unit=chosen,
        count=len(rows),
        validation={name: _fraction(rate, scores >= threshold, truth) for name, rate in RATES.items()},
        reached=bool(GOALS[goal].reached(counts, number)[best]),
    )


def evaluate_threshold(
    point: OperatingPoint, test: Predictions, bootstrap: BootstrapConfig = DEFAULT_BOOTSTRAP
) -> OperatingResult:
    """Evaluate an operating point on the test set.

    Args:
        point: The operating point.
        test: Rows of its unit, all with their true class; rows of one subject are resampled together.
        bootstrap: How intervals are computed.

    Raises:
        DataError: The classes differ.
    """
    predicted, positive = point.predict_positive(test), is_positive(test, point.positive)
    rates = evaluate_decisions(predicted, positive, cluster_indices(test), bootstrap)
    counts = (predicted & positive, predicted & ~positive, ~predicted & positive, ~predicted & ~positive)
    return OperatingResult(point, rates, *(int(count.sum()) for count in counts))


def evaluate_decisions(
    predicted: Bools, positive: Bools, clusters: npt.NDArray[np.int64], bootstrap: BootstrapConfig
) -> dict[str, Estimate]:
    """The rates of decisions, by name of :data:`RATES`.

    Args:
        predicted: Which rows are predicted positive (N,).
        positive: Which rows are positive (N,).
        clusters: The subject of each row (N,).
        bootstrap: How intervals are computed.
    """
    return {
        name: estimate_fraction(
            predicted == positive,
            rate.among(predicted, positive),
            clusters,
            bootstrap,
            IntervalNotes(rate.empty, f"in them {rate.empty}"),
        )
        for name, rate in RATES.items()
    }


def positive_scores(predictions: Predictions, positive: Sequence[str]) -> Floats:
    """The summed probability of the positive classes, shape (N,)."""
    columns = [predictions.classes.index(name) for name in positive]
    return np.asarray(predictions.probabilities[:, columns].sum(axis=1))


def is_positive(predictions: Predictions, positive: Sequence[str]) -> Bools:
    """Whether the true class of each row is positive, shape (N,)."""
    return np.asarray(np.isin(predictions.targets, [predictions.classes.index(name) for name in positive]))


def from_stage_on(classes: Sequence[str], lowest: str) -> tuple[str, ...]:
    """The positive classes of the cut "at least ``lowest``" between ordered classes.

    Raises:
        ConfigError: It is the first class, so that all would be positive.
        UnknownNameError: It is not a class.
    """
    look_up(lowest, dict.fromkeys(classes), "class")
    return checked_positive(classes, classes[classes.index(lowest) :])


def checked_positive(classes: Sequence[str], positive: Sequence[str]) -> tuple[str, ...]:
    """The positive classes in the order of all.

    Raises:
        ConfigError: They are none, or all.
        UnknownNameError: One is not a class.
    """
    for name in positive:
        look_up(name, dict.fromkeys(classes), "class")
    if not positive or set(positive) == set(classes):
        raise ConfigError(f"Some of the classes {list(classes)} must be positive, but not all; got {list(positive)}.")
    return tuple(name for name in classes if name in positive)


def _checked_target(goal: str, target: float | None) -> float | None:
    known = look_up(goal, GOALS, "goal of an operating point")
    if known.target is None:
        if target is not None:
            raise ConfigError(f"The goal '{goal}' has no target; got {target:g}. Leave it out.")
        return None
    required = known.target if target is None else target
    if not 0 < required <= known.bound:
        raise ConfigError(f"The target of goal '{goal}' must lie in (0, {known.bound:g}], got {required:g}.")
    return required


def _count(scores: Floats, positive: Bools) -> _Counts:
    if not positive.any() or positive.all():
        raise DataError(
            "A threshold cannot be chosen: in the validation set "
            f"{'none is negative' if positive.any() else 'none is positive'}."
        )
    levels, index = np.unique(scores, return_inverse=True)
    above = [np.bincount(index, kind, minlength=len(levels))[::-1].cumsum()[::-1] for kind in (positive, ~positive)]
    above_all = max((levels[-1] + 1) / 2, float(np.nextafter(levels[-1], 2)))
    thresholds = np.append((levels[1:] + levels[:-1]) / 2, above_all)
    return _Counts(
        np.append(0.0, thresholds),
        np.append(above[0], 0.0),
        np.append(above[1], 0.0),
        float(positive.sum()),
        float((~positive).sum()),
    )


def _fraction(rate: Rate, predicted: Bools, positive: Bools) -> float | None:
    among = rate.among(predicted, positive)
    return float((predicted == positive)[among].mean()) if among.any() else None
