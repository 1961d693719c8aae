"""Apply to new predicted numbers what was chosen on the validation set: prediction intervals and the bias correction.

The choices are made in :mod:`gyrus.evaluation.number_assessment`; here they are only applied, with NumPy alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from gyrus.inference.columns import BY_SUBJECT, CORRECTED, INTERVAL_HIGH, INTERVAL_LOW
from gyrus.inference.decision_rule import equal_codes, mean_by_code

if TYPE_CHECKING:
    from gyrus.inference.number_predictions import NumberPredictions

Floats = npt.NDArray[np.float64]

IntervalMethod = Literal["absolute", "quantiles"]
"""The prediction plus and minus one distance; or the outer quantiles of the network, moved outwards or inwards."""


@dataclass(frozen=True)
class IntervalRule:
    """A conformal prediction interval.

    Attributes:
        method: What it is built around.
        level: Target coverage.
        limit: The distance that is added on either side; None where there were too few subjects for any.
    """

    method: IntervalMethod
    level: float
    limit: float | None

    def ends(self, predicted: Floats, quantiles: Floats) -> tuple[Floats, Floats]:
        """The ends of each interval, (N,) each; infinite without a limit.

        Args:
            predicted: Shape (N,).
            quantiles: Shape (N, Q), ascending levels; only the outer ones are used. Q may be 0 for "absolute".
        """
        low, high = (predicted, predicted) if self.method == "absolute" else (quantiles[:, 0], quantiles[:, -1])
        limit = np.inf if self.limit is None else self.limit
        middle = (low + high) / 2
        # Where quantiles are moved inwards past each other, the interval is their middle.
        return np.minimum(low - limit, middle), np.maximum(high + limit, middle)


@dataclass(frozen=True)
class BiasCorrection:
    """The regression of the prediction on the true number in the validation set, whose inverse corrects predictions.

    Attributes:
        slope: Of the regression; below 1 where predictions tend to the mean.
        intercept: Of the regression.
    """

    slope: float
    intercept: float

    def apply(self, predicted: Floats) -> Floats:
        """Corrected predictions, of any shape; the true numbers are not used."""
        return np.asarray((predicted - self.intercept) / self.slope)


@dataclass(frozen=True)
class NumberRule:
    """What is applied to new predictions.

    Attributes:
        unit: What it was chosen on, and is applied to: all images of a subject together, or each image.
        interval: None for none; one without a limit is not applied.
        correction: None for none.
    """

    unit: Literal["subject", "image"]
    interval: IntervalRule | None
    correction: BiasCorrection | None

    def applied(self, predictions: NumberPredictions) -> tuple[NumberPredictions, str]:
        """Predictions with the columns about intervals and corrected numbers, and a sentence about them or nothing."""
        table = predictions.table
        columns = self.columns(
            predictions.predicted, predictions.quantiles, table["sample"].tolist(), table["subject"].tolist()
        )
        return replace(predictions, table=table.assign(**columns)), self.text

    @property
    def text(self) -> str:
        """What the intervals are, in a sentence; empty without intervals."""
        if self.interval is None or self.interval.limit is None:
            return ""
        level = f"{100 * self.interval.level:g} %"
        return f"Prediction intervals with a target coverage of {level}, chosen on the validation set"

    def columns(
        self, predicted: Floats, quantiles: Floats, samples: Sequence[str], subjects: Sequence[object]
    ) -> dict[str, Floats]:
        """The columns about intervals and corrected predictions, one row per image.

        Args:
            predicted: Shape (N,).
            quantiles: Shape (N, Q); Q may be 0.
            samples: N names.
            subjects: The subject of each, text where it is known; an image of an unknown subject is taken by itself.
        """
        by_subject = self.unit == "subject"
        pairs = zip(samples, subjects, strict=True)
        codes = equal_codes([("subject", who) if by_subject and isinstance(who, str) else (one,) for one, who in pairs])
        pooled = mean_by_code(np.column_stack([predicted, quantiles]), codes)
        found: dict[str, Floats] = {}
        if self.interval and self.interval.limit is not None:
            found[INTERVAL_LOW], found[INTERVAL_HIGH] = self.interval.ends(pooled[:, 0], pooled[:, 1:])
        if self.correction:
            found[CORRECTED] = self.correction.apply(pooled[:, 0])
        prefix = BY_SUBJECT if by_subject else ""
        return {prefix + name: values[codes] for name, values in found.items()}
