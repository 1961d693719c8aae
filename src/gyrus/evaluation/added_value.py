"""Does the image add to the table? Scores of the table alone, the image alone and both, on the same subjects.

Two questions are kept apart. Does the image carry information beyond the columns: a likelihood-ratio test of nested
logistic models, with and without the out-of-sample answer of the network, on subjects that it has not seen. Is the
score of both higher than that of the table alone: the paired difference with its interval. The test is the more
powerful one; a difference of areas under curves often misses what it finds (Pepe et al. 2013).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import scipy  # loads its submodules on first use

from gyrus.datasets.table_features import TableEncoder, find_column, first_of_each, text_of_cells
from gyrus.errors import ConfigError
from gyrus.evaluation.comparison import labelled_rows
from gyrus.evaluation.evaluate import evaluate, evaluate_baselines
from gyrus.evaluation.metrics import HEADLINE_METRICS
from gyrus.evaluation.result import Baselines, Estimate, Unit
from gyrus.inference.late_fusion import log_probabilities
from gyrus.serialisation import Saved
from gyrus.text import aligned, counted, p_value_text

if TYPE_CHECKING:
    import pandas as pd

    from gyrus.datasets.table_features import ColumnKind
    from gyrus.inference.predictions import Predictions

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

HEADLINE = "macro_roc_auc"
"""The score whose difference answers the question: it depends on no threshold."""

LEAST_PER_PARAMETER = 3
"""Subjects of the rarest class for each column of the smaller model, at least."""

REPLICATES = 499
"""Simulated data sets of the parametric bootstrap of the likelihood-ratio test."""

ENOUGH_FOR_CHI_SQUARED = 10
"""With fewer subjects of the rarest class per parameter, the p-value comes from a parametric bootstrap: in simulations
the chi-squared limit then rejected up to 8 % of true hypotheses at a level of 5 %."""

Part = Literal["table", "image"]

PART_TITLES: Mapping[str, str] = {"table": "Table alone", "image": "Image alone", "both": "Both"}


@dataclass(frozen=True)
class LikelihoodRatio:
    """A likelihood-ratio test of nested logistic models.

    Attributes:
        statistic: Twice the difference of the log likelihoods.
        p_value: Of no information of the image beyond the columns.
        subjects: How many were used.
        columns: The terms of the smaller model; numbers also enter squared where the subjects suffice.
        method: "chi-squared" with one degree of freedom, or "parametric bootstrap".
    """

    statistic: float
    p_value: float
    subjects: int
    columns: tuple[str, ...]
    method: Literal["chi-squared", "parametric bootstrap"]


@dataclass(frozen=True)
class AddedValue(Saved):
    """What the image adds to the table, on subjects that neither classifier was trained on.

    Attributes:
        columns: The columns of the table.
        fusion: How both were combined.
        unit: What was scored.
        count: How many.
        scores: Of both together, by name of :data:`gyrus.evaluation.metrics.HEADLINE_METRICS`.
        parts: The table alone and the image alone: their scores, and the score of both minus theirs.
        test: The likelihood-ratio test; None where there is none, with the reason in ``note``.
        level: Confidence level.
        note: Why there is no test.
        group: What images are pooled by: subject, scan or visit.
    """

    SCHEMA: ClassVar[str] = "gyrus.added_value/1"

    columns: tuple[str, ...]
    fusion: str
    unit: Unit
    count: int
    scores: Mapping[str, Estimate]
    parts: Baselines
    test: LikelihoodRatio | None
    level: float
    note: str = ""
    group: str = "subject"

    @property
    def units(self) -> str:
        """How many of what were scored, such as "12 visits"."""
        return counted(self.count, "image" if self.unit == "image" else self.group)

    @property
    def question(self) -> str:
        """The question, such as "Does the image add to age and sex?"."""
        return f"Does the image add to {self._columns}?"

    @property
    def _columns(self) -> str:
        return " and ".join([", ".join(self.columns[:-1]), self.columns[-1]] if len(self.columns) > 1 else self.columns)

    def verdict(self) -> tuple[str, ...]:
        """The answer in words: whether the image carries information, and whether the score is higher."""
        gain = self.parts.results["table"].gains[HEADLINE]
        carries = self.test is not None and self.test.p_value < 1 - self.level
        higher = gain.low is not None and gain.low > 0
        lower = gain.high is not None and gain.high < 0
        title = HEADLINE_METRICS[HEADLINE]
        tested = f" (likelihood-ratio test, {p_value_text(self.test.p_value)})" if self.test else ""
        numbers = (
            f"{title} of both {self.scores[HEADLINE].text(2)}, of the table alone "
            f"{self.parts.results['table'].scores[HEADLINE].text(2)}, difference {gain.text(2)}, "
            f"{self.units}"
        )
        if carries and higher:
            answer = f"Yes: the image adds to {self._columns}{tested}."
        elif carries and lower:
            answer = (
                f"The image carries information beyond {self._columns}{tested}, but both together score lower than the "
                "table alone: the weights of the two, or the network, fit these subjects badly."
            )
        elif carries:
            answer = (
                f"The image carries information beyond {self._columns}{tested}, but it is not shown that the score of "
                "both is higher than that of the table alone."
            )
        elif self.test is None and higher:
            answer = f"The score of both is higher than that of {self._columns} alone."
        elif lower:
            answer = f"No: both together score lower than {self._columns} alone."
        else:
            answer = f"It is not shown that the image adds to {self._columns}{tested}."
        return (answer, f"{numbers}.", *((self.note,) if self.note else ()))

    def text(self) -> str:
        """Question, answer, and a table of the three scores."""
        rows = [["", *HEADLINE_METRICS.values()]]
        of_parts = {name: part.scores for name, part in self.parts.results.items()}
        for name, scores in {**of_parts, "both": self.scores}.items():
            rows.append([PART_TITLES[name], *(scores[metric].text() for metric in HEADLINE_METRICS)])
        for name, part in self.parts.results.items():
            gains = [part.gains[metric].text() for metric in HEADLINE_METRICS]
            rows.append([f"Both minus {PART_TITLES[name].lower()}", *gains])
        head = f"{self.question} ({self.units}, fusion: {self.fusion})"
        return "\n".join([head, "-" * len(head), *self.verdict(), "", *aligned(rows)])


def added_value(
    both: Predictions,
    image: Predictions,
    table: Predictions,
    rows: pd.DataFrame,
    columns: Mapping[str, ColumnKind],
    *,
    fusion: str,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> AddedValue:
    """Compare image and table together with each alone, and test whether the image carries information of its own.

    Args:
        both: Predictions of both together for the test set, or out-of-fold predictions.
        image: Those of the image alone, for the same samples.
        table: Those of the table alone.
        rows: The columns of these samples, with ``sample``.
        columns: The columns, and what they hold.
        fusion: How both were combined, for the report.
        resamples: Bootstrap resamples and permutations of subjects.
        seed: Seed of both, and of the parametric bootstrap.
        level: Confidence level.

    Raises:
        DataError: The predictions are of other samples.
    """
    unit: Unit = "subject" if both.subjects_known and both.split_unit != "image" else "image"
    parts = evaluate_baselines(
        both, {"table": ("", table), "image": ("", image)}, unit=unit, resamples=resamples, seed=seed, level=level
    )
    evaluation = evaluate(both, resamples=resamples, seed=seed, level=level)
    scores = evaluation.scores[unit]
    test, note = _test(labelled_rows(image, unit), image, rows, columns, unit, seed)
    return AddedValue(
        columns=tuple(columns),
        fusion=fusion,
        unit=unit,
        count=scores.count,
        scores={name: scores.metrics[name] for name in HEADLINE_METRICS},
        parts=parts,
        test=test,
        level=level,
        note=note,
        group=evaluation.group,
    )


def _test(
    answers: Predictions,
    image: Predictions,
    rows: pd.DataFrame,
    columns: Mapping[str, ColumnKind],
    unit: Unit,
    seed: int,
) -> tuple[LikelihoodRatio | None, str]:
    """The test, or the reason why there is none."""
    if answers.subject_kind == "visit":
        return None, "No likelihood-ratio test: visits of one subject are not independent."
    if unit == "image" and image.subjects_known:
        return None, "No likelihood-ratio test: images of one subject are not independent."
    own = image.table.set_index("sample")["subject" if unit == "subject" else "target"]
    units = [str(own[name]) if unit == "subject" else str(name) for name in rows["sample"]]
    people = first_of_each(rows, units).reindex(answers.table["sample"].tolist())
    design, names = _design(people, columns, np.bincount(answers.targets, minlength=len(answers.classes)))
    if design is None:
        return None, names[0]
    return likelihood_ratio_test(answers.targets, design, answers.logits, names=names, seed=seed), ""


def _design(
    people: pd.DataFrame, columns: Mapping[str, ColumnKind], counts: Integers
) -> tuple[Floats | None, tuple[str, ...]]:
    """The features of the smaller model, with the squares of numbers if the subjects suffice, and their names."""
    known = {
        name: kind
        for name, kind in columns.items()
        if len({cell for cell in text_of_cells(people[find_column(people, name)]) if cell is not None}) > 1
    }
    if not known:
        return np.empty((len(people), 0)), ()
    encoder = TableEncoder.fit(people, known)
    linear = encoder.encode(people)
    squares = [number for number, name in enumerate(encoder.names) if len(np.unique(linear[:, number])) > 2]
    curved = np.column_stack([linear, linear[:, squares] ** 2])
    smallest = int(counts[counts > 0].min())
    for design, names in (
        (curved, (*encoder.names, *(f"{encoder.names[number]}^2" for number in squares))),
        (linear, encoder.names),
    ):
        if smallest >= LEAST_PER_PARAMETER * design.shape[1]:
            return design, names
    return None, (
        f"No likelihood-ratio test: the rarest class has {counted(smallest, 'subject')}, and the columns give "
        f"{counted(linear.shape[1], 'feature')}; at least {LEAST_PER_PARAMETER} subjects each are needed.",
    )


def likelihood_ratio_test(
    targets: Integers, design: Floats, image_logits: Floats, *, names: Sequence[str] = (), seed: int = 0
) -> LikelihoodRatio:
    """Test whether the answers of a network carry information on the class beyond some features.

    The smaller model is a multinomial logistic regression on the features, fitted to these subjects. The larger one
    adds the log probabilities of the network with one common factor: one degree of freedom, also for many classes. The
    network must not have seen the subjects. With few subjects for the features, see :data:`ENOUGH_FOR_CHI_SQUARED`.

    Args:
        targets: The class of each subject, (N,).
        design: Features of the smaller model, (N, F); the constant is added.
        image_logits: Answers of the network, (N, K).
        names: Names of the features.
        seed: Seed of the simulated data.

    Raises:
        ConfigError: The subjects are all of one class.
    """
    present = np.unique(targets)
    if len(present) < 2:
        raise ConfigError("A likelihood-ratio test needs subjects of at least two classes.")
    logs = log_probabilities(np.asarray(image_logits, dtype=np.float64)[:, present])
    codes = np.searchsorted(present, targets)
    fixed = np.column_stack([np.ones(len(codes)), design])
    null = _Multinomial(fixed, None, len(present))
    full = _Multinomial(fixed, logs, len(present))
    smaller = null.fit(codes)
    statistic = max(0.0, 2 * (full.fit(codes).log_likelihood - smaller.log_likelihood))
    if np.bincount(codes).min() >= ENOUGH_FOR_CHI_SQUARED * fixed.shape[1]:
        return LikelihoodRatio(
            statistic, float(scipy.stats.chi2.sf(statistic, 1)), len(codes), tuple(names), "chi-squared"
        )
    random = np.random.default_rng((seed, 0x17A))
    steps = smaller.probabilities.cumsum(axis=1)[:, :-1]
    simulated = []
    for _ in range(REPLICATES):
        drawn = (random.random((len(codes), 1)) > steps).sum(axis=1)
        if len(np.unique(drawn)) < 2:
            simulated.append(0.0)
            continue
        simulated.append(2 * (full.fit(drawn).log_likelihood - null.fit(drawn).log_likelihood))
    extreme = int((np.array(simulated) >= statistic - 1e-9).sum())
    p_value = (1 + extreme) / (1 + REPLICATES)
    return LikelihoodRatio(statistic, p_value, len(codes), tuple(names), "parametric bootstrap")


@dataclass(frozen=True)
class _Fit:
    log_likelihood: float
    probabilities: Floats


class _Multinomial:
    """Maximum likelihood of a multinomial logistic model with an optional term that all classes share."""

    def __init__(self, fixed: Floats, shared: Floats | None, classes: int) -> None:
        self._fixed, self._shared, self._classes = fixed, shared, classes

    def fit(self, codes: Integers) -> _Fit:
        """Newton's method; a ridge of 1e-6 keeps separated classes finite."""
        fixed, classes = self._fixed, self._classes
        count, width = fixed.shape
        outcomes = np.eye(classes)[codes]
        size = width * (classes - 1) + (self._shared is not None)
        # (N, K, P): how the score of each class depends on each parameter.
        terms = np.zeros((count, classes, size))
        for number in range(1, classes):
            terms[:, number, (number - 1) * width : number * width] = fixed
        if self._shared is not None:
            terms[:, :, -1] = self._shared
        flat, values, ridge = terms.reshape(-1, size), np.zeros(size), 1e-6
        best = -np.inf
        probabilities = np.full((count, classes), 1 / classes)
        for _ in range(50):
            scores = terms @ values
            scores -= scores.max(axis=1, keepdims=True)
            logs = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
            reached = float((logs * outcomes).sum()) - 0.5 * ridge * float(values @ values)
            if reached < best + 1e-10:
                break
            best, probabilities = reached, np.exp(logs)
            slope = (outcomes - probabilities).ravel() @ flat - ridge * values
            weighted = probabilities[:, :, None] * terms
            mean = weighted.sum(axis=1)
            curvature = flat.T @ weighted.reshape(flat.shape) - mean.T @ mean
            step = np.linalg.solve(curvature + ridge * np.eye(size), slope)
            values = values + step * min(1.0, 20 / max(float(np.abs(terms @ step).max()), 1e-12))
        return _Fit(float((np.log(np.maximum(probabilities, 1e-300)) * outcomes).sum()), probabilities)
