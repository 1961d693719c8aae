"""Operating points: from which probability on a person is called sick, and what that costs and finds.

The threshold is chosen on the validation set and judged on the test set. One set of classes is called positive (the
sick), the others negative (the healthy).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gyrus.errors import ConfigError, DataError
from gyrus.evaluation.calibrators import require_validation
from gyrus.evaluation.comparison import judged_rows
from gyrus.evaluation.intervals import IntervalNotes
from gyrus.evaluation.result import Estimate, Unit
from gyrus.evaluation.sampling import USUAL, BootstrapConfig, clusters_of, divide, estimate_share
from gyrus.evaluation.saving import load_value, save_value
from gyrus.inference.predictions import Predictions
from gyrus.registry import look_up

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

SCHEMA = "gyrus.operating-point/1"


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold, and how it was chosen.

    Attributes:
        classes: The classes of the classifier.
        positive: Those that count as positive; a row is called positive from ``threshold`` on in their summed
            probability.
        goal: A name of :data:`GOALS`.
        target: What the goal asks for; None where it has no number.
        threshold: From 0, everybody, to just above 1, nobody.
        unit: What it was chosen on: apply it to rows of the same kind.
        count: On how many.
        validation: What it reached there, by name of :data:`RATES`; None where not defined. Too good, having been
            chosen there.
        reached: Whether the goal was reached there.
    """

    classes: tuple[str, ...]
    positive: tuple[str, ...]
    goal: str
    target: float | None
    threshold: float
    unit: Unit
    count: int
    validation: Mapping[str, float | None]
    reached: bool

    def calls(self, predictions: Predictions) -> Bools:
        """Which rows are called positive, shape (N,).

        Raises:
            DataError: They have other classes.
        """
        if predictions.classes != self.classes:
            raise DataError(f"The threshold is for classes {list(self.classes)}, not {list(predictions.classes)}.")
        return np.asarray(positive_scores(predictions, self.positive) >= self.threshold)

    def text(self) -> str:
        """The goal and the threshold in words."""
        missed = "" if self.reached else " (not reached by any threshold on the validation set; this comes nearest)"
        asked = "" if self.target is None else f" {self.target:g}"
        return f"{GOALS[self.goal].title}{asked}: positive from {self.threshold:.3f} on{missed}"

    def save(self, path: Path) -> None:
        """Write as JSON."""
        save_value(self, path, SCHEMA)

    @classmethod
    def load(cls, path: Path) -> OperatingPoint:
        """Read what :meth:`save` wrote.

        Raises:
            DataError: The file is no operating point, of another version, or damaged.
        """
        return load_value(cls, path, SCHEMA)


@dataclass(frozen=True)
class OperatingResult:
    """What an operating point does on people it was not chosen on.

    Attributes:
        point: The operating point.
        rates: By name of :data:`RATES`.
        true_positives: Positives that are called so.
        false_positives: Negatives that are called positive.
        false_negatives: Positives that are missed.
        true_negatives: Negatives that are called so.
    """

    point: OperatingPoint
    rates: Mapping[str, Estimate]
    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int


@dataclass(frozen=True)
class _Counts:
    """How many there are of each kind from each candidate threshold on, shape (T,) each."""

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
    def healthy_precision(self) -> Floats:
        """Of those called negative, the share that is; 0 where nobody is called so, which serves nobody."""
        healthy, missed = self.negatives - self.false_positives, self.positives - self.true_positives
        return np.nan_to_num(divide(healthy, healthy + missed), nan=0.0)


@dataclass(frozen=True)
class Goal:
    """What a threshold is to reach.

    Attributes:
        title: What it is called.
        order: What is better, the most important first, shape (levels, T) of numbers of which more is better.
        target: What it asks for by default; None where it has no number.
        bound: The upper end of the targets that make sense.
        reached: Whether a threshold reaches it, shape (T,).
    """

    title: str
    order: Callable[[_Counts, float], Sequence[Floats]]
    target: float | None = None
    bound: float = 1.0
    reached: Callable[[_Counts, float], Bools] = lambda counts, target: np.ones(len(counts.thresholds), bool)  # noqa: ARG005


