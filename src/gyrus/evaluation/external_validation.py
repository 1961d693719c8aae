"""External validation: a trained classifier on subjects of another cohort, beside its own test set.

Nothing is chosen on the cohort. The only fits to it are calibration lines, which describe it, and a recalibration that
is cross-fitted: each subject is predicted with what was fitted on others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import scipy  # loads its submodules on first use

from gyrus.errors import DataError
from gyrus.evaluation.assessment import Assessment
from gyrus.evaluation.bootstrap import BootstrapConfig, cluster_indices
from gyrus.evaluation.calibration_metrics import Calibration, measure_calibration
from gyrus.evaluation.calibrators import Calibrator, fit_calibrator
from gyrus.evaluation.comparison import labelled_rows
from gyrus.evaluation.metrics import ALL_METRICS, ORDERED_HEADLINES
from gyrus.evaluation.result import Estimate, Evaluation, Scores, Unit, percent
from gyrus.evaluation.subgroups import SubgroupTable
from gyrus.evaluation.thresholds import (
    OperatingPoint,
    OperatingResult,
    choose_threshold,
    evaluate_decisions,
    evaluate_threshold,
    is_positive,
)
from gyrus.inference.predictions import SUBJECT_OF_VISIT, Predictions
from gyrus.inference.unlike_training import LikenessSummary
from gyrus.serialisation import Saved
from gyrus.text import aligned, counted, listed, one_per_line, p_value_text

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

COMPARED = ("accuracy", "balanced_accuracy", "macro_f1", "macro_roc_auc", *ORDERED_HEADLINES)
"""Scores that are compared with those of the internal test set, the last ones only of ordered classes."""

POINT_RATES = ("sensitivity", "specificity", "ppv", "npv")
"""Rates of operating points that are compared."""

FOLDS = 5
"""Parts of the cohort for the recalibration by cross-fitting."""

LONGEST_STEP = 2.0
"""Change of a coefficient in one step of Newton's method, at most; in log odds."""

RECALIBRATOR = "vector"
"""A map with an offset per class, because another prevalence shifts the probabilities."""

Reason = Literal["id", "file", "pixels"]
"""How a person of the cohort was recognised as one of the data of the classifier."""

LEARNT, HELD_OUT = "train or val", "test or none"
"""Where a subject was used, as far as a bundle knows it: the weights and choices depend on it, or they do not."""

NOT_NAMED = "not named"
"""The subject of the training data that a bundle recognises by a digest."""

REASONS: dict[Reason, str] = {
    "file": "the same files",
    "pixels": "near-identical pixels",
    "id": "the same identifier only",
}


@dataclass(frozen=True)
class SetAside:
    """A subject of the cohort who is also in the data of the classifier.

    Attributes:
        subject: In the cohort.
        known_as: In the data of the classifier; :data:`NOT_NAMED` by a bundle, which holds digests only.
        subset: Where this subject was used: "train", "val", "test" or "none"; by a bundle :data:`LEARNT` or
            :data:`HELD_OUT`.
        reason: How the subject was recognised, the surest way.
        images: Images of the cohort that are set aside.
    """

    subject: str
    known_as: str
    subset: str
    reason: Reason
    images: int


@dataclass(frozen=True)
class Compared:
    """A score on the cohort beside the internal one.

    Attributes:
        internal: On the internal test set.
        external: On the cohort.
        difference: The second minus the first.
    """

    internal: Estimate
    external: Estimate
    difference: Estimate


