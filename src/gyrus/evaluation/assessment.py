"""Choices made on the validation set and evaluated on the test set: calibration, thresholds, conformal sets.

:func:`assess` makes them all; its result is a frozen value whose notes report what could not be computed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, TypeVar

import pandas as pd

from gyrus.errors import DataError, LeakageError
from gyrus.evaluation.bootstrap import BootstrapConfig, cluster_indices
from gyrus.evaluation.calibration_metrics import Calibration, measure_calibration
from gyrus.evaluation.calibrators import CALIBRATORS, Calibrator, fit_calibrator, require_validation
from gyrus.evaluation.comparison import labelled_rows
from gyrus.evaluation.conformal import ConformalResult, evaluate_conformal_sets, fit_conformal_sets
from gyrus.evaluation.decision_curve import DecisionCurve, decision_curve
from gyrus.evaluation.result import Group, Unit, percent, resampled_group, subset_name
from gyrus.evaluation.selective_prediction import SelectivePrediction, measure_selective_prediction
from gyrus.evaluation.thresholds import GOALS, OperatingResult, choose_threshold, evaluate_threshold, from_stage_on
from gyrus.inference.decision_rule import CONFORMAL
from gyrus.inference.predictions import Predictions
from gyrus.registry import look_up
from gyrus.serialisation import Saved, renamed
from gyrus.text import counted, one_per_line, p_value_text
from gyrus.types import SPLIT_WARNINGS, SplitUnit

FEW = 50
"""With fewer validation subjects than this, a note warns that the choices are uncertain."""

QUOTED_COVERAGE = 0.8
"""The coverage at which the text reports the risk."""

SHIPPED_GOAL = "youden"
"""The operating point that is applied to new predictions, unless another is chosen at export."""

QUOTED_GOALS = ("youden", "npv_with_sensitivity")
"""The operating points that the text reports."""

Value = TypeVar("Value")


@dataclass(frozen=True)
class Assessment(Saved):
    """How choices made on the validation set perform on the test set.

    Attributes:
        classes: The class names in the order of the model's outputs.
        healthy: The negative class; all others are positive. None if none was given.
        split_unit: What was kept whole when the data were split.
        unit: What was scored.
        group: What was scored; intervals resample subjects where it is visits.
        validation_count: The number of subjects or images in the validation set.
        test_count: The number of them in the test set.
        before: Calibration of the probabilities on the test set before ``calibrator``.
        after: The same after ``calibrator``; None where none could be fitted.
        calibrator: Fitted on the validation set; None where that was impossible.
        points: Operating points of the calibrated probabilities, one per goal; empty without a healthy class.
        curve: Decision curve of the calibrated probabilities; None without a healthy class.
        selective_prediction: Risk by coverage of the calibrated probabilities.
        sets: Conformal sets of the uncalibrated probabilities, one per method.
        notes: What could not be computed and why, and the limitations.
        level: Confidence level of the intervals.
        resamples: The number of resamples.
        seed: Seed of the resamples.
    """

    SCHEMA = "gyrus.assessment/1"

    classes: tuple[str, ...]
    healthy: str | None
    split_unit: SplitUnit
    unit: Unit
    group: Group
    validation_count: int
    test_count: int
    before: Calibration
    after: Calibration | None
    calibrator: Calibrator | None
    points: tuple[OperatingResult, ...]
    curve: DecisionCurve | None
    selective_prediction: Annotated[SelectivePrediction, renamed("selective_prediction", "abstention")]
    sets: tuple[ConformalResult, ...]
    notes: tuple[str, ...]
    level: float
    resamples: int
    seed: int

    @property
    def warning(self) -> str:
        """The warning about the split that goes with every number; empty after a split by subject."""
        return SPLIT_WARNINGS[self.split_unit]

    def text(self) -> str:
        """The results in about ten lines; the warning about the split first."""
        lines = [f"WARNING: {self.warning}"] if self.warning else []
        lines += [*assessment_sentences(self), *[f"Note: {note}" for note in self.notes]]
        return one_per_line(lines) + "\n"


def assess(
    val: Predictions,
    test: Predictions,
    *,
    healthy: str | None = None,
    at_least: str | None = None,
    calibrator: str = "temperature",
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Assessment:
    """Make every choice on the validation set, and evaluate it on the test set.

    By subject where both subsets know their subjects, else by image. Nothing is fitted or chosen on the test set.

    Args:
        val: Predictions of the subset "val".
        test: Predictions of the same model for other subjects.
        healthy: The class that counts as negative in operating points and in the decision curve; None for neither.
        at_least: Of ordered classes: the lowest class that counts as positive there, instead; by default, where no
            class is healthy, the second.
        calibrator: A name of :data:`gyrus.evaluation.calibrators.CALIBRATORS`.
        resamples: Bootstrap resamples of the subjects; 0 for no intervals.
        seed: Seed of the resamples.
        level: Confidence level.

    Raises:
        DataError: Classes or split differ, ``val`` is of another subset, or no test row has a true class.
        LeakageError: A subject or an image is in both subsets.
        UnknownNameError: ``healthy`` or ``at_least`` is no class, or there is no such calibrator.
    """
    _require_pair(val, test)
    if healthy is not None:
        look_up(healthy, dict.fromkeys(test.classes), "class")
    positive = () if healthy is None else tuple(name for name in test.classes if name != healthy)
    if at_least is not None or (healthy is None and test.target.is_ordered):
        positive = from_stage_on(test.classes, at_least or test.classes[1])
    known = val.subjects_known and test.subjects_known
    unit: Unit = "subject" if known else "image"
    rows, tested = labelled_rows(val, unit), labelled_rows(test, unit)
    if not len(tested):
        raise DataError(f"None of the {len(test)} predictions of the {subset_name(test.subset)} has a true class.")
    bootstrap = BootstrapConfig(resamples, seed, level)
    group: Group = test.subject_kind if known else "image"
    notes: list[str] = []
    subjects = int(cluster_indices(rows).max(initial=-1)) + 1
    if subjects < FEW:
        notes.append(
            f"The choices rest on {_count(subjects, resampled_group(group))} of the validation set. The intervals do "
            "not include how they would vary with other validation subjects."
        )
    fitted = _or_note(partial(fit_calibrator, val, calibrator, unit=unit), "No calibration", notes)
    calibrated_val, calibrated = (fitted.apply(val), fitted.apply(tested)) if fitted else (val, tested)
    if fitted:
        notes += fitted.notes
    if not positive:
        notes.append("No operating points and no decision curve: no healthy class was given.")
    sets = [_or_note(partial(fit_conformal_sets, val, name, unit=unit), "No sets", notes) for name in CONFORMAL]
    points = [
        _or_note(partial(choose_threshold, calibrated_val, positive, goal, unit=unit), "No operating points", notes)
        for goal in (GOALS if positive else ())
    ]
    return Assessment(
        classes=test.classes,
        healthy=healthy,
        split_unit=test.split_unit,
        unit=unit,
        group=group,
        validation_count=len(rows),
        test_count=len(tested),
        before=measure_calibration(tested, bootstrap),
        after=measure_calibration(calibrated, bootstrap) if fitted else None,
        calibrator=fitted,
        points=tuple(evaluate_threshold(point, calibrated, bootstrap) for point in points if point),
        curve=decision_curve(calibrated, positive, bootstrap=bootstrap) if positive else None,
        selective_prediction=measure_selective_prediction(calibrated, bootstrap=bootstrap),
        sets=tuple(evaluate_conformal_sets(each, tested, bootstrap) for each in sets if each),
        notes=tuple(dict.fromkeys(notes)),
        level=level,
        resamples=resamples,
        seed=seed,
    )


def operating_classes(assessment: Assessment) -> str:
    """Which classes are positive at the operating points, in words; there is at least one point."""
    positive, healthy = assessment.points[0].point.positive, assessment.healthy
    if healthy is not None and set(positive) == {*assessment.classes} - {healthy}:
        return f"'{healthy}' is negative, all other classes are positive"
    return f"at least '{positive[0]}' is positive, the classes below it are negative"


def _or_note(make: Callable[[], Value], missing: str, notes: list[str]) -> Value | None:
    """The result of ``make``; None where the data do not suffice, with the reason added to the notes."""
    try:
        return make()
    except DataError as error:
        notes.append(f"{missing}: {error}")
        return None


def _require_pair(val: Predictions, test: Predictions) -> None:
    require_validation(val)
    if val.classes != test.classes:
        raise DataError(f"The classes differ: {list(val.classes)} in validation, {list(test.classes)} in test.")
    if val.split_unit != test.split_unit:
        raise DataError(
            f"The validation set comes from a split by {val.split_unit}, the test set from one by {test.split_unit}."
        )
    _require_disjoint(val.table["sample"], test.table["sample"], "images")
    if test.split_unit not in ("image", "copy"):
        known = val.subjects_known and test.subjects_known
        people = [each.independent_units if known else each.table["subject"] for each in (val, test)]
        _require_disjoint(people[0], people[1], "subjects")


def _require_disjoint(val: pd.Series, test: pd.Series, units: str) -> None:
    both = sorted(set(val.dropna()) & set(test.dropna()))
    if both:
        raise LeakageError(
            f"{len(both)} {units} are in the validation and in the test set, the first is '{both[0]}'. "
            "Choices made on the validation set must be evaluated on other subjects.",
            both,
        )


def assessment_sentences(assessment: Assessment) -> list[str]:
    """The results as sentences, without the warning and the notes."""
    return [
        f"Chosen on {_count(assessment.validation_count, assessment.group)} of the validation set, "
        f"evaluated on {_count(assessment.test_count, assessment.group)} of the test set; "
        f"in brackets {100 * assessment.level:g} % confidence intervals.",
        *_calibration_sentences(assessment),
        *[_point_sentence(result) for result in assessment.points if result.point.goal in QUOTED_GOALS],
        *_curve_sentences(assessment),
        _selective_sentence(assessment),
        *_set_sentences(assessment),
    ]


def _calibration_sentences(assessment: Assessment) -> list[str]:
    sentences = [f"Calibration before recalibration: {_calibration_text(assessment.before, assessment.level)}"]
    if assessment.after and assessment.calibrator:
        title = CALIBRATORS[assessment.calibrator.kind].title
        sentences.append(f"After {title.lower()}: {_calibration_text(assessment.after, assessment.level)}")
    return sentences


def _calibration_text(found: Calibration, level: float) -> str:
    error = found.errors["equal_mass"]
    if error.p_value is None or error.expected is None:
        return f"ECE {error.value:.3f}, Brier score {found.brier.text()}."
    shown = "miscalibrated" if error.p_value < 1 - level else "no significant miscalibration"
    chance = f"{error.expected:.3f} expected if calibrated, {p_value_text(error.p_value)}"
    return f"{shown}, ECE {error.value:.3f} ({chance}), Brier score {found.brier.text()}."


def _point_sentence(result: OperatingResult) -> str:
    titles = {"sensitivity": "sensitivity", "specificity": "specificity", "ppv": "PPV", "npv": "NPV"}
    rates = ", ".join(f"{title} {result.rates[name].percent()}" for name, title in titles.items())
    return f"{result.point.text()}; {rates}."


def _curve_sentences(assessment: Assessment) -> list[str]:
    if not assessment.curve:
        return []
    better = [point.threshold for point in assessment.curve.points if point.gain.low is not None and point.gain.low > 0]
    if not better:
        return ["Decision curve: at no threshold probability is net benefit higher than that of treating all or none."]
    return [
        "Decision curve: higher net benefit than treating all or none for threshold probabilities from "
        f"{percent(min(better))} to {percent(max(better))}."
    ]


def _selective_sentence(assessment: Assessment) -> str:
    risks = assessment.selective_prediction.risks
    return (
        f"Error rate: {risks[1.0].percent()} on all {assessment.group}s, {risks[QUOTED_COVERAGE].percent()} after "
        f"abstaining on the {percent(1 - QUOTED_COVERAGE)} least confident."
    )


def _set_sentences(assessment: Assessment) -> list[str]:
    chosen = " for one visit of a new subject, drawn at random" if assessment.group == "visit" else ""
    return [
        f"Conformal sets ({each.sets.method.upper()}) with a target coverage of {percent(each.sets.level)}{chosen}: "
        f"coverage {each.coverage.percent()}, mean size {each.size.text(1)} of {len(assessment.classes)} classes."
        for each in assessment.sets
    ]


def _count(count: int, group: Group) -> str:
    return counted(count, group)