def _youden(counts: _Counts, target: float) -> Sequence[Floats]:  # noqa: ARG001
    return (counts.sensitivity + counts.specificity, counts.sensitivity)


def _sensitivity(counts: _Counts, target: float) -> Sequence[Floats]:
    return (np.minimum(counts.sensitivity, target), counts.specificity)


def _specificity(counts: _Counts, target: float) -> Sequence[Floats]:
    return (np.minimum(counts.specificity, target), counts.sensitivity)


def _cost(counts: _Counts, target: float) -> Sequence[Floats]:
    missed = counts.positives - counts.true_positives
    return (-(target * missed + counts.false_positives), counts.sensitivity)


def _healthy_precision(counts: _Counts, target: float) -> Sequence[Floats]:
    both = np.minimum(counts.healthy_precision, counts.sensitivity)
    return (np.minimum(both, target), counts.specificity)


GOALS: dict[str, Goal] = {
    "youden": Goal("Highest sensitivity plus specificity (Youden 1950)", _youden),
    "sensitivity": Goal(
        "Sensitivity of at least",
        _sensitivity,
        0.9,
        reached=lambda counts, target: counts.sensitivity >= target,
    ),
    "specificity": Goal(
        "Specificity of at least",
        _specificity,
        0.9,
        reached=lambda counts, target: counts.specificity >= target,
    ),
    "cost": Goal("Lowest cost, a missed case costing so many false alarms:", _cost, 5.0, np.inf),
    "healthy_precision": Goal(
        "Precision of the healthy and recall of the sick of at least",
        _healthy_precision,
        0.95,
        reached=lambda counts, target: (counts.healthy_precision >= target) & (counts.sensitivity >= target),
    ),
}


@dataclass(frozen=True)
class Rate:
    """A share: its title, which rows count, and of which it is the share, both from (called, positive)."""

    title: str
    hits: Callable[[Bools, Bools], Bools]
    among: Callable[[Bools, Bools], Bools]
    nobody: str


RATES: dict[str, Rate] = {
    "sensitivity": Rate(
        "Sensitivity (recall of the positive)",
        lambda called, positive: called & positive,
        lambda called, positive: positive,  # noqa: ARG005
        "nobody is positive",
    ),
    "specificity": Rate(
        "Specificity (recall of the negative)",
        lambda called, positive: ~called & ~positive,
        lambda called, positive: ~positive,  # noqa: ARG005
        "nobody is negative",
    ),
    "positive_precision": Rate(
        "Precision of the positive calls",
        lambda called, positive: called & positive,
        lambda called, positive: called,  # noqa: ARG005
        "nobody is called positive",
    ),
    "negative_precision": Rate(
        "Precision of the negative calls",
        lambda called, positive: ~called & ~positive,
        lambda called, positive: ~called,  # noqa: ARG005
        "nobody is called negative",
    ),
    "accuracy": Rate(
        "Accuracy of positive against negative",
        lambda called, positive: called == positive,
        lambda called, positive: np.ones(len(called), bool),  # noqa: ARG005
        "nobody is judged",
    ),
}
"""Both precisions depend on how frequent the positive are among the judged: elsewhere they are others."""