@dataclass(frozen=True)
class InternalScores(Saved):
    """What a cohort is compared with: scores on the internal test set, and what was chosen on the validation set.

    Scores and counts only, no row about a person, so that a bundle can hold them.

    Attributes:
        evaluation: Scores on the test set.
        healthy: The negative class; None for none.
        calibrator: None where none was fitted.
        points: Operating points of the calibrated probabilities on the test set, by unit; the shipped one first.
        notes: Why something is missing.
    """

    SCHEMA: ClassVar[str] = "gyrus.internal-scores/1"

    evaluation: Evaluation
    healthy: str | None
    calibrator: Calibrator | None
    points: Mapping[Unit, tuple[OperatingResult, ...]]
    notes: tuple[str, ...] = ()

    @classmethod
    def measure(
        cls,
        evaluation: Evaluation,
        test: Predictions | None,
        assessment: Assessment | None,
        notes: tuple[str, ...] = (),
    ) -> InternalScores:
        """Collect the scores, and measure the operating points by each unit that is scored.

        Args:
            evaluation: Scores on the test set.
            test: Predictions for it; without them points are measured by the unit only that they were chosen for.
            assessment: What was chosen on the validation set; None where that was impossible.
            notes: Why something is missing.
        """
        if assessment is None:
            return cls(evaluation, None, None, {}, notes)
        bootstrap = BootstrapConfig(evaluation.resamples, evaluation.seed, evaluation.level)
        points: dict[Unit, tuple[OperatingResult, ...]] = {assessment.unit: assessment.points}
        for unit in evaluation.scores:
            if unit != assessment.unit and test is not None:
                rows = labelled_rows(test, unit)
                rows = assessment.calibrator.apply(rows) if assessment.calibrator else rows
                points[unit] = tuple(evaluate_threshold(each.point, rows, bootstrap) for each in assessment.points)
        return cls(evaluation, assessment.healthy, assessment.calibrator, points, notes)

    def with_first(self, goal: str | None) -> InternalScores:
        """The same with the operating point of a goal first."""
        return replace(
            self,
            points={
                unit: tuple(sorted(results, key=lambda each: each.point.goal != goal))
                for unit, results in self.points.items()
            },
        )


@dataclass(frozen=True)
class CalibrationLine:
    """Calibration of the probability of one class, or of the positive classes: a logistic line (Cox 1958).

    Attributes:
        name: The class; "positive" for the positive classes together.
        predicted: The mean probability.
        observed: The fraction that is of the class.
        in_the_large: The offset with a slope of 1, in log odds: 0 if calibrated, above 0 if probabilities are too low.
        slope: 1 if calibrated; below 1 if probabilities are too extreme.
    """

    name: str
    predicted: float
    observed: float
    in_the_large: Estimate
    slope: Estimate


@dataclass(frozen=True)
class ClassFraction:
    """How frequent a class is."""

    name: str
    internal: float
    external: float


@dataclass(frozen=True)
class PointComparison:
    """The shipped operating point.

    Attributes:
        point: As it is shipped.
        rates: As shipped: internal, external and the difference, by name of :data:`POINT_RATES`.
        recalibrated: Rates on the cohort if probabilities and threshold are fitted on other subjects of the cohort;
            None where that is impossible.
    """

    point: OperatingPoint
    rates: Mapping[str, Compared]
    recalibrated: Mapping[str, Estimate] | None


@dataclass(frozen=True)
class WantedSize:
    """Subjects that a cohort needs for intervals of a wanted width.

    Attributes:
        score: The score.
        expected: The value that is expected: that on the cohort.
        subjects: In all, at the prevalence of the cohort.
        source: The formula.
    """

    score: str
    expected: float
    subjects: int
    source: str


