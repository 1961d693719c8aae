"""What is chosen on validation people and judged on test people: calibration, thresholds, abstention, sets of classes.

:func:`assess` is the one call; its result is a frozen value that says in words what could not be computed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from gyrus.errors import DataError, LeakageError
from gyrus.evaluation.calibration_metrics import Calibration, measure_calibration
from gyrus.evaluation.calibrators import Calibrator, fit_calibrator, require_validation
from gyrus.evaluation.comparison import judged_rows
from gyrus.evaluation.conformal import CONFORMAL, SetsResult, fit_sets, judge_sets
from gyrus.evaluation.decision_curve import DecisionCurve, decision_curve
from gyrus.evaluation.result import Group, Unit
from gyrus.evaluation.sampling import BootstrapConfig
from gyrus.evaluation.saving import load_value, save_value
from gyrus.evaluation.selective_prediction import SelectivePrediction, abstain
from gyrus.evaluation.thresholds import GOALS, OperatingResult, checked_positive, choose_threshold, judge_threshold
from gyrus.inference.predictions import Predictions
from gyrus.types import SPLIT_WARNINGS, SplitUnit

SCHEMA = "gyrus.assessment/1"

FEW = 50
"""Below so many in the validation set, what was chosen there is called uncertain in words."""

Value = TypeVar("Value")


@dataclass(frozen=True)
class Assessment:
    """What choices made on the validation set do on the test set.

    Attributes:
        classes: The class names in the order of the model's outputs.
        healthy: The class that is negative; all others are positive. None where none was named.
        split_unit: What was kept whole when the data were split.
        unit: What was judged.
        group: What was resampled.
        validation_count: How many of them choices were made on.
        test_count: How many of them they were judged on.
        before: Calibration on the test set of the probabilities as they are.
        after: The same after ``calibrator``; None where nothing could be fitted.
        calibrator: Fitted on the validation set; None where that could not be done.
        points: Operating points of the calibrated probabilities, one a goal; empty without a healthy class.
        curve: Decision curve of the calibrated probabilities; None without a healthy class.
        abstention: Risk by coverage of the calibrated probabilities.
        sets: Conformal sets of the probabilities as they are, one a method.
        notes: What could not be computed and why, and what to distrust.
        level: The share that intervals cover.
        resamples: How many resamples.
        seed: What decided them.
    """

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
    abstention: SelectivePrediction
    sets: tuple[SetsResult, ...]
    notes: tuple[str, ...]
    level: float
    resamples: int
    seed: int

    @property
    def statement(self) -> str:
        """The warning that goes with every number; empty after a split by subject."""
        return SPLIT_WARNINGS[self.split_unit]

    def text(self) -> str:
        """What was found, in about ten lines."""
        from gyrus.evaluation.assessment_words import assessment_text

        return assessment_text(self)

    def save(self, path: Path) -> None:
        """Write as JSON; the schema is in docs/evaluation.md."""
        save_value(self, path, SCHEMA)

    @classmethod
    def load(cls, path: Path) -> Assessment:
        """Read what :meth:`save` wrote.

        Raises:
            DataError: The file is no assessment, of another version, or damaged.
        """
        return load_value(cls, path, SCHEMA)


def assess(
    val: Predictions,
    test: Predictions,
    *,
    healthy: str | None = None,
    calibrator: str = "temperature",
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Assessment:
    """Make every choice on the validation set, and judge it on the test set.

    By subject where both parts know their subjects, else by image. Nothing is fitted or chosen on the test set.

    Args:
        val: Predictions of the part "val".
        test: Predictions of other people by the same model.
        healthy: The class that counts as negative in operating points and in the decision curve; None for neither.
        calibrator: A name of :data:`gyrus.evaluation.calibrators.CALIBRATORS`.
        resamples: Bootstrap resamples of the subjects; 0 for no intervals.
        seed: Decides them.
        level: The share that the intervals cover.

    Raises:
        DataError: Classes or split differ, ``val`` is of another part, or no test row has a true class.
        LeakageError: A person or an image is in both parts.
        UnknownNameError: ``healthy`` is no class, or there is no such calibrator.
    """
    _require_pair(val, test)
    positive = () if healthy is None else _positive(test.classes, healthy)
    known = val.subjects_known and test.subjects_known
    unit: Unit = "subject" if known else "image"
    rows, judged = judged_rows(val, unit), judged_rows(test, unit)
    if not len(judged):
        raise DataError(f"None of the {len(test)} predictions of part '{test.subset}' has a true class.")
    sampling, group = BootstrapConfig(resamples, seed, level), _group(test, known=known)
    notes = _size_notes(rows, group)
    fitted = _or_note(partial(fit_calibrator, val, calibrator, unit=unit), "No calibration", notes)
    mended, shown = (fitted.apply(val), fitted.apply(judged)) if fitted else (val, judged)
    if fitted:
        notes += fitted.notes
    if healthy is None:
        notes.append("No operating points and no decision curve: which class is healthy was not said.")
    sets = [_or_note(partial(fit_sets, val, name, unit=unit), "No sets", notes) for name in CONFORMAL]
    return Assessment(
        classes=test.classes,
        healthy=healthy,
        split_unit=test.split_unit,
        unit=unit,
        group=group,
        validation_count=len(rows),
        test_count=len(judged),
        before=measure_calibration(judged, sampling),
        after=measure_calibration(shown, sampling) if fitted else None,
        calibrator=fitted,
        points=_points(mended, shown, positive, unit, sampling, notes),
        curve=decision_curve(shown, positive, sampling=sampling) if positive else None,
        abstention=abstain(shown, sampling=sampling),
        sets=tuple(judge_sets(each, judged, sampling) for each in sets if each),
        notes=tuple(dict.fromkeys(notes)),
        level=level,
        resamples=resamples,
        seed=seed,
    )


def _group(predictions: Predictions, *, known: bool) -> Group:
    return predictions.subject_kind if known else "image"


def _points(
    val: Predictions,
    test: Predictions,
    positive: tuple[str, ...],
    unit: Unit,
    sampling: BootstrapConfig,
    notes: list[str],
) -> tuple[OperatingResult, ...]:
    if not positive:
        return ()
    chosen = [
        _or_note(partial(choose_threshold, val, positive, goal, unit=unit), "No operating points", notes)
        for goal in GOALS
    ]
    return tuple(judge_threshold(point, test, sampling) for point in chosen if point)


def _or_note(make: Callable[[], Value], lacking: str, notes: list[str]) -> Value | None:
    """What ``make`` makes; where the data do not suffice None, and the reason among the notes."""
    try:
        return make()
    except DataError as error:
        notes.append(f"{lacking}: {error}")
        return None


def _positive(classes: tuple[str, ...], healthy: str) -> tuple[str, ...]:
    return checked_positive(classes, [name for name in classes if name not in checked_positive(classes, [healthy])])


def _require_pair(val: Predictions, test: Predictions) -> None:
    require_validation(val)
    if val.classes != test.classes:
        raise DataError(f"The classes differ: {list(val.classes)} in validation, {list(test.classes)} in test.")
    if val.split_unit != test.split_unit:
        raise DataError(
            f"The validation set comes from a split by {val.split_unit}, the test set from one by {test.split_unit}."
        )
    _require_apart(val, test, "sample", "images")
    if test.split_unit != "image":
        _require_apart(val, test, "subject", "subjects")


def _require_apart(val: Predictions, test: Predictions, column: str, word: str) -> None:
    both = sorted(set(val.table[column].dropna()) & set(test.table[column].dropna()))
    if both:
        raise LeakageError(
            f"{len(both)} {word} are in the validation and in the test set, the first is '{both[0]}': what is chosen "
            "on people cannot be judged on them.",
            both,
        )


def _size_notes(rows: Predictions, group: Group) -> list[str]:
    if len(rows) >= FEW:
        return []
    return [
        f"Choices rest on {len(rows)} {group}{'' if len(rows) == 1 else 's'} of the validation set, and the intervals "
        "do not tell how others would have turned out on other people there."
    ]