def choose_threshold(
    validation: Predictions,
    positive: Sequence[str],
    goal: str = "youden",
    *,
    target: float | None = None,
    unit: Unit | None = None,
) -> OperatingPoint:
    """Choose the threshold that serves a goal best on the validation set.

    Thresholds lie half-way between neighbouring probabilities. Where a goal asks for a number that none reaches, the
    one that comes nearest is taken, and the operating point says so.

    Args:
        validation: Predictions of the part "val"; rows without a true class are left out.
        positive: The classes that count as positive, some but not all.
        goal: A name of :data:`GOALS`.
        target: What the goal asks for: a share, or for "cost" how many false alarms a missed case costs.
        unit: "subject" pools the images of each person first; by default that, where subjects are known.

    Raises:
        ConfigError: The target is out of range, or the goal has none.
        DataError: These are not validation predictions, or nobody in them is positive, or nobody negative.
        UnknownNameError: There is no such goal or class.
    """
    require_validation(validation)
    names = checked_positive(validation.classes, positive)
    asked = _checked_target(goal, target)
    chosen: Unit = unit or ("subject" if validation.subjects_known else "image")
    rows = judged_rows(validation, chosen)
    counts = _count(positive_scores(rows, names), is_positive(rows, names))
    number = 0.0 if asked is None else asked
    best = int(np.lexsort(tuple(reversed(GOALS[goal].order(counts, number))))[-1])
    threshold = float(counts.thresholds[best])
    called, truth = positive_scores(rows, names) >= threshold, is_positive(rows, names)
    return OperatingPoint(
        classes=rows.classes,
        positive=names,
        goal=goal,
        target=asked,
        threshold=threshold,
        unit=chosen,
        count=len(rows),
        validation={name: _share(rate, called, truth) for name, rate in RATES.items()},
        reached=bool(GOALS[goal].reached(counts, number)[best]),
    )


def judge_threshold(point: OperatingPoint, test: Predictions, sampling: BootstrapConfig = USUAL) -> OperatingResult:
    """What an operating point does on other people.

    Args:
        point: The operating point.
        test: Rows of its unit, all with their true class; rows of one subject are resampled together.
        sampling: How intervals are made.

    Raises:
        DataError: The classes are others.
    """
    called, positive, clusters = point.calls(test), is_positive(test, point.positive), clusters_of(test)
    rates = {
        name: estimate_share(
            rate.hits(called, positive),
            rate.among(called, positive),
            clusters,
            sampling,
            IntervalNotes(rate.nobody, f"in them {rate.nobody}"),
        )
        for name, rate in RATES.items()
    }
    tallies = (called & positive, called & ~positive, ~called & positive, ~called & ~positive)
    return OperatingResult(point, rates, *(int(tally.sum()) for tally in tallies))


def positive_scores(predictions: Predictions, positive: Sequence[str]) -> Floats:
    """The summed probability of the positive classes, shape (N,)."""
    columns = [predictions.classes.index(name) for name in positive]
    return np.asarray(predictions.probabilities[:, columns].sum(axis=1))


def is_positive(predictions: Predictions, positive: Sequence[str]) -> Bools:
    """Whether the true class of each row is positive, shape (N,)."""
    return np.asarray(np.isin(predictions.targets, [predictions.classes.index(name) for name in positive]))


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
    asked = known.target if target is None else target
    if not 0 < asked <= known.bound:
        raise ConfigError(f"The target of goal '{goal}' must lie in (0, {known.bound:g}], got {asked:g}.")
    return asked


def _count(scores: Floats, positive: Bools) -> _Counts:
    if not positive.any() or positive.all():
        raise DataError(
            "A threshold cannot be chosen: in the validation set "
            f"{'nobody is negative' if positive.any() else 'nobody is positive'}."
        )
    levels, index = np.unique(scores, return_inverse=True)
    above = [np.bincount(index, kind, minlength=len(levels))[::-1].cumsum()[::-1] for kind in (positive, ~positive)]
    nobody = max((levels[-1] + 1) / 2, float(np.nextafter(levels[-1], 2)))
    thresholds = np.append((levels[1:] + levels[:-1]) / 2, nobody)
    return _Counts(
        np.append(0.0, thresholds),
        np.append(above[0], 0.0),
        np.append(above[1], 0.0),
        float(positive.sum()),
        float((~positive).sum()),
    )


def _share(rate: Rate, called: Bools, positive: Bools) -> float | None:
    among = rate.among(called, positive)
    return float(rate.hits(called, positive)[among].mean()) if among.any() else None