@dataclass(frozen=True)
class ExternalValidation(Saved):
    """A trained classifier on another cohort.

    Attributes:
        run: Name of the run or bundle.
        cohort: Name of the cohort.
        internal: Scores on the internal test set.
        external: Scores on the cohort, without the subjects that are set aside.
        unit: What is compared.
        scores: By name of :data:`COMPARED`.
        expected_accuracy: The accuracy that the internal recall of each class gives at the class frequencies of the
            cohort: what a shift of prevalence alone would do. None where a class is missing in the test set.
        set_aside: Subjects who are also in the data of the classifier.
        pixels_compared: Whether pixels were compared: with a run whose data are in their place.
        fractions: Frequencies of the classes.
        prevalence_p: p-value of equal frequencies (chi-squared test); None where it is undefined, and of visits, as
            those of one subject are not independent.
        calibration: On the cohort, with the shipped calibrator.
        calibration_lines: Per class, or of the positive classes.
        recalibrated: Calibration on the cohort after cross-fitted recalibration; None where that is impossible.
        points: Operating points.
        groups: Scores of groups.
        likeness: How many subjects are unlike the training data; None where there is no reference.
        sizes: Subjects needed.
        width: Wanted width of the intervals in ``sizes``.
        notes: What else a reader must know.
    """

    SCHEMA: ClassVar[str] = "gyrus.external-validation/1"

    run: str
    cohort: str
    internal: Evaluation
    external: Evaluation
    unit: Unit
    scores: Mapping[str, Compared]
    expected_accuracy: float | None
    set_aside: tuple[SetAside, ...]
    pixels_compared: bool
    fractions: tuple[ClassFraction, ...]
    prevalence_p: float | None
    calibration: Calibration
    calibration_lines: tuple[CalibrationLine, ...]
    recalibrated: Calibration | None
    points: tuple[PointComparison, ...]
    groups: tuple[SubgroupTable, ...]
    likeness: LikenessSummary | None
    sizes: tuple[WantedSize, ...]
    width: float
    notes: tuple[str, ...]

    def verdict(self) -> tuple[str, ...]:
        """What the cohort shows, in sentences: discrimination, calibration, prevalence, operating point, scans.

        People who are also in the data of the classifier come first, as they decide what the scores are worth.
        """
        people = (people_sentence(self.set_aside, pixels_compared=self.pixels_compared),)
        scores = (*_score_sentences(self), *_shift_sentences(self), *_calibration_sentences(self))
        return (
            (*people, *scores, *_other_sentences(self))
            if self.set_aside
            else (*scores, *people, *_other_sentences(self))
        )

    def text(self) -> str:
        """The verdict, a table of scores, and notes."""
        unit = self.external.group if self.unit == "subject" else "image"
        lines = [f"External validation of {self.run} on {self.cohort}", "", *self.verdict(), ""]
        level = 100 * self.external.level
        numbers = self.internal.scores[self.unit].count, self.external.scores[self.unit].count
        lines.append(
            f"In brackets {level:g} % confidence intervals; internal {counted(numbers[0], unit)}, external "
            f"{counted(numbers[1], unit)}. Difference: external minus internal, for independent samples."
        )
        rows: list[tuple[str, ...]] = [("", "internal", "external", "difference")]
        rows += [
            (ALL_METRICS[name].title, *(each.text(2) for each in (one.internal, one.external, one.difference)))
            for name, one in self.scores.items()
        ]
        for point in self.points[:1]:
            rows.append((f"{point.point.title}:", "", "", ""))
            rows += [
                (f"  {name}", *(each.text(2) for each in (one.internal, one.external, one.difference)))
                for name, one in point.rates.items()
            ]
        lines += aligned(rows)
        lines += ["", *[f"Note: {note}" for note in self.notes]]
        return one_per_line(lines).rstrip() + "\n"


def validate_externally(
    internal: InternalScores, external: Evaluation, cohort: Predictions, bootstrap: BootstrapConfig
) -> dict[str, object]:
    """The comparisons of a cohort with the internal test set: fields of :class:`ExternalValidation`.

    Args:
        internal: Scores on the test set, and what was chosen on the validation set.
        external: Scores on the cohort.
        cohort: Predictions for it; some rows have a true class.
        bootstrap: How intervals are computed.
    """
    inside = internal.evaluation
    unit: Unit = "subject" if "subject" in external.scores and "subject" in inside.scores else "image"
    outside = labelled_rows(cohort, unit)
    one, other = inside.scores[unit], external.scores[unit]
    calibrated = internal.calibrator.apply(outside) if internal.calibrator else outside
    notes: list[str] = []
    missing = [name for name, count in other.class_counts.items() if not count]
    if missing:
        notes.append(
            f"The cohort has no {unit} of class {listed(missing)}: averages over the classes leave it out, and are not "
            "comparable with the internal ones."
        )
    recalibrated = _cross_fitted(outside, unit, notes)
    single = unit == "subject" or not cohort.table["subject"].duplicated().any()
    measured = calibrated if single else calibrated.select(~calibrated.table["subject"].duplicated())
    return {
        "unit": unit,
        "scores": {
            name: compared(one.metrics[name], other.metrics[name])
            for name in COMPARED
            if name in one.metrics and name in other.metrics
        },
        "expected_accuracy": _expected_accuracy(one, other),
        "fractions": tuple(
            ClassFraction(name, one.class_counts[name] / one.count, other.class_counts[name] / other.count)
            for name in external.classes
        ),
        "prevalence_p": None
        if "visit" in (inside.group, external.group)
        else _prevalence_p(one.class_counts, other.class_counts),
        "calibration": measure_calibration(measured, bootstrap),
        "calibration_lines": calibration_lines(calibrated, internal.healthy, bootstrap.level),
        "recalibrated": measure_calibration(recalibrated[0], bootstrap) if recalibrated and single else None,
        "points": tuple(
            _compare_point(result, calibrated, recalibrated, bootstrap) for result in internal.points.get(unit, ())
        ),
        "notes": tuple(notes),
    }


