"""Whether probabilities mean what they say: of those called 80 % sure, 80 % should be right.

No single number tells it. Binned errors are above zero for a perfectly calibrated classifier too, the more so the fewer
people there are, so each stands beside what calibrated probabilities would get by chance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from gyrus.errors import DataError
from gyrus.evaluation.intervals import IntervalNotes
from gyrus.evaluation.result import Estimate
from gyrus.evaluation.sampling import USUAL, BootstrapConfig, clusters_of, divide, estimate_all, estimate_mean
from gyrus.inference.predictions import Predictions

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

BINS = 15
"""As usual since Guo et al. 2017, "On calibration of modern neural networks"."""

LEAST_IN_A_BIN = 5
"""Bins of equal mass are made fewer until each holds so many."""

CELLS_AT_ONCE = 2**20
"""Rows times redrawn outcomes that are held at a time."""

ENOUGH_DRAWS = 200
CELLS_IN_ALL = 2**25
"""So many redrawn outcomes are made in any case; of many rows no more than fit into so many cells, as time would be
long and chance makes little difference."""


@dataclass(frozen=True)
class Bin:
    """Rows with like probabilities: the mean of these, and the share that came true."""

    low: float
    high: float
    count: int
    confidence: float
    share: Estimate


@dataclass(frozen=True)
class Reliability:
    """A reliability diagram.

    Attributes:
        of: The class whose probability it is; None for that of the chosen class, whichever it was.
        bins: By rising probability; empty ones are left out.
    """

    of: str | None
    bins: tuple[Bin, ...]


@dataclass(frozen=True)
class BrierParts:
    """The Brier score as ``reliability - resolution + uncertainty + within`` (Murphy 1973).

    Attributes:
        reliability: Mean squared distance between the probability and the share that came true: 0 is best.
        resolution: How far the shares of the bins lie from the overall share: more is better.
        uncertainty: The score of always giving the overall shares.
        within: What remains because a bin holds unequal probabilities (Stephenson, Coelho and Jolliffe 2008).
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
class ErrorFinding:
    """A calibration error, beside what chance alone would give.

    Attributes:
        value: The error.
        expected: Its mean if the probabilities were right, for the same people.
        limit: The value that it exceeds in ``1 - level`` of all cases if the probabilities were right.
        p_value: Of the probabilities being right: share of redrawn outcomes with an error as large.
    """

    value: float
    expected: float | None
    limit: float | None
    p_value: float | None


@dataclass(frozen=True)
class Calibration:
    """How well probabilities are calibrated.

    Attributes:
        count: How many were judged.
        brier: Mean squared error of the probabilities, halved, so that it lies in [0, 1] (Brier 1950).
        log_loss: Mean negative logarithm of the probability of the true class.
        parts: The Brier score in parts.
        errors: By name of :data:`CALIBRATION_ERRORS`.
        diagrams: That of the chosen class first, then one a class.
    """

    count: int
    brier: Estimate
    log_loss: Estimate
    parts: BrierParts
    errors: Mapping[str, ErrorFinding]
    diagrams: tuple[Reliability, ...]


