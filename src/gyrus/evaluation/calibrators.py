"""Recalibration: temperature, Platt and vector scaling and isotonic regression, fitted on the validation set.

A map fitted on the test set would make only the test set look calibrated, so only predictions of the subset "val" are
accepted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import scipy  # loads its submodules on first use

from gyrus.errors import DataError
from gyrus.evaluation.bootstrap import cluster_indices
from gyrus.evaluation.comparison import labelled_rows
from gyrus.evaluation.result import Unit, subset_name
from gyrus.inference.decision_rule import CALIBRATIONS, Parameters, against_rest, normalised
from gyrus.inference.predictions import LOGIT, Predictions
from gyrus.registry import look_up
from gyrus.serialisation import Saved
from gyrus.text import counted

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
LEAST_OF_A_CLASS = 2
"""With fewer subjects of a class than this in the validation set nothing is fitted."""

FEW_FOR_ISOTONIC = 200
"""Below this number, isotonic regression follows single subjects (Niculescu-Mizil and Caruana 2005: 1,000 suffice)."""

TEMPERATURES = (0.05, 20.0)
"""Range of the temperature: without errors on the validation set it would go to 0, and all probabilities to 0 or 1."""

PRIOR_SPREAD = 2.0
"""Standard deviation of the normal prior of the factors (about 1) and offsets (about 0) of vector scaling, which keeps
them finite if a small validation set is classified without errors."""


@dataclass(frozen=True)
class Calibrator(Saved):
    """A fitted map from logits to calibrated ones.

    Attributes:
        kind: A name of :data:`CALIBRATORS`.
        classes: The classes in the order of the logits.
        unit: The unit it was fitted on: apply it to rows of the same unit.
        count: The number of rows it was fitted on.
        parameters: The fitted parameters.
        notes: Limitations of the fit.
    """

    SCHEMA = "gyrus.calibrator/1"

    kind: str
    classes: tuple[str, ...]
    unit: Unit
    count: int
    parameters: Parameters
    notes: tuple[str, ...] = ()

    def apply(self, predictions: Predictions) -> Predictions:
        """The same predictions with calibrated logits, whose softmax is the calibrated probability.

        Raises:
            DataError: The classes differ.
        """
        if predictions.classes != self.classes:
            raise DataError(f"The calibration is for classes {list(self.classes)}, not {list(predictions.classes)}.")
        kind = look_up(self.kind, CALIBRATORS, "calibration")
        values = kind.apply(normalised(predictions.logits), self.parameters)
        columns = {LOGIT + name: values[:, index] for index, name in enumerate(self.classes)}
        return replace(predictions, table=predictions.table.assign(**columns))


def fit_calibrator(validation: Predictions, kind: str = "temperature", *, unit: Unit | None = None) -> Calibrator:
    """Fit a map from logits to calibrated ones.

    Args:
        validation: Predictions of the subset "val"; rows without a true class are left out.
        kind: A name of :data:`CALIBRATORS`.
        unit: "subject" pools the images of each subject first; the default where subjects are known.

    Raises:
        DataError: They are not of the validation set, or hold fewer than two subjects of a class.
        UnknownNameError: There is no such kind.
    """
    require_validation(validation)
    chosen: Unit = unit or ("subject" if validation.subjects_known else "image")
    rows = labelled_rows(validation, chosen)
    clusters = cluster_indices(rows)
    independent = "subject" if rows.subjects_known else "image"
    counts = [len(np.unique(clusters[rows.targets == index])) for index in range(len(rows.classes))]
    few = {name: count for name, count in zip(rows.classes, counts, strict=True) if count < LEAST_OF_A_CLASS}
    if few:
        numbers = ", ".join(f"{count} of '{name}'" for name, count in few.items())
        raise DataError(
            f"The validation set has {numbers}; calibration needs at least {LEAST_OF_A_CLASS} {independent}s of each "
            "class."
        )
    parameters = look_up(kind, CALIBRATORS, "calibration").fit(normalised(rows.logits), rows.targets)
    notes = _notes(kind, parameters, len(np.unique(clusters)), independent)
    return Calibrator(kind, rows.classes, chosen, len(rows), parameters, notes)


def require_validation(predictions: Predictions) -> None:
    """Raise DataError for predictions of any other subset than the validation set."""
    if predictions.subset != "val":
        raise DataError(
            f"These are predictions of the {subset_name(predictions.subset)}. Calibration, thresholds and conformal "
            "sets are fitted on the validation set only: fitted on the test set they would look better than they are."
        )


@dataclass(frozen=True)
class CalibratorKind:
    """How a map is fitted, from logits (N, K) and classes (N,), and applied, from logits to logits (N, K).

    The logits are logarithms of probabilities: adding a constant to all logits of a row changes nothing.
    """

    title: str
    fit: Callable[[Floats, Integers], Parameters]
    apply: Callable[[Floats, Parameters], Floats]


def fit_temperature(logits: Floats, targets: Integers) -> Parameters:
    """One number that divides all logits; the predicted class does not change (Guo et al. 2017)."""

    def loss(logarithm: float) -> float:
        return _log_loss(logits / np.exp(logarithm), targets)

    found = scipy.optimize.minimize_scalar(
        loss, bounds=(float(np.log(TEMPERATURES[0])), float(np.log(TEMPERATURES[1]))), method="bounded",
        options={"xatol": 1e-9},
    )  # fmt: skip
    return {"temperature": ((float(np.exp(found.x)),),)}


def fit_platt(logits: Floats, targets: Integers) -> Parameters:
    """A logistic curve of each class against the rest, with Platt's targets inside (0, 1) (Platt 1999)."""
    scores = against_rest(logits)
    fitted = [_logistic(scores[:, index], targets == index) for index in range(logits.shape[1])]
    return {"slope": tuple((slope,) for slope, _ in fitted), "offset": tuple((offset,) for _, offset in fitted)}


