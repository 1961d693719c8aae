"""Apply to new predictions what was chosen on the validation set: calibration, operating point, conformal sets.

The choices are made in :mod:`gyrus.evaluation`; here they are only applied, with NumPy alone, so that a prediction with
a bundle starts fast.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from gyrus.inference.columns import BY_SUBJECT, CALIBRATED, DECISION, PREDICTION_SET
from gyrus.registry import look_up
from gyrus.text import counted

if TYPE_CHECKING:
    from gyrus.inference.predictions import Predictions

Floats = npt.NDArray[np.float64]
Parameters = Mapping[str, tuple[tuple[float, ...], ...]]
"""By name, a row of numbers per class, or one row for all."""


def softmax(logits: npt.NDArray[np.floating]) -> Floats:
    """Probabilities (N, K) of logits (N, K)."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def normalised(logarithms: Floats) -> Floats:
    """Logarithms of probabilities that sum to one (N, K)."""
    return np.asarray(logarithms - np.logaddexp.reduce(logarithms, axis=1, keepdims=True))


def against_rest(logits: Floats) -> Floats:
    """The log odds of each class against all others together, shape (N, K)."""
    rest = [np.logaddexp.reduce(np.delete(logits, index, axis=1), axis=1) for index in range(logits.shape[1])]
    return np.asarray(logits - np.column_stack(rest))


def apply_temperature(logits: Floats, parameters: Parameters) -> Floats:
    """Divide by the temperature."""
    return logits / parameters["temperature"][0][0]


def apply_platt(logits: Floats, parameters: Parameters) -> Floats:
    """The curve of each class, normalised to sum to one."""
    slope, offset = (np.array(parameters[name])[:, 0] for name in ("slope", "offset"))
    return normalised(-np.logaddexp(0, -(slope * against_rest(logits) + offset)))


def apply_isotonic(logits: Floats, parameters: Parameters) -> Floats:
    """The curve of each class, normalised to sum to one."""
    curves = zip(softmax(logits).T, parameters["probability"], parameters["calibrated"], strict=True)
    return normalised(np.log(np.column_stack([np.interp(values, x, y) for values, x, y in curves])))


def apply_vector(logits: Floats, parameters: Parameters) -> Floats:
    """Apply factor and offset of each class."""
    scale, offset = (np.array(parameters[name])[:, 0] for name in ("scale", "offset"))
    return np.asarray(logits * scale + offset)


CALIBRATIONS: dict[str, Callable[[Floats, Parameters], Floats]] = {
    "temperature": apply_temperature,
    "platt": apply_platt,
    "isotonic": apply_isotonic,
    "vector": apply_vector,
}
"""From logarithms of probabilities (N, K) to calibrated logits (N, K)."""


def lac_scores(probabilities: Floats) -> Floats:
    """Least ambiguous sets: one minus the probability of each class (Sadinle, Lei and Wasserman 2019); (N, K)."""
    return 1 - probabilities


def aps_scores(probabilities: Floats) -> Floats:
    """Adaptive sets: the probability of likelier classes plus half its own (Romano, Sesia and Candès 2020); (N, K).

    The paper adds a random fraction of its own probability, which would give one subject another set each time. The
    guarantee holds for any fraction that does not depend on the true class. Ties count in the order of the classes.
    """
    order = np.argsort(-probabilities, axis=1, kind="stable")
    sums = np.take_along_axis(probabilities, order, axis=1).cumsum(axis=1)
    return np.take_along_axis(sums, np.argsort(order, axis=1), axis=1) - probabilities / 2


CONFORMAL: dict[str, Callable[[Floats], Floats]] = {"lac": lac_scores, "aps": aps_scores}
"""From probabilities (N, K) to nonconformity scores (N, K)."""

SHIPPED_SETS = "aps"
"""The sets that are applied to new predictions."""


def in_conformal_set(probabilities: Floats, method: str, limit: float | None) -> npt.NDArray[np.bool_]:
    """Which classes are in the set of each row, shape (N, K); with no limit every class is."""
    scores = look_up(method, CONFORMAL, "conformal method")(probabilities)
    return np.ones(scores.shape, bool) if limit is None else np.asarray(scores <= limit + 1e-12)


@dataclass(frozen=True)
class Threshold:
    """An operating point.

    Attributes:
        title: What it was chosen for, as text.
        positive: The classes that count as positive.
        threshold: Positive is who has at least this sum of the calibrated probabilities of ``positive``.
    """

    title: str
    positive: tuple[str, ...]
    threshold: float


