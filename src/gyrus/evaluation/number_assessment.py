"""Prediction intervals and the correction of the bias towards the mean: chosen on validation, measured on test.

Intervals are those of split conformal prediction: a distance is taken from the validation set, and the interval of a
new subject from the same distribution then contains the true number with the target probability, whatever the network
(Lei et al. 2018; around predicted quantiles: Romano, Patterson and Candès 2019). The guarantee is an average over all
subjects.

Predicted numbers tend to the mean, so the error depends on the true number: the young are predicted too old, the old
too young. The regression of the prediction on the true number in the validation set, inverted, corrects this (Cole et
al. 2018). It needs no true number of the new subject. It usually makes the mean absolute error larger, so both are
reported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from gyrus.datasets.targets import Target
from gyrus.errors import DataError, LeakageError
from gyrus.evaluation.bootstrap import (
    BootstrapConfig,
    IntervalNotes,
    cluster_indices,
    estimate_fraction,
    estimate_from_sums,
    estimate_mean,
)
from gyrus.evaluation.conformal import quantile_by_subject, subject_weights
from gyrus.evaluation.number_evaluate import labelled_numbers
from gyrus.evaluation.number_metrics import NumberSums
from gyrus.evaluation.result import FEW_OF_A_CLASS, Estimate, Group, Unit, subset_name
from gyrus.evaluation.subgroups import banded
from gyrus.inference.number_predictions import PREDICTION, NumberPredictions
from gyrus.inference.number_rule import BiasCorrection, IntervalMethod, IntervalRule, NumberRule
from gyrus.serialisation import Saved
from gyrus.text import counted
from gyrus.types import SplitUnit

COVERAGE = 0.9
"""Target coverage of the intervals."""

FEW_FOR_A_CORRECTION = 10
"""With fewer validation subjects the regression of the correction is not fitted."""

LEAST_SLOPE = 0.1
"""With a lower slope the predictions hardly depend on the number, and the correction would only multiply noise."""

LEAST_PRECISION = 4.0
"""The slope must be so many times its standard error: dividing by a slope that may be near 0 multiplies errors."""

INTERVAL_TITLES: Mapping[IntervalMethod, str] = {
    "absolute": "of equal width",
    "quantiles": "around the predicted quantiles",
}


@dataclass(frozen=True)
class IntervalResult:
    """Prediction intervals on the test set; each subject has the same weight.

    Attributes:
        rule: The interval, chosen on the validation set.
        coverage: Fraction of intervals that contain the true number.
        width: Their mean width; None where they are infinite.
    """

    rule: IntervalRule
    coverage: Estimate
    width: Estimate | None


@dataclass(frozen=True)
class ErrorTrend:
    """How large errors are, and how they depend on the true number.

    Attributes:
        mae: Mean absolute error.
        bias: Mean error.
        slope: Slope of the error against the true number; 0 without a trend.
    """

    mae: Estimate
    bias: Estimate
    slope: Estimate


@dataclass(frozen=True)
class NumberGroup:
    """The errors of one group of subjects.

    Attributes:
        name: The value of the column, or the band.
        count: The number of subjects (of images, where subjects are unknown).
        trend: Their errors.
    """

    name: str
    count: int
    trend: ErrorTrend


@dataclass(frozen=True)
class NumberGroupTable:
    """The groups of one column, or along the range of the number itself.

    Attributes:
        column: Its name.
        groups: In the order of the values.
    """

    column: str
    groups: tuple[NumberGroup, ...]

    def text(self) -> str:
        """The error of each group, in a sentence."""
        parts = [
            f"{group.name}: MAE {group.trend.mae.text(1)}, mean error {group.trend.bias.text(1)} (n = {group.count}"
            f"{', too few for reliable scores' if group.count < FEW_OF_A_CLASS else ''})"
            for group in self.groups
        ]
        return f"{self.column}: {'; '.join(parts)}."


@dataclass(frozen=True)
class NumberSubgroups(Saved):
    """The errors of subgroups of a run, one table per column."""

    SCHEMA = "gyrus.number-subgroups/1"

    tables: tuple[NumberGroupTable, ...]


@dataclass(frozen=True)
class NumberAssessment(Saved):
    """What was chosen on the validation set and measured on the test set, for a predicted number.

    Attributes:
        target: The number.
        split_unit: What was kept whole when the data were split.
        unit: What was scored.
        group: What the unit "subject" is.
        validation_count: Rows of the validation set.
        test_count: Rows of the test set.
        intervals: Prediction intervals; the last is applied to new predictions.
        correction: The correction of the bias; None where it cannot be fitted.
        before: Errors without the correction.
        after: Errors with it.
        along: Errors along the range of the number.
        notes: What could not be done, and limits.
        level: Confidence level.
        resamples: Bootstrap resamples.
        seed: Their seed.
    """

    SCHEMA = "gyrus.number-assessment/1"

    target: Target
    split_unit: SplitUnit
    unit: Unit
    group: Group
    validation_count: int
    test_count: int
    intervals: tuple[IntervalResult, ...]
    correction: BiasCorrection | None
    before: ErrorTrend
    after: ErrorTrend | None
    along: NumberGroupTable
    notes: tuple[str, ...]
    level: float
    resamples: int
    seed: int

    @property
    def rule(self) -> NumberRule:
        """What is applied to new predictions."""
        unit: Literal["subject", "image"] = self.unit
        return NumberRule(unit, self.intervals[-1].rule if self.intervals else None, self.correction)

    def text(self) -> str:
        """All sentences and notes, one per line."""
        return "\n".join([*assessment_sentences(self), *(f"Note: {note}" for note in self.notes)]) + "\n"


def assess_numbers(
    val: NumberPredictions,
    test: NumberPredictions,
    *,
    coverage: float = COVERAGE,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
    of_network: bool = True,
) -> NumberAssessment:
    """Choose intervals and correction on the validation set, and measure them on the test set.

    Args:
        val: Predictions for the validation set.
        test: Predictions for the test set.
        coverage: Target coverage of the intervals.
        resamples: Bootstrap resamples of the subjects; 0 for no intervals.
        seed: Seed of the resamples.
        level: Confidence level.
        of_network: Whether the validation set has also chosen the weights, as for networks.

    Raises:
        DataError: No row of a set has a true number.
        LeakageError: A subject or an image is in both sets.
    """
    known = val.subjects_known and test.subjects_known
    unit: Unit = "subject" if known else "image"
    rows, tested = labelled_numbers(val, unit), labelled_numbers(test, unit)
    for each, of in ((rows, val), (tested, test)):
        if not len(each):
            raise DataError(f"No row of the {subset_name(of.subset)} has a true {test.target.name}.")
    if test.split_unit not in ("image", "copy"):
        _require_disjoint(rows, tested)
    bootstrap = BootstrapConfig(resamples, seed, level)
    subjects = int(cluster_indices(rows).max()) + 1
    also = ", which also chose the weights of the network" if of_network else ""
    people = counted(subjects, "subject" if known else "image")
    notes = [f"Intervals and correction rest on {people} of the validation set{also}."]
    methods: tuple[IntervalMethod, ...] = ("absolute", "quantiles") if len(val.levels) > 1 else ("absolute",)
    intervals = tuple(measure_interval(fit_interval(rows, method, coverage), tested, bootstrap) for method in methods)
    if intervals[0].rule.limit is None:
        notes.append(
            f"The intervals are infinite: a coverage of {100 * coverage:g} % needs at least "
            f"{int(np.ceil(coverage / (1 - coverage) - 1e-9))} validation subjects."
        )
    correction, why_not = fit_correction(rows)
    if why_not:
        notes.append(f"No correction of the bias towards the mean: {why_not}")
    corrected = (
        replace(tested, table=tested.table.assign(**{PREDICTION: correction.apply(tested.predicted)}))
        if correction
        else None
    )
    return NumberAssessment(
        target=test.target,
        split_unit=test.split_unit,
        unit=unit,
        group=test.subject_kind if known else "image",
        validation_count=len(rows),
        test_count=len(tested),
        intervals=intervals,
        correction=correction,
        before=error_trend(tested, bootstrap),
        after=error_trend(corrected, bootstrap) if corrected else None,
        along=groups_of(tested, pd.Series(tested.targets), test.target.name, bootstrap),
        notes=tuple(notes),
        level=level,
        resamples=resamples,
        seed=seed,
    )


def fit_interval(validation: NumberPredictions, method: IntervalMethod, coverage: float) -> IntervalRule:
    """The conformal interval of a coverage, from labelled rows; each of their subjects has the same weight."""
    truth = validation.targets
    if method == "absolute":
        scores = np.abs(truth - validation.predicted)
    else:
        quantiles = validation.quantiles
        scores = np.maximum(quantiles[:, 0] - truth, truth - quantiles[:, -1])
    return IntervalRule(method, coverage, quantile_by_subject(scores, cluster_indices(validation), coverage))


def fit_correction(validation: NumberPredictions) -> tuple[BiasCorrection | None, str]:
    """The regression of the prediction on the true number, from labelled rows; or None and the reason."""
    subjects = int(cluster_indices(validation).max(initial=-1)) + 1
    if subjects < FEW_FOR_A_CORRECTION:
        return None, f"the validation set has {counted(subjects, 'subject')}, and {FEW_FOR_A_CORRECTION} are needed."
    truth, found = validation.targets, validation.predicted
    if truth.std() == 0:
        return None, "all true numbers of the validation set are equal."
    slope, intercept = np.polyfit(truth, found, 1)
    if slope < LEAST_SLOPE:
        return None, (
            f"the predictions of the validation set hardly depend on the true {validation.target.name} (slope "
            f"{slope:.2f})."
        )
    residuals = found - (slope * truth + intercept)
    error = float(np.sqrt((residuals**2).sum() / (len(truth) - 2) / ((truth - truth.mean()) ** 2).sum()))
    if slope < LEAST_PRECISION * error:
        return None, (
            f"the slope of the prediction against the true {validation.target.name} is too uncertain in the validation "
            f"set to divide by it ({slope:.2f}, standard error {error:.2f})."
        )
    return BiasCorrection(float(slope), float(intercept)), ""


def error_trend(rows: NumberPredictions, bootstrap: BootstrapConfig) -> ErrorTrend:
    """The errors of labelled rows, and their trend, with intervals that resample subjects."""

    def statistic(sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        of = NumberSums(sums)
        return np.stack([of.mae(), of.bias(), of.error_slope()], axis=-1)

    notes = IntervalNotes("all true numbers are equal", "all subjects that were drawn have equal numbers")
    terms = NumberSums.terms(rows.targets, rows.predicted)
    mae, bias, slope = estimate_from_sums(terms, cluster_indices(rows), statistic, bootstrap, notes)
    return ErrorTrend(mae, bias, slope)


def groups_of(rows: NumberPredictions, values: pd.Series, column: str, bootstrap: BootstrapConfig) -> NumberGroupTable:
    """The errors of the groups of a column.

    Args:
        rows: Labelled rows.
        values: Of the column, one per row; numbers are divided into bands with equal numbers of subjects.
        column: Its name.
        bootstrap: How intervals are computed.
    """
    names = banded(values.reset_index(drop=True), rows, None, column)
    found = []
    for name in names.cat.categories:
        inside = rows.select((names == name).to_numpy())
        if len(inside):
            count = int(cluster_indices(inside).max()) + 1
            found.append(NumberGroup(str(name), count, error_trend(inside, bootstrap)))
    return NumberGroupTable(column, tuple(found))


def evaluate_number_subgroups(
    predictions: NumberPredictions, groups: pd.DataFrame, bootstrap: BootstrapConfig
) -> NumberSubgroups:
    """The errors of every subgroup, by subject where subjects are known.

    Args:
        predictions: Rows without a true number are left out.
        groups: Indexed by sample; columns such as sex or site. A column that differs within a subject is by image.
        bootstrap: How intervals are computed.
    """
    labelled = predictions.select(np.isfinite(predictions.targets))
    tables = []
    for column in groups.columns:
        values = groups[column].reindex(labelled.table["sample"]).reset_index(drop=True)
        rows = labelled
        if labelled.subjects_known:
            by_subject = values.groupby(labelled.table["subject"].to_numpy())
            if (by_subject.nunique() <= 1).all():
                rows = labelled_numbers(labelled, "subject")
                values = by_subject.first().reindex(rows.table["subject"])
        tables.append(groups_of(rows, values, str(column), bootstrap))
    return NumberSubgroups(tuple(tables))


def assessment_sentences(assessment: NumberAssessment) -> list[str]:
    """The results as sentences, without the notes."""
    name = assessment.target.name
    sentences = [
        f"Chosen on {counted(assessment.validation_count, assessment.group)} of the validation set, evaluated on "
        f"{counted(assessment.test_count, assessment.group)} of the test set; in brackets "
        f"{100 * assessment.level:g} % confidence intervals."
    ]
    for each in assessment.intervals:
        if each.width is None:
            continue
        value = each.width.value or 0.0
        width = each.width.text(1) if each.width.low is not None else f"{value:.1f}"
        sentences.append(
            f"Prediction intervals {INTERVAL_TITLES[each.rule.method]} with a target coverage of "
            f"{100 * each.rule.level:g} %: coverage {each.coverage.percent()}, mean width {width}."
        )
    sentences.append(f"Errors: {_trend_text(assessment.before, name)}.")
    if assessment.after:
        sentences.append(
            f"After the correction of the bias towards the mean: {_trend_text(assessment.after, name)}. The correction "
            "removes the trend at the price of the spread; compare mean absolute errors without it."
        )
    return [*sentences, f"Along the range, {assessment.along.text()}"]


def _trend_text(trend: ErrorTrend, name: str) -> str:
    return (
        f"mean absolute error {trend.mae.text(2)}, mean error {trend.bias.text(2)}, change of the error per unit of "
        f"{name} {trend.slope.text(2)}"
    )


def measure_interval(rule: IntervalRule, tested: NumberPredictions, bootstrap: BootstrapConfig) -> IntervalResult:
    """Measure prediction intervals on labelled rows, each of whose subjects has the same weight."""
    low, high = rule.ends(tested.predicted, tested.quantiles)
    truth, clusters = tested.targets, cluster_indices(tested)
    weights = subject_weights(clusters)
    notes = IntervalNotes("no rows to evaluate", "")
    everyone = np.ones(len(truth), bool)
    coverage = estimate_fraction((low <= truth) & (truth <= high), everyone, clusters, bootstrap, notes, weights)
    width = None
    if rule.limit is not None and rule.method == "absolute":
        width = Estimate(2 * rule.limit, note="the same for all")
    elif rule.limit is not None:
        width = estimate_mean(high - low, clusters, bootstrap, weights=weights)
    return IntervalResult(rule, coverage, width)


def _require_disjoint(val: NumberPredictions, test: NumberPredictions) -> None:
    both: Sequence[str] = sorted(set(val.independent_units.dropna()) & set(test.independent_units.dropna()))
    if both:
        raise LeakageError(
            f"{len(both)} subjects are in the validation and in the test set, the first is '{both[0]}'. Choices made "
            "on the validation set must be evaluated on other subjects.",
            list(both),
        )