def fit_isotonic(logits: Floats, targets: Integers) -> Parameters:
    """An increasing step function of each class against the rest (Zadrozny and Elkan 2002).

    Probabilities stay within ``1 / (n + 2)`` of 0 and 1, the limit that n subjects support (rule of succession).
    """
    from sklearn.isotonic import IsotonicRegression

    probabilities, least = scipy.special.softmax(logits, axis=1), 1 / (len(targets) + 2)
    knots = []
    for index in range(logits.shape[1]):
        curve = IsotonicRegression(y_min=least, y_max=1 - least, out_of_bounds="clip")
        curve.fit(probabilities[:, index], (targets == index).astype(np.float64))
        knots.append((curve.X_thresholds_, curve.y_thresholds_))
    return {
        "probability": tuple(tuple(map(float, x)) for x, _ in knots),
        "calibrated": tuple(tuple(map(float, y)) for _, y in knots),
    }


def fit_vector(logits: Floats, targets: Integers) -> Parameters:
    """A factor and an offset of the logit of each class (Guo et al. 2017), see :data:`PRIOR_SPREAD`."""
    classes, ridge = logits.shape[1], 1 / (2 * PRIOR_SPREAD**2 * len(targets))
    outcomes = (targets[:, None] == np.arange(classes)).astype(np.float64)

    def loss(values: Floats) -> tuple[float, Floats]:
        scale, offset = values[:classes], values[classes:]
        scaled = logits * scale + offset
        gap = (scipy.special.softmax(scaled, axis=1) - outcomes) / len(targets)
        slope = np.concatenate([(gap * logits).sum(axis=0), gap.sum(axis=0)])
        away = values - start
        return _log_loss(scaled, targets) + ridge * float(away @ away), slope + 2 * ridge * away

    start = np.concatenate([np.ones(classes), np.zeros(classes)])
    found = scipy.optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 2000, "gtol": 1e-9})
    return {
        "scale": tuple((float(value),) for value in found.x[:classes]),
        "offset": tuple((float(value),) for value in found.x[classes:]),
    }


CALIBRATORS: dict[str, CalibratorKind] = {
    "temperature": CalibratorKind("Temperature scaling", fit_temperature, CALIBRATIONS["temperature"]),
    "platt": CalibratorKind("Platt scaling", fit_platt, CALIBRATIONS["platt"]),
    "isotonic": CalibratorKind("Isotonic regression", fit_isotonic, CALIBRATIONS["isotonic"]),
    "vector": CalibratorKind("Vector scaling", fit_vector, CALIBRATIONS["vector"]),
}


def _log_loss(logits: Floats, targets: Integers) -> float:
    chosen = logits[np.arange(len(targets)), targets]
    return float((scipy.special.logsumexp(logits, axis=1) - chosen).mean())


def _logistic(scores: Floats, events: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and offset of Platt's sigmoid."""
    positives, negatives = int(events.sum()), int((~events).sum())
    goals = np.where(events, (positives + 1) / (positives + 2), 1 / (negatives + 2))

    def loss(values: Floats) -> tuple[float, Floats]:
        straight = values[0] * scores + values[1]
        gap = scipy.special.expit(straight) - goals
        return float((np.logaddexp(0, straight) - goals * straight).sum()), np.array([gap @ scores, gap.sum()])

    start = np.array([0.0, np.log((positives + 1) / (negatives + 1))])
    found = scipy.optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 2000, "gtol": 1e-9})
    return float(found.x[0]), float(found.x[1])


def _notes(kind: str, parameters: Parameters, count: int, independent: str) -> tuple[str, ...]:
    if kind == "isotonic" and count < FEW_FOR_ISOTONIC:
        return (
            f"Isotonic regression on {counted(count, independent)} follows single {independent}s: prefer temperature "
            "or Platt scaling.",
        )
    if kind == "temperature" and not 1.01 * TEMPERATURES[0] < parameters["temperature"][0][0] < TEMPERATURES[1] / 1.01:
        return ("The validation set does not determine the temperature: it stopped at the edge of its range.",)
    return ()