def measure_calibration(predictions: Predictions, sampling: BootstrapConfig = USUAL) -> Calibration:
    """Measure how well probabilities are calibrated.

    Args:
        predictions: One row for each subject (pool the slices first), or for each image where subjects are not known;
            every row with its true class.
        sampling: How intervals are made; chance levels redraw the outcomes as often.

    Raises:
        DataError: A subject has several rows, or a row has no true class.
    """
    probabilities, targets = predictions.probabilities, predictions.targets
    clusters = clusters_of(predictions)
    _require_single(predictions, clusters)
    return Calibration(
        count=len(predictions),
        brier=estimate_mean(brier_losses(probabilities, targets), clusters, sampling),
        log_loss=estimate_mean(log_losses(probabilities, targets), clusters, sampling),
        parts=brier_parts(probabilities, targets),
        errors={name: find_error(name, probabilities, targets, sampling) for name in CALIBRATION_ERRORS},
        diagrams=tuple(reliability(predictions, of=name, sampling=sampling) for name in (None, *predictions.classes)),
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


def reliability(
    predictions: Predictions,
    *,
    of: str | None = None,
    bins: int = 10,
    scheme: Literal["width", "mass"] = "mass",
    sampling: BootstrapConfig = USUAL,
) -> Reliability:
    """The reliability diagram of a class, or of the chosen class.

    Args:
        predictions: Every row with its true class; rows of one subject are resampled together.
        of: A class; None for the probability of the class that was chosen.
        bins: How many at most.
        scheme: "mass" for as many rows in each bin, "width" for bins of equal width.
        sampling: How intervals are made.
    """
    probability, event = _column(predictions, of)
    index = _SCHEMES[scheme](probability, bins)
    used = np.unique(index)
    inside = (index[:, None] == used).astype(np.float64)
    shares = estimate_all(
        np.concatenate([inside * event[:, None], inside], axis=1),
        clusters_of(predictions),
        lambda sums: divide(sums[..., : len(used)], sums[..., len(used) :]),
        sampling,
        IntervalNotes("", "few have such a probability"),
    )
    return Reliability(
        of,
        tuple(
            Bin(float(values.min()), float(values.max()), len(values), float(values.mean()), share)
            for values, share in zip((probability[index == one] for one in used), shares, strict=True)
        ),
    )


def brier_parts(probabilities: Floats, targets: Integers, bins: int = 10) -> BrierParts:
    """The parts of the Brier score, summed over the classes and halved, over bins of equal mass.

    Args:
        probabilities: Shape (N, K).
        targets: True class of each row, shape (N,).
        bins: How many at most.
    """
    parts = np.zeros(4)
    for probability, event in zip(probabilities.T, _outcomes(probabilities, targets).T, strict=True):
        index = equal_mass(probability, bins)
        count = np.bincount(index)
        means, shares = (np.bincount(index, values) / count for values in (probability, event))
        overall = float(event.mean())
        away, rest = probability - means[index], event - shares[index]
        parts += np.array(
            [
                count @ (means - shares) ** 2 / len(event),
                count @ (shares - overall) ** 2 / len(event),
                overall * (1 - overall),
                float((away**2).mean() - 2 * (away * rest).mean()),
            ]
        )
    return BrierParts(*(float(part) / 2 for part in parts))


def equal_width(probability: Floats, bins: int = BINS) -> Integers:
    """The bin of each probability among bins of equal width, closed above, shape (N,)."""
    return np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], probability, side="left").astype(np.int64)