def difference_of_independent(first: Estimate, second: Estimate) -> Estimate:
    """The second score minus the first, of independent subjects.

    The interval comes from those of the two scores (MOVER: Zou and Donner 2008; Newcombe 1998, method 10, for two
    proportions).
    """
    if first.value is None or second.value is None:
        return Estimate(None, note="one of the two scores is undefined")
    value = second.value - first.value
    if None in (first.low, first.high, second.low, second.high):
        return Estimate(value, note="no interval: one of the two scores has none")
    low_1, high_1, low_2, high_2 = (float(end or 0.0) for end in (first.low, first.high, second.low, second.high))
    low = value - float(np.hypot(second.value - low_2, high_1 - first.value))
    high = value + float(np.hypot(high_2 - second.value, first.value - low_1))
    return Estimate(value, low, high)


def calibration_lines(
    predictions: Predictions, healthy: str | None = None, level: float = 0.95
) -> tuple[CalibrationLine, ...]:
    """Calibration in the large and slope, with Wald intervals (Steyerberg et al. 2010, Van Calster et al. 2016).

    Args:
        predictions: One row per subject or visit, all with a true class.
        healthy: The negative class: then one line, of all other classes together; None for one line per class, and
            with two classes for the second one only.
        level: Confidence level.
    """
    if healthy is not None:
        wanted = {
            "positive" if len(predictions.classes) > 2 else _other(predictions.classes, healthy): [
                index for index, name in enumerate(predictions.classes) if name != healthy
            ]
        }
    else:
        wanted = {name: [index] for index, name in enumerate(predictions.classes)}
        wanted = dict(list(wanted.items())[1:]) if len(wanted) == 2 else wanted
    lines, clusters = [], cluster_indices(predictions)
    for name, columns in wanted.items():
        probability = np.clip(predictions.probabilities[:, columns].sum(axis=1), 1e-6, 1 - 1e-6)
        event = np.isin(predictions.targets, columns).astype(np.float64)
        odds = np.asarray(scipy.special.logit(probability))
        ones = np.ones_like(odds)
        lines.append(
            CalibrationLine(
                name,
                float(probability.mean()),
                float(event.mean()),
                _logistic_estimate(ones[:, None], event, odds, 0, level, clusters),
                _logistic_estimate(np.column_stack([ones, odds]), event, np.zeros_like(odds), 1, level, clusters),
            )
        )
    return tuple(lines)


def wanted_sizes(
    external: Evaluation, unit: Unit, points: Sequence[PointComparison], width: float
) -> tuple[WantedSize, ...]:
    """Subjects that a cohort needs, so that the intervals have at most a width.

    Proportions: Buderer 1996, "Statistical methodology: I. Incorporating the prevalence of disease into the sample size
    calculation for sensitivity and specificity". Area under the ROC curve: the standard error of Hanley and McNeil
    1982, as in Riley et al. 2021, "Minimum sample size for external validation of a clinical prediction model".

    Args:
        external: Scores on the cohort, whose values and prevalence are expected.
        unit: What is scored.
        points: Operating points; the first gives sensitivity and specificity.
        width: Of the interval, from end to end.
    """
    scores, z = external.scores[unit], float(scipy.stats.norm.ppf((1 + external.level) / 2))
    sizes = []

    def proportion(title: str, value: float | None, fraction: float) -> None:
        if value is not None and fraction > 0:
            sizes.append(size_for_fraction(title, value, fraction, width, external.level))

    proportion("accuracy", scores.metrics["accuracy"].value, 1.0)
    if points:
        positive = sum(scores.class_counts[name] for name in points[0].point.positive) / scores.count
        for name, fraction in (("sensitivity", positive), ("specificity", 1 - positive)):
            proportion(name, points[0].rates[name].external.value, fraction)
    if len(external.classes) == 2 and scores.metrics["macro_roc_auc"].value is not None:
        area = float(np.clip(scores.metrics["macro_roc_auc"].value or 0.5, 0.5, 0.99))
        fraction = scores.class_counts[external.classes[1]] / scores.count
        for number in range(10, 1_000_000):
            if 2 * z * _area_error(area, number * fraction, number * (1 - fraction)) <= width:
                sizes.append(WantedSize("ROC AUC", area, number, "Hanley and McNeil 1982, Riley et al. 2021"))
                break
    return tuple(sizes)


