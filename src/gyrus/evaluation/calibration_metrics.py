"""Calibration: do predictions with a probability of 80 % come true in 80 % of cases?

No single number measures it. Binned errors are above zero also for a perfectly calibrated classifier, the more so the
fewer subjects there are. Each is therefore reported beside the error that calibrated probabilities have by chance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt

from gyrus.errors import DataError
from gyrus.evaluation.bootstrap import (
    DEFAULT_BOOTSTRAP,
    BootstrapConfig,
    IntervalNotes,
    cluster_indices,
    divide,
    estimate_fractions,
    estimate_mean,
)
from gyrus.evaluation.result import MOST_CLASSES_SHOWN, Estimate
from gyrus.inference.predictions import Predictions
from gyrus.serialisation import renamed

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

BINS = 15
"""The usual number since Guo et al. 2017, "On calibration of modern neural networks"."""

LEAST_IN_A_BIN = 5
"""Fewer bins of equal mass are used until each holds this many rows."""

CELLS_AT_ONCE = 2**20
"""Rows times simulated outcomes that are in memory at a time."""

ENOUGH_DRAWS = 200
CELLS_IN_ALL = 2**25
"""Least number of simulated outcomes, and the most rows times outcomes: with many rows fewer suffice."""


@dataclass(frozen=True)
class Bin:
    """Rows of similar probability: the range and mean of the probability, and the fraction that came true."""

    low: float
    high: float
    count: int
    confidence: float
    fraction: Annotated[Estimate, renamed("fraction", "share")]


@dataclass(frozen=True)
class ReliabilityDiagram:
    """A reliability diagram.

    Attributes:
        class_name: The class whose probability it shows; None for that of the predicted class.
        bins: By ascending probability; empty ones are left out.
    """

    class_name: Annotated[str | None, renamed("class_name", "of")]
    bins: tuple[Bin, ...]


@dataclass(frozen=True)
class BrierParts:
    """The Brier score as ``reliability - resolution + uncertainty + within`` (Murphy 1973).

    Attributes:
        reliability: Mean squared distance between the probability and the fraction that came true; 0 is best.
        resolution: Mean squared distance between the fractions of the bins and the overall fraction; higher is better.
        uncertainty: The score of always predicting the overall fractions.
        within: The remainder, as a bin holds unequal probabilities (Stephenson, Coelho and Jolliffe 2008).
    """

    reliability: float
    resolution: float
    uncertainty: float
    within: float

    @property
    def brier(self) -> float:
        """The Brier score."""
        return self.reliability - self.resolution + self.uncertainty + self.within


@dataclass(frozen=True)
class ConsistencyTest:
    """A calibration error, and a test of whether chance explains it.

    Attributes:
        value: The error.
        expected: Its mean for the same rows if the probabilities were calibrated; None without resamples, as the rest.
        limit: Its quantile at the confidence level if the probabilities were calibrated.
        p_value: Of calibrated probabilities: the fraction of simulated outcomes with an error as large.
    """

    value: float
    expected: float | None
    limit: float | None
    p_value: float | None


@dataclass(frozen=True)
class Calibration:
    """How well probabilities are calibrated.

    Attributes:
        count: The number of rows.
        brier: Mean squared error of the probabilities, halved, so that it lies in [0, 1] (Brier 1950).
        log_loss: Mean negative logarithm of the probability of the true class.
        parts: The Brier score in parts.
        errors: By name of :data:`CALIBRATION_ERRORS`.
        diagrams: That of the predicted class first, then one per class.
    """

    count: int
    brier: Estimate
    log_loss: Estimate
    parts: BrierParts
    errors: Mapping[str, ConsistencyTest]
    diagrams: tuple[ReliabilityDiagram, ...]


def measure_calibration(predictions: Predictions, bootstrap: BootstrapConfig = DEFAULT_BOOTSTRAP) -> Calibration:
    """Measure how well probabilities are calibrated.

    Args:
        predictions: One row for each subject (pool the slices first), or for each image where subjects are not known;
            every row with its true class.
        bootstrap: How intervals are computed; the consistency tests simulate at most as many outcomes.

    Raises:
        DataError: A subject has several rows, or a row has no true class.
    """
    probabilities, targets = predictions.probabilities, predictions.targets
    clusters = cluster_indices(predictions)
    _require_single(predictions)
    return Calibration(
        count=len(predictions),
        brier=estimate_mean(brier_losses(probabilities, targets), clusters, bootstrap),
        log_loss=estimate_mean(log_losses(probabilities, targets), clusters, bootstrap),
        parts=brier_parts(probabilities, targets),
        errors={
            name: consistency_test(name, probabilities, targets, bootstrap, clusters) for name in CALIBRATION_ERRORS
        },
        diagrams=tuple(
            reliability_diagram(predictions, class_name=name, bootstrap=bootstrap)
            for name in (None, *predictions.classes[:MOST_CLASSES_SHOWN])
        ),
    )


def brier_losses(probabilities: Floats, targets: Integers) -> Floats:
    """Half the squared distance between the probabilities (N, K) and the truth, shape (N,).

    With two classes that is the squared error of the probability of one of them.
    """
    return np.asarray(((probabilities - _outcomes(probabilities, targets)) ** 2).sum(axis=1) / 2)


def log_losses(probabilities: Floats, targets: Integers) -> Floats:
    """Negative logarithm of the probability of the true class, shape (N,)."""
    chosen = probabilities[np.arange(len(targets)), targets]
    return np.asarray(-np.log(np.maximum(chosen, np.finfo(np.float64).tiny)))


def reliability_diagram(
    predictions: Predictions,
    *,
    class_name: str | None = None,
    bins: int = 10,
    scheme: Literal["width", "mass"] = "mass",
    bootstrap: BootstrapConfig = DEFAULT_BOOTSTRAP,
) -> ReliabilityDiagram:
    """The reliability diagram of a class, or of the predicted class.

    Args:
        predictions: Every row with its true class; rows of one subject are resampled together.
        class_name: A class; None for the probability of the predicted class.
        bins: The most bins.
        scheme: "mass" for bins with equal numbers of rows, "width" for bins of equal width.
        bootstrap: How intervals are computed.
    """
    probability, event = _column(predictions, class_name)
    index = _SCHEMES[scheme](probability, bins)
    used = np.unique(index)
    notes = IntervalNotes("", "few rows have such a probability")
    inside, events = index[:, None] == used, np.asarray(event, dtype=bool)[:, None]
    fractions = estimate_fractions(events, inside, cluster_indices(predictions), bootstrap, notes)
    return ReliabilityDiagram(
        class_name,
        tuple(
            Bin(float(values.min()), float(values.max()), len(values), float(values.mean()), fraction)
            for values, fraction in zip((probability[index == one] for one in used), fractions, strict=True)
        ),
    )


def brier_parts(probabilities: Floats, targets: Integers, bins: int = 10) -> BrierParts:
    """The parts of the Brier score over bins of equal mass, summed over the classes and halved.

    Args:
        probabilities: Shape (N, K).
        targets: True class of each row, shape (N,).
        bins: The most bins.
    """
    parts = np.zeros(4)
    for probability, event in zip(probabilities.T, _outcomes(probabilities, targets).T, strict=True):
        index = equal_mass(probability, bins)
        count = np.bincount(index)
        means, fractions = (np.bincount(index, values) / count for values in (probability, event))
        overall = float(event.mean())
        away, rest = probability - means[index], event - fractions[index]
        parts += np.array(
            [
                count @ (means - fractions) ** 2 / len(event),
                count @ (fractions - overall) ** 2 / len(event),
                overall * (1 - overall),
                float((away**2).mean() - 2 * (away * rest).mean()),
            ]
        )
    return BrierParts(*(float(part) / 2 for part in parts))


def equal_width(probability: Floats, bins: int = BINS) -> Integers:
    """The bin of each probability among bins of equal width, closed above, shape (N,)."""
    return np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], probability, side="left").astype(np.int64)


def equal_mass(probability: Floats, bins: int = BINS) -> Integers:
    """The bin of each probability among bins with equal numbers of rows; ties share a bin, and no bin is empty."""
    wanted = int(np.clip(len(probability) // LEAST_IN_A_BIN, 1, bins))
    upper = np.sort(probability)[np.ceil(np.arange(1, wanted) * len(probability) / wanted).astype(int) - 1]
    index = np.searchsorted(np.unique(upper), probability, side="left")
    return np.unique(index, return_inverse=True)[1].astype(np.int64)


def expected_error(probability: Floats, events: Floats, index: Integers) -> Floats:
    """Expected calibration error: mean over rows of the gap of their bin (Naeini, Cooper and Hauskrecht 2015).

    Args:
        probability: Shape (N,).
        events: The outcomes, 1 or 0, for B outcomes of the same rows, shape (N, B).
        index: The bin of each row, shape (N,).

    Returns:
        Shape (B,).
    """
    return np.asarray(np.abs(_by_bin(probability[:, None] - events, index)).sum(axis=0) / len(probability))


def debiased_error(probability: Floats, events: Floats, index: Integers) -> Floats:
    """Root of the mean squared gap, minus what the noise of the fractions adds to it (Kumar, Liang and Ma 2019).

    Arguments and result are those of :func:`expected_error`; bins of a single row are left out.
    """
    count = np.bincount(index).astype(np.float64)[:, None]
    means, fractions = _by_bin(probability[:, None], index) / count, _by_bin(events, index) / count
    noise = divide(fractions * (1 - fractions), np.broadcast_to(count - 1, fractions.shape))
    squares = np.where(count > 1, (means - fractions) ** 2 - noise, 0.0)
    return np.sqrt(np.maximum((count * squares).sum(axis=0) / len(probability), 0.0))


def kolmogorov_smirnov_error(probability: Floats, events: Floats) -> Floats:
    """Largest gap between the cumulative sums of probability and of outcomes, without bins (Gupta et al. 2021).

    Arguments and result are those of :func:`expected_error`.
    """
    order = np.argsort(probability, kind="stable")
    gaps = np.abs(np.cumsum((probability[:, None] - events)[order], axis=0)) / len(probability)
    last = np.append(np.diff(probability[order]) > 0, True)
    return np.asarray(gaps[last].max(axis=0))


@dataclass(frozen=True)
class CalibrationError:
    """A way to measure miscalibration.

    Attributes:
        title: Its title.
        compute: From a probability (N,) and outcomes (N, B) to (B,).
        by_class: Whether it is the mean over the classes, instead of that of the predicted class.
    """

    title: str
    compute: Callable[[Floats, Floats], Floats]
    by_class: bool = False


CALIBRATION_ERRORS: dict[str, CalibrationError] = {
    "equal_width": CalibrationError(
        "ECE, bins of equal width",
        lambda probability, events: expected_error(probability, events, equal_width(probability)),
    ),
    "equal_mass": CalibrationError(
        "ECE, bins of equal mass",
        lambda probability, events: expected_error(probability, events, equal_mass(probability)),
    ),
    "classwise": CalibrationError(
        "Classwise ECE",
        lambda probability, events: expected_error(probability, events, equal_width(probability)),
        by_class=True,
    ),
    "debiased": CalibrationError(
        "Root mean squared error, debiased",
        lambda probability, events: debiased_error(probability, events, equal_mass(probability)),
    ),
    "kolmogorov_smirnov": CalibrationError("Kolmogorov-Smirnov error, no bins", kolmogorov_smirnov_error),
}


def calibration_error(name: str, probabilities: Floats, targets: Integers) -> Floats:
    """A calibration error.

    Args:
        name: Of :data:`CALIBRATION_ERRORS`.
        probabilities: Shape (N, K).
        targets: True classes of the same rows in B outcomes, shape (N, B).

    Returns:
        Shape (B,).
    """
    error = CALIBRATION_ERRORS[name]
    if error.by_class:
        return np.mean(
            [error.compute(column, (targets == index).astype(float)) for index, column in enumerate(probabilities.T)],
            axis=0,
        )
    return error.compute(probabilities.max(axis=1), (targets == probabilities.argmax(axis=1)[:, None]).astype(float))


def consistency_test(
    name: str,
    probabilities: Floats,
    targets: Integers,
    bootstrap: BootstrapConfig,
    clusters: Integers | None = None,
) -> ConsistencyTest:
    """Test a calibration error against outcomes simulated from the probabilities themselves.

    This is the consistency resampling of Bröcker and Smith 2007, with the p-value ``(1 + b) / (1 + B)``. Where a
    subject has several visits, the outcomes of its visits depend on each other in an unknown way. They are simulated
    with the strongest dependence that the probabilities allow, so that the test does not call calibrated probabilities
    miscalibrated too often; where visits depend on each other less, it detects less.

    Args:
        name: Of :data:`CALIBRATION_ERRORS`.
        probabilities: Shape (N, K).
        targets: True class of each row, shape (N,).
        bootstrap: The most simulated outcomes, and their seed.
        clusters: The subject of each row, shape (N,); None where every row is a subject of its own.
    """
    value = float(calibration_error(name, probabilities, targets[:, None])[0])
    if not bootstrap.resamples:
        return ConsistencyTest(value, None, None, None)
    random = np.random.default_rng((bootstrap.seed, 0xCA11B))
    number = min(bootstrap.resamples, max(ENOUGH_DRAWS, CELLS_IN_ALL // len(probabilities)))
    step = int(np.clip(CELLS_AT_ONCE // len(probabilities), 1, 64))
    sizes = [min(step, number - start) for start in range(0, number, step)]
    subjects = np.arange(len(targets)) if clusters is None else clusters
    simulated = [
        calibration_error(name, probabilities, _simulate(probabilities, subjects, size, random)) for size in sizes
    ]
    by_chance = np.concatenate(simulated)
    extreme = int((by_chance >= value - 1e-12).sum())
    return ConsistencyTest(
        value,
        float(by_chance.mean()),
        float(np.quantile(by_chance, bootstrap.level)),
        (1 + extreme) / (1 + number),
    )


_SCHEMES: dict[str, Callable[[Floats, int], Integers]] = {"width": equal_width, "mass": equal_mass}


def _simulate(probabilities: Floats, clusters: Integers, size: int, random: np.random.Generator) -> Integers:
    """Classes drawn from the probabilities, shape (N, size).

    The rows of a cluster share their random numbers, which run through the classes from the likeliest on: they are
    right together and wrong together as often as their probabilities allow.
    """
    order = np.argsort(-probabilities, axis=1, kind="stable")
    ends = np.take_along_axis(probabilities, order, axis=1).cumsum(axis=1)[:, None, :-1]
    shared = random.random((int(clusters.max()) + 1, size))[clusters]
    return np.asarray(np.take_along_axis(order, (shared[..., None] > ends).sum(axis=-1), axis=1), dtype=np.int64)


def _outcomes(probabilities: Floats, targets: Integers) -> Floats:
    return (targets[:, None] == np.arange(probabilities.shape[1])).astype(np.float64)


def _column(predictions: Predictions, class_name: str | None) -> tuple[Floats, Floats]:
    """The probability of a class, or of the predicted one, and whether it came true, shape (N,) each."""
    probabilities, targets = predictions.probabilities, predictions.targets
    chosen = (
        predictions.predicted if class_name is None else np.full(len(targets), predictions.classes.index(class_name))
    )
    return probabilities[np.arange(len(targets)), chosen], (targets == chosen).astype(np.float64)


def _by_bin(values: Floats, index: Integers) -> Floats:
    """Sums over the rows of each bin, (N, B) to (bins, B)."""
    inside = np.zeros((int(index.max()) + 1, len(index)))
    inside[index, np.arange(len(index))] = 1.0
    return np.asarray(inside @ values)


def _require_single(predictions: Predictions) -> None:
    if (predictions.targets < 0).any():
        raise DataError("Calibration can be measured only on rows with a true class. Leave the others out.")
    if predictions.subjects_known and predictions.table["subject"].duplicated().any():
        raise DataError("A subject has several rows: pool them first (gyrus.inference.pooling.pool_by_subject).")