def equal_mass(probability: Floats, bins: int = BINS) -> Integers:
    """The bin of each probability among bins of as many rows; equal probabilities share one. All bins are in use."""
    wanted = int(np.clip(len(probability) // LEAST_IN_A_BIN, 1, bins))
    upper = np.sort(probability)[np.ceil(np.arange(1, wanted) * len(probability) / wanted).astype(int) - 1]
    index = np.searchsorted(np.unique(upper), probability, side="left")
    return np.unique(index, return_inverse=True)[1].astype(np.int64)


def expected_error(probability: Floats, events: Floats, index: Integers) -> Floats:
    """Expected calibration error: mean over rows of the gap of their bin (Naeini, Cooper and Hauskrecht 2015).

    Args:
        probability: Shape (N,).
        events: What came true, 1 or 0, for B outcomes of the same rows, shape (N, B).
        index: The bin of each row, shape (N,).

    Returns:
        Shape (B,).
    """
    return np.asarray(np.abs(_by_bin(probability[:, None] - events, index)).sum(axis=0) / len(probability))


def debiased_error(probability: Floats, events: Floats, index: Integers) -> Floats:
    """Root of the mean squared gap, less what the noise of the shares adds to it (Kumar, Liang and Ma 2019).

    Arguments and result are those of :func:`expected_error`; bins of a single row are left out.
    """
    count = np.bincount(index).astype(np.float64)[:, None]
    means, shares = _by_bin(probability[:, None], index) / count, _by_bin(events, index) / count
    noise = divide(shares * (1 - shares), np.broadcast_to(count - 1, shares.shape))
    squares = np.where(count > 1, (means - shares) ** 2 - noise, 0.0)
    return np.sqrt(np.maximum((count * squares).sum(axis=0) / len(probability), 0.0))


def kolmogorov_smirnov_error(probability: Floats, events: Floats) -> Floats:
    """Largest gap between the running sums of probability and of truth, without bins (Gupta et al. 2021).

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
        title: What it is called.
        compute: From a probability (N,) and what came true (N, B) to (B,).
        by_class: Whether it is the mean over the classes, instead of that of the chosen class.
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


def find_error(name: str, probabilities: Floats, targets: Integers, sampling: BootstrapConfig) -> ErrorFinding:
    """A calibration error beside that of outcomes drawn from the probabilities themselves.

    The test is the consistency resampling of Bröcker and Smith 2007, with the p-value ``(1 + b) / (1 + B)``. It takes
    rows for independent.

    Args:
        name: Of :data:`CALIBRATION_ERRORS`.
        probabilities: Shape (N, K).
        targets: True class of each row, shape (N,).
        sampling: How often outcomes are redrawn at most, and by which seed.
    """
    value = float(calibration_error(name, probabilities, targets[:, None])[0])
    if not sampling.resamples:
        return ErrorFinding(value, None, None, None)
    random = np.random.default_rng((sampling.seed, 0xCA11B))
    number = min(sampling.resamples, max(ENOUGH_DRAWS, CELLS_IN_ALL // len(probabilities)))
    step = int(np.clip(CELLS_AT_ONCE // len(probabilities), 1, 64))
    sizes = [min(step, number - start) for start in range(0, number, step)]
    drawn = [calibration_error(name, probabilities, _redraw(probabilities, size, random)) for size in sizes]
    by_chance = np.concatenate(drawn)
    extreme = int((by_chance >= value - 1e-12).sum())
    return ErrorFinding(
        value,
        float(by_chance.mean()),
        float(np.quantile(by_chance, sampling.level)),
        (1 + extreme) / (1 + number),
    )


_SCHEMES: dict[str, Callable[[Floats, int], Integers]] = {"width": equal_width, "mass": equal_mass}


def _redraw(probabilities: Floats, size: int, random: np.random.Generator) -> Integers:
    """Classes drawn from the probabilities, shape (N, size)."""
    ends = probabilities.cumsum(axis=1)[:, None, :-1]
    return np.asarray((random.random((len(probabilities), size))[..., None] > ends).sum(axis=-1), dtype=np.int64)


def _outcomes(probabilities: Floats, targets: Integers) -> Floats:
    return (targets[:, None] == np.arange(probabilities.shape[1])).astype(np.float64)


def _column(predictions: Predictions, of: str | None) -> tuple[Floats, Floats]:
    """The probability of a class, or of the chosen one, and whether it came true, shape (N,) each."""
    probabilities, targets = predictions.probabilities, predictions.targets
    chosen = predictions.predicted if of is None else np.full(len(targets), predictions.classes.index(of))
    return probabilities[np.arange(len(targets)), chosen], (targets == chosen).astype(np.float64)


def _by_bin(values: Floats, index: Integers) -> Floats:
    """Sums over the rows of each bin, (N, B) to (bins, B)."""
    inside = np.zeros((int(index.max()) + 1, len(index)))
    inside[index, np.arange(len(index))] = 1.0
    return np.asarray(inside @ values)


def _require_single(predictions: Predictions, clusters: Integers) -> None:
    if (predictions.targets < 0).any():
        raise DataError("Calibration can be measured only on rows with a true class; leave the others out.")
    if len(np.unique(clusters)) < len(clusters):
        raise DataError("A subject has several rows: pool them first (gyrus.inference.pooling.pool_by_subject).")
