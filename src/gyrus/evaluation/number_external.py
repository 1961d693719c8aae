"""External validation of a predicted number: a network on subjects of another cohort, beside its own test set.

Nothing is chosen on the cohort: prediction intervals and the correction of the bias are those of the validation set.
The calibration line describes the cohort and is applied to nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from gyrus.datasets.targets import Target
from gyrus.errors import DataError
from gyrus.evaluation.bootstrap import BootstrapConfig, IntervalNotes, cluster_indices, estimate_from_sums
from gyrus.evaluation.external_validation import (
    Compared,
    InternalScores,
    SetAside,
    WantedSize,
    compared,
    people_sentence,
    size_for_fraction,
    size_sentence,
)
from gyrus.evaluation.number_assessment import (
    ErrorTrend,
    IntervalResult,
    NumberAssessment,
    NumberGroupTable,
    error_trend,
    groups_of,
    measure_interval,
)
from gyrus.evaluation.number_evaluate import labelled_numbers
from gyrus.evaluation.number_metrics import NUMBER_METRICS, NumberSums
from gyrus.evaluation.number_result import NumberEvaluation
from gyrus.evaluation.result import Estimate, Unit, unit_name
from gyrus.inference.number_predictions import PREDICTION, NumberPredictions
from gyrus.inference.unlike_training import LikenessSummary
from gyrus.serialisation import Saved
from gyrus.text import aligned, one_per_line

Floats = npt.NDArray[np.float64]

COMPARED_NUMBERS = ("mae", "rmse", "bias", "r2", "pearson", "spearman")
"""Scores that are compared with those of the internal test set."""


@dataclass(frozen=True)
class CalibrationOfNumbers:
    """The regression of the true number on the predicted one.

    Attributes:
        slope: 1 if calibrated; below 1 if predictions are spread too much, above 1 too little.
        intercept: 0 if calibrated, with a slope of 1.
    """

    slope: Estimate
    intercept: Estimate


@dataclass(frozen=True)
class NumberInternalScores(Saved):
    """What a cohort is compared with, as :class:`gyrus.evaluation.external_validation.InternalScores`.

    Attributes:
        evaluation: Scores on the internal test set.
        assessment: Intervals and correction of the validation set, measured on the test set; None for none.
        notes: Why something is missing.
    """

    SCHEMA: ClassVar[str] = "gyrus.number-internal-scores/1"

    evaluation: NumberEvaluation
    assessment: NumberAssessment | None
    notes: tuple[str, ...] = ()


def load_internal_scores(path: Path, target: Target) -> InternalScores | NumberInternalScores:
    """Read the internal scores of a bundle, of classes or of a number.

    Raises:
        DataError: The file holds something else or is damaged.
    """
    return NumberInternalScores.load(path) if target.is_number else InternalScores.load(path)


@dataclass(frozen=True)
class NumberExternalValidation(Saved):
    """A network that predicts a number, on another cohort.

    Attributes:
        run: Name of the run or bundle.
        cohort: Name of the cohort.
        internal: Scores on the internal test set.
        external: Scores on the cohort, without the subjects that are set aside.
        unit: What is compared.
        scores: By name of :data:`COMPARED_NUMBERS`.
        set_aside: Subjects who are also in the data of the network.
        pixels_compared: Whether pixels were compared.
        calibration: On the cohort.
        slope: Slope of the error against the true number; None where the run has no assessment.
        interval: Shipped prediction intervals on the cohort; None where there are none.
        coverage: Their coverage beside the internal one.
        corrected: Errors with the shipped correction of the bias; None where there is none.
        along: Errors along the range of the number.
        groups: Errors of groups.
        likeness: How many subjects are unlike the training data; None where there is no reference.
        sizes: Subjects needed for an interval of the coverage of a wanted width.
        width: That width.
        notes: What else a reader must know.
    """

    SCHEMA: ClassVar[str] = "gyrus.number-external-validation/1"

    run: str
    cohort: str
    internal: NumberEvaluation
    external: NumberEvaluation
    unit: Unit
    scores: Mapping[str, Compared]
    set_aside: tuple[SetAside, ...]
    pixels_compared: bool
    calibration: CalibrationOfNumbers
    slope: Compared | None
    interval: IntervalResult | None
    coverage: Compared | None
    corrected: ErrorTrend | None
    along: NumberGroupTable
    groups: tuple[NumberGroupTable, ...]
    likeness: LikenessSummary | None
    sizes: tuple[WantedSize, ...]
    width: float
    notes: tuple[str, ...]

    def verdict(self) -> tuple[str, ...]:
        """What the cohort shows, in sentences; people who are in both data sets come first."""
        people = (people_sentence(self.set_aside, pixels_compared=self.pixels_compared),)
        scores = (*_error_sentences(self), *_calibration_sentences(self), *_interval_sentences(self))
        others = [self.likeness.text()] if self.likeness else []
        count = self.external.scores[self.unit].count
        others += [size_sentence(self.sizes, count, self.unit, self.width)] if self.sizes else []
        others = [sentence for sentence in others if sentence]
        return (*people, *scores, *others) if self.set_aside else (*scores, *people, *others)

    def rows(self) -> dict[str, Compared]:
        """The compared scores by their titles."""
        found = {NUMBER_METRICS[name].title: one for name, one in self.scores.items()}
        if self.slope:
            found[f"Change of the error per unit of {self.external.target.name}"] = self.slope
        if self.coverage and self.interval:
            found[f"Coverage of {100 * self.interval.rule.level:g} % intervals"] = self.coverage
        return found

    def text(self) -> str:
        """The verdict, a table of scores, and notes."""
        inside, outside = (each.scores[self.unit] for each in (self.internal, self.external))
        lines = [f"External validation of {self.run} on {self.cohort}", "", *self.verdict(), ""]
        lines.append(
            f"In brackets {100 * self.external.level:g} % confidence intervals; internal {inside.count:,} "
            f"{unit_name(self.internal, inside, inside.count)}, external {outside.count:,} "
            f"{unit_name(self.external, outside, outside.count)}. Difference: external minus internal, for independent "
            "samples."
        )
        table: list[tuple[str, ...]] = [("", "internal", "external", "difference")]
        for title, one in self.rows().items():
            table.append((title, *(each.text(2) for each in (one.internal, one.external, one.difference))))
        lines += aligned(table)
        lines += ["", f"Along the range, {self.along.text()}", *[table.text() for table in self.groups]]
        lines += ["", *[f"Note: {note}" for note in self.notes]]
        return one_per_line(lines).rstrip() + "\n"


def validate_numbers_externally(
    internal: NumberInternalScores,
    external: NumberEvaluation,
    cohort: NumberPredictions,
    bootstrap: BootstrapConfig,
    width: float,
) -> dict[str, object]:
    """The comparisons of a cohort with the internal test set: fields of :class:`NumberExternalValidation`.

    Args:
        internal: Scores on the test set, and what was chosen on the validation set.
        external: Scores on the cohort.
        cohort: Predictions for it; some rows have a true number.
        bootstrap: How intervals are computed.
        width: Wanted width of the interval of the coverage.

    Raises:
        DataError: No row has a true number.
    """
    inside, assessment = internal.evaluation, internal.assessment
    unit: Unit = "subject" if "subject" in external.scores and "subject" in inside.scores else "image"
    rows = labelled_numbers(cohort, unit)
    if not len(rows):
        raise DataError(f"No subject of the cohort has a true {external.target.name}.")
    one, other = inside.scores[unit], external.scores[unit]
    notes = []
    if assessment and assessment.unit != unit:
        notes.append(
            f"Intervals and correction were chosen by {assessment.unit}, and the cohort is scored by {unit}: they are "
            "not applied."
        )
        assessment = None
    rule = assessment.rule if assessment else None
    chosen = rule.interval if rule and rule.interval and rule.interval.limit is not None else None
    interval = measure_interval(chosen, rows, bootstrap) if chosen else None
    corrected = None
    if rule and rule.correction:
        table = rows.table.assign(**{PREDICTION: rule.correction.apply(rows.predicted)})
        corrected = error_trend(replace(rows, table=table), bootstrap)
    sizes = []
    if interval and interval.coverage.value is not None:
        sizes.append(size_for_fraction("coverage", interval.coverage.value, 1.0, width, external.level))
    return {
        "unit": unit,
        "scores": {name: compared(one.metrics[name], other.metrics[name]) for name in COMPARED_NUMBERS},
        "calibration": calibration_of_numbers(rows, bootstrap),
        "slope": compared(assessment.before.slope, error_trend(rows, bootstrap).slope) if assessment else None,
        "interval": interval,
        "coverage": compared(assessment.intervals[-1].coverage, interval.coverage) if interval and assessment else None,
        "corrected": corrected,
        "along": groups_of(rows, pd.Series(rows.targets), external.target.name, bootstrap),
        "sizes": tuple(sizes),
        "width": width,
        "notes": tuple(notes),
    }


def calibration_of_numbers(rows: NumberPredictions, bootstrap: BootstrapConfig) -> CalibrationOfNumbers:
    """The regression of the true number on the predicted one, with intervals that resample subjects.

    Args:
        rows: All with a true number.
        bootstrap: How intervals are computed.
    """
    centre = float(rows.targets.mean())

    def statistic(sums: Floats) -> Floats:
        slope, intercept = NumberSums(sums).calibration_line()  # of centred numbers
        return np.stack([slope, intercept + centre * (1 - slope)], axis=-1)

    notes = IntervalNotes("all predicted numbers are equal", "all subjects that were drawn have equal predictions")
    terms = NumberSums.terms(rows.targets, rows.predicted)
    slope, intercept = estimate_from_sums(terms, cluster_indices(rows), statistic, bootstrap, notes)
    return CalibrationOfNumbers(slope, intercept)


def _error_sentences(found: NumberExternalValidation) -> list[str]:
    one, gap = found.scores["mae"], found.scores["mae"].difference
    name = found.external.target.name
    sentences = []
    if gap.low is None or gap.high is None:
        sentences.append(f"Mean absolute error of {name}: {one.external.text(2)} (internal {one.internal.text(2)}).")
    else:
        verb = "is higher than" if gap.low > 0 else "is lower than" if gap.high < 0 else "is not shown to differ from"
        sentences.append(
            f"Mean absolute error of {name} on the cohort {verb} on the internal test set: {one.external.text(2)} "
            f"against {one.internal.text(2)}, difference {gap.text(2)}."
        )
    inside, outside = (each.scores[found.unit] for each in (found.internal, found.external))
    sentences.append(
        f"True {name}: mean {outside.mean:.1f}, SD {outside.sd:.1f}, {outside.lowest:g} to {outside.highest:g} "
        f"(internal mean {inside.mean:.1f}, SD {inside.sd:.1f}, {inside.lowest:g} to {inside.highest:g})."
    )
    r2 = found.scores["r2"].external
    if r2.high is not None and r2.high < 0:
        sentences.append(f"The mean {name} of the cohort predicts better than the network (R squared {r2.text(2)}).")
    elif r2.low is not None and r2.low <= 0:
        sentences.append(f"It is not shown to predict better than the mean of the cohort (R squared {r2.text(2)}).")
    return sentences


def _calibration_sentences(found: NumberExternalValidation) -> list[str]:
    bias, line = found.scores["bias"], found.calibration
    wrong = []
    if bias.external.low is not None and bias.external.low > 0:
        wrong.append("numbers are predicted too high")
    if bias.external.high is not None and bias.external.high < 0:
        wrong.append("numbers are predicted too low")
    if line.slope.high is not None and line.slope.high < 1:
        wrong.append("predictions are spread too much")
    if line.slope.low is not None and line.slope.low > 1:
        wrong.append("predictions are spread too little")
    sentences = [
        f"Calibration: {' and '.join(wrong) or 'no miscalibration shown'}; mean error {bias.external.text(2)} "
        f"(internal {bias.internal.text(2)}), regression of the true on the predicted number: intercept "
        f"{line.intercept.text(2)} (0 is right), slope {line.slope.text(2)} (1 is right)."
    ]
    if slope := found.slope:
        sentences.append(
            f"Change of the error per unit of the true number: {slope.external.text(2)} (internal "
            f"{slope.internal.text(2)})."
        )
    if found.corrected:
        sentences.append(
            f"With the shipped correction of the bias: mean absolute error {found.corrected.mae.text(2)}, mean error "
            f"{found.corrected.bias.text(2)}, change of the error per unit {found.corrected.slope.text(2)}."
        )
    return sentences


def _interval_sentences(found: NumberExternalValidation) -> list[str]:
    interval, both = found.interval, found.coverage
    if interval is None or both is None:
        return []
    level, value = interval.rule.level, both.external
    verdict = "as intended"
    if value.high is not None and value.high < level:
        verdict = "too narrow for this cohort"
    elif value.low is not None and value.low > level:
        verdict = "wider than needed for this cohort"
    elif value.low is None:
        verdict = "not judged, because there is no confidence interval"
    elif value.value is not None and value.low <= level <= (value.high or 1.0):
        verdict = "not shown to cover another fraction than intended"
    width = interval.width.value if interval.width else None
    return [
        f"Shipped prediction intervals, target coverage {100 * level:g} %: {verdict}. Coverage {value.text(2)} "
        f"(internal {both.internal.text(2)}){f', mean width {width:.1f}' if width is not None else ''}."
    ]