def _area_error(area: float, positives: float, negatives: float) -> float:
    first, second = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (positives - 1) * (first - area**2) + (negatives - 1) * (second - area**2)
    return float(np.sqrt(variance / (positives * negatives)))


def _other(classes: Sequence[str], healthy: str) -> str:
    return next(name for name in classes if name != healthy)


def compared(internal: Estimate, external: Estimate) -> Compared:
    """A score on the cohort beside the internal one, with their difference."""
    return Compared(internal, external, difference_of_independent(internal, external))


def _expected_accuracy(inside: Scores, outside: Scores) -> float | None:
    counts = np.array(inside.confusion)
    size, right = counts.sum(axis=1), counts.diagonal()
    wanted = np.array(list(outside.class_counts.values())) / outside.count
    if (size[wanted > 0] == 0).any():
        return None
    return float((wanted * right / np.maximum(size, 1)).sum())


def _prevalence_p(internal: Mapping[str, int], external: Mapping[str, int]) -> float | None:
    table = np.array([[counts[name] for name in internal] for counts in (internal, external)])
    table = table[:, table.sum(axis=0) > 0]
    if table.shape[1] < 2:
        return None
    return float(scipy.stats.chi2_contingency(table, correction=False).pvalue)


def _logistic_estimate(
    design: Floats, event: Floats, offset: Floats, column: int, level: float, clusters: Integers
) -> Estimate:
    """A coefficient of a logistic regression by Newton's method, with a Wald interval.

    Steps are limited, because from probabilities that are far off a whole step leads to where all are 0 or 1. Where a
    subject has several rows, the covariance is that of Liang and Zeger 1986, summed by subject.
    """
    if event.min() == event.max():
        return Estimate(None, note="all are of one class")
    weights = np.zeros(design.shape[1])
    for _ in range(100):
        probability = scipy.special.expit(design @ weights + offset)
        information = design.T @ (design * (probability * (1 - probability))[:, None])
        if np.linalg.cond(information) > 1e10:
            return Estimate(None, note="the classes are separated, or all probabilities are equal")
        step = np.linalg.solve(information, design.T @ (event - probability))
        weights = weights + step * (LONGEST_STEP / max(float(np.abs(step).max()), LONGEST_STEP))
        if np.abs(step).max() < 1e-8:
            break
    covariance, subjects = np.linalg.inv(information), int(clusters.max()) + 1
    if subjects < len(event):
        sums = np.zeros((subjects, design.shape[1]))
        np.add.at(sums, clusters, design * (event - probability)[:, None])
        covariance = covariance @ (sums.T @ sums * subjects / max(subjects - 1, 1)) @ covariance
    half = float(scipy.stats.norm.ppf((1 + level) / 2) * np.sqrt(covariance[column, column]))
    if not np.isfinite(weights).all() or np.abs(weights[column]) > 50:
        return Estimate(None, note="the classes are separated")
    value = float(weights[column])
    return Estimate(value, value - half, value + half)