@dataclass(frozen=True)
class ConformalLimit:
    """Conformal sets of the probabilities before calibration.

    Attributes:
        method: A name of :data:`CONFORMAL`.
        level: Target coverage.
        limit: Classes with at most this score are in the set; None where every set holds every class.
    """

    method: str
    level: float
    limit: float | None


@dataclass(frozen=True)
class DecisionRule:
    """What is applied to new predictions.

    Attributes:
        classes: The class names in the order of the logits.
        unit: What it was chosen on, and is applied to: all images of a subject together, or each image.
        calibration: Name of the map (:data:`CALIBRATIONS`) and its parameters; None for none.
        threshold: The operating point; None for none.
        conformal: None for none.
    """

    classes: tuple[str, ...]
    unit: Literal["subject", "image"]
    calibration: tuple[str, Parameters] | None
    threshold: Threshold | None
    conformal: ConformalLimit | None

    def applied(self, predictions: Predictions) -> tuple[Predictions, str]:
        """Predictions with the columns of :meth:`columns`, and the sentence of :meth:`text`."""
        units = predictions.table["sample"].tolist(), predictions.table["subject"].tolist()
        columns = self.columns(predictions.logits, *units)
        return replace(predictions, table=predictions.table.assign(**columns)), self.text(columns, *units)

    def columns(
        self, logits: Floats, samples: Sequence[str], subjects: Sequence[object]
    ) -> dict[str, npt.NDArray[np.generic]]:
        """The columns about calibration and decisions, one row per image.

        Args:
            logits: (N, K).
            samples: N names.
            subjects: The subject of each, text where it is known; an image of an unknown subject is taken by itself.
        """
        codes = equal_codes(self._units(samples, subjects))
        pooled = mean_by_code(softmax(np.asarray(logits, np.float64)), codes)
        calibrated = pooled
        found: dict[str, npt.NDArray[np.generic]] = {}
        if self.calibration:
            kind, parameters = self.calibration
            apply = look_up(kind, CALIBRATIONS, "calibration")
            calibrated = softmax(apply(np.log(np.maximum(pooled, np.finfo(np.float64).tiny)), parameters))
            found |= {CALIBRATED + name: calibrated[:, number] for number, name in enumerate(self.classes)}
        if self.threshold:
            columns = [self.classes.index(name) for name in self.threshold.positive]
            positive = calibrated[:, columns].sum(axis=1) >= self.threshold.threshold
            found[DECISION] = np.where(positive, "positive", "negative")
        if self.conformal:
            inside = in_conformal_set(pooled, self.conformal.method, self.conformal.limit)
            sets = ["; ".join(name for name, held in zip(self.classes, row, strict=True) if held) for row in inside]
            found[PREDICTION_SET] = np.array(sets, dtype=object)
        return {self._prefix + name: values[codes] for name, values in found.items()}

    def text(
        self, columns: Mapping[str, npt.NDArray[np.generic]], samples: Sequence[str], subjects: Sequence[object]
    ) -> str:
        """How many are positive at the operating point; empty without one.

        Args:
            columns: From :meth:`columns`.
            samples: As there.
            subjects: As there.
        """
        values = columns.get(self._prefix + DECISION)
        if values is None or self.threshold is None:
            return ""
        decided = dict(zip(self._units(samples, subjects), values.tolist(), strict=True))
        positive = sum(each == "positive" for each in decided.values())
        title = self.threshold.title
        return (
            f"Positive ({', '.join(self.threshold.positive)}) at the operating point (threshold "
            f"{self.threshold.threshold:.3f}; {title[0].lower() + title[1:]}): {positive} of "
            f"{counted(len(decided), self.unit)}."
        )

    @property
    def _prefix(self) -> str:
        return BY_SUBJECT if self.unit == "subject" else ""

    def _units(self, samples: Sequence[str], subjects: Sequence[object]) -> list[tuple[str, ...]]:
        """What each image is decided with: all images of its subject, or itself."""
        pairs = zip(samples, subjects, strict=True)
        by_subject = self.unit == "subject"
        return [("subject", each) if by_subject and isinstance(each, str) else (one,) for one, each in pairs]


def equal_codes(keys: Sequence[object]) -> npt.NDArray[np.int64]:
    """Numbers from 0 of equal keys (N,), in the order of their first occurrence."""
    numbers: dict[object, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


def mean_by_code(values: Floats, codes: npt.NDArray[np.int64]) -> Floats:
    """The mean of the rows (N, M) of each code, in the order of the codes."""
    sums = np.stack([np.bincount(codes, column) for column in values.T], axis=1)
    return np.asarray(sums / np.bincount(codes)[:, None])