def _folds(targets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The fold of each row, stratified by class."""
    folds = np.empty(len(targets), np.int64)
    start = 0
    for index in np.unique(targets):
        rows = np.random.default_rng((int(index), 0xF01D)).permutation(np.flatnonzero(targets == index))
        folds[rows] = (np.arange(len(rows)) + start) % FOLDS
        start += len(rows)
    return folds


def _cross_fitted(
    rows: Predictions, unit: Unit, notes: list[str]
) -> tuple[Predictions, tuple[Predictions, ...], npt.NDArray[np.int64]] | None:
    """The cohort recalibrated: each row with a map that was fitted on other subjects, those of the other folds.

    Returns:
        The recalibrated rows, the other rows as each fold recalibrates them, and the folds; None with a note where a
        class is too small.
    """
    known = rows.table[SUBJECT_OF_VISIT if SUBJECT_OF_VISIT in rows.table else "subject"]
    clusters = known.fillna(rows.table["sample"]).to_numpy()
    names, first = np.unique(clusters.astype(str), return_index=True)
    of_subject = dict(zip(names, _folds(rows.targets[first]), strict=True))
    folds = np.array([of_subject[str(name)] for name in clusters])
    fitted: list[Calibrator] = []
    try:
        for fold in range(FOLDS):
            fitted.append(fit_calibrator(replace(rows.select(folds != fold), subset="val"), RECALIBRATOR, unit=unit))
    except DataError as error:
        notes.append(
            f"No recalibration on the cohort: {str(error).replace('the validation set', 'a part of the cohort')}"
        )
        return None
    whole = rows.table.copy()
    for fold, calibrator in enumerate(fitted):
        inside = folds == fold
        if inside.any():
            logits = calibrator.apply(rows.select(inside)).logits
            whole.loc[inside, [f"logit:{name}" for name in rows.classes]] = logits
    others = tuple(each.apply(replace(rows.select(folds != fold), subset="val")) for fold, each in enumerate(fitted))
    return replace(rows, table=whole), others, folds


def _compare_point(
    internal: OperatingResult,
    calibrated: Predictions,
    recalibrated: tuple[Predictions, tuple[Predictions, ...], npt.NDArray[np.int64]] | None,
    bootstrap: BootstrapConfig,
) -> PointComparison:
    point = internal.point
    found = evaluate_threshold(point, calibrated, bootstrap).rates
    rates = {name: compared(internal.rates[name], found[name]) for name in POINT_RATES}
    again = None
    if recalibrated:
        rows, others, folds = recalibrated
        predicted = np.zeros(len(rows), bool)
        try:
            for fold, fitted_on in enumerate(others):
                chosen = choose_threshold(fitted_on, point.positive, point.goal, target=point.target, unit=point.unit)
                inside = folds == fold
                predicted[inside] = chosen.predict_positive(rows)[inside]
            positive = is_positive(calibrated, point.positive)
            found = evaluate_decisions(predicted, positive, cluster_indices(calibrated), bootstrap)
            again = {name: found[name] for name in POINT_RATES}
        except DataError:  # a part of the cohort lacks the positive or the negative classes
            again = None
    return PointComparison(point, rates, again)


def _score_sentences(found: ExternalValidation) -> list[str]:
    one = found.scores["balanced_accuracy"]
    area = found.scores["macro_roc_auc"]
    sentences = []
    for compared, title in ((area, "Discrimination (macro ROC AUC)"), (one, "Balanced accuracy")):
        gap = compared.difference
        if gap.value is None or gap.low is None or gap.high is None:
            sentences.append(f"{title}: cannot be compared ({gap.note or compared.external.note}).")
            continue
        verb = "is lower than" if gap.high < 0 else "is higher than" if gap.low > 0 else "is not shown to differ from"
        sentences.append(
            f"{title} on the cohort {verb} on the internal test set: {compared.external.text(2)} against "
            f"{compared.internal.text(2)}, difference {gap.text(2)}."
        )
    return sentences


def _shift_sentences(found: ExternalValidation) -> list[str]:
    shift = ", ".join(
        f"{each.name} {percent(each.external)} (internal {percent(each.internal)})" for each in found.fractions
    )
    if found.prevalence_p is None:
        return [f"Classes: {shift}."]
    differ = found.prevalence_p < 1 - found.external.level
    sentence = (
        f"Prevalence {'differs' if differ else 'is not shown to differ'} ({p_value_text(found.prevalence_p)}): {shift}."
    )
    accuracy = found.scores["accuracy"]
    if found.expected_accuracy is not None and differ and accuracy.external.value is not None:
        sentence += (
            " With the internal recall of each class, accuracy at this prevalence would be "
            f"{found.expected_accuracy:.2f}; it is {accuracy.external.text(2)} (internal {accuracy.internal.text(2)})."
        )
    return [sentence]


def _calibration_sentences(found: ExternalValidation) -> list[str]:
    sentences = []
    for line in found.calibration_lines:
        offset, slope = line.in_the_large, line.slope
        wrong = []
        if offset.low is not None and offset.low > 0:
            wrong.append("probabilities are too low")
        if offset.high is not None and offset.high < 0:
            wrong.append("probabilities are too high")
        if slope.high is not None and slope.high < 1:
            wrong.append("too extreme")
        if slope.low is not None and slope.low > 1:
            wrong.append("not extreme enough")
        verdict = " and ".join(wrong) or "no miscalibration shown"
        sentences.append(
            f"Calibration of '{line.name}': {verdict}; mean probability {line.predicted:.2f}, observed "
            f"{line.observed:.2f}, calibration in the large {offset.text(2)} (0 is right), slope {slope.text(2)} "
            "(1 is right)."
        )
    error = found.calibration.errors["equal_mass"]
    text = f"ECE {error.value:.3f}"
    text += (
        f" ({error.expected:.3f} expected if calibrated, {p_value_text(error.p_value)})"
        if error.p_value is not None and error.expected is not None
        else ""
    )
    if found.recalibrated:
        text += (
            f"; {found.recalibrated.errors['equal_mass'].value:.3f} after recalibration on other subjects of the cohort"
        )
    return [*sentences[:4], f"{text}."]


def _other_sentences(found: ExternalValidation) -> list[str]:
    sentences = []
    for point in found.points[:1]:
        parts = []
        for name in ("sensitivity", "specificity"):
            rate = point.rates[name]
            again = f", after recalibration {point.recalibrated[name].text(2)}" if point.recalibrated else ""
            parts.append(f"{name} {rate.external.text(2)} (internal {rate.internal.text(2)}{again})")
        sentences.append(
            f"Shipped operating point, {point.point.title[:1].lower()}{point.point.title[1:]}: {'; '.join(parts)}."
        )
    if found.likeness:
        sentences.append(found.likeness.text())
    small = size_sentence(found.sizes, found.external.scores[found.unit].count, found.unit, found.width)
    sentences += [small] if small else []
    return sentences


def people_sentence(set_aside: Sequence[SetAside], *, pixels_compared: bool) -> str:
    """How many subjects of the cohort are also in the data of the classifier, and how they were recognised."""
    if not set_aside:
        how = "identifiers, files and pixels" if pixels_compared else "identifiers and files"
        return f"No subject of the cohort was found in the data of the classifier, by {how}."
    counts = {text: sum(each.reason == reason for each in set_aside) for reason, text in REASONS.items()}
    ways = ", ".join(f"{count} by {text}" for text, count in counts.items() if count)
    learnt = sum(each.subset in ("train", "val", LEARNT) for each in set_aside)
    people = counted(len(set_aside), "subject of the cohort is", "subjects of the cohort are")
    return f"{people} also in the data of the classifier ({learnt} in training or validation) and set aside: {ways}."


def size_sentence(sizes: Sequence[WantedSize], count: int, unit: Unit, width: float) -> str:
    """How many subjects the score that needs most of them needs; empty if the cohort has as many."""
    large = [each for each in sizes if each.subjects > count]
    if not large:
        return ""
    most = max(large, key=lambda each: each.subjects)
    return (
        f"The cohort is small: {counted(count, 'subject' if unit == 'subject' else 'image')}. For an interval of "
        f"{most.score} no wider than {width:g}, about {most.subjects:,} are needed."
    )


def size_for_fraction(title: str, value: float, fraction: float, width: float, level: float) -> WantedSize:
    """Subjects needed for an interval of a proportion (Buderer 1996).

    Args:
        title: Name of the proportion.
        value: Its expected value.
        fraction: Fraction of the subjects that it is a proportion of.
        width: Of the interval, from end to end.
        level: Confidence level.
    """
    z, cautious = float(scipy.stats.norm.ppf((1 + level) / 2)), float(np.clip(value, 0.05, 0.95))
    number = cautious * (1 - cautious) * (2 * z / width) ** 2 / fraction
    return WantedSize(title, cautious, int(np.ceil(number)), "Buderer 1996")
