"""Split conformal prediction: sets of classes that contain the true one with a chosen probability.

A threshold on a nonconformity score is taken from the validation set. For new subjects from the same distribution the
set then contains the true class with the target probability, whatever the classifier (Vovk, Gammerman and Shafer 2005;
Angelopoulos and Bates 2023). The guarantee is an average over all subjects, not one for each class.

Where a subject has several visits with labels of their own, only the subjects are exchangeable. Each subject then has
the same weight, divided equally among its visits, and the guarantee is for one visit of a new subject, drawn at random
(hierarchical conformal prediction: Lee, Barber and Willett 2023, "Distribution-free inference with hierarchical data").
With one visit each this is split conformal prediction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gyrus.errors import ConfigError, DataError
from gyrus.evaluation.bootstrap import (
    DEFAULT_BOOTSTRAP,
    BootstrapConfig,
    IntervalNotes,
    cluster_indices,
    estimate_fraction,
    estimate_mean,
)
from gyrus.evaluation.calibrators import require_validation
from gyrus.evaluation.comparison import labelled_rows
from gyrus.evaluation.result import Estimate, Unit
from gyrus.inference.decision_rule import CONFORMAL, in_conformal_set
from gyrus.inference.predictions import Predictions
from gyrus.registry import look_up
from gyrus.serialisation import Saved

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ConformalSets(Saved):
    """A fitted conformal predictor.

    Attributes:
        method: A name of :data:`CONFORMAL`.
        classes: The class names in the order of the model's outputs.
        level: Target coverage: how often the set is to contain the true class.
        limit: Classes with at most this nonconformity score are in the set; None where there were too few subjects,
            so that every set holds every class.
        unit: The unit it was fitted on: apply it to rows of the same unit.
        count: The number of rows it was fitted on; each of their subjects has the same weight.
    """

    SCHEMA = "gyrus.conformal/1"

    method: str
    classes: tuple[str, ...]
    level: float
    limit: float | None
    unit: Unit
    count: int

    def predict(self, predictions: Predictions) -> Bools:
        """Which classes are in the set of each row, shape (N, K).

        Raises:
            DataError: The classes differ.
        """
        if predictions.classes != self.classes:
            raise DataError(
                f"The conformal sets are for classes {list(self.classes)}, not {list(predictions.classes)}."
            )
        return in_conformal_set(predictions.probabilities, self.method, self.limit)


@dataclass(frozen=True)
class ConformalResult:
    """Conformal sets on the test set.

    Each subject has the same weight, divided equally among its rows, as in the guarantee.

    Attributes:
        sets: The fitted conformal predictor.
        coverage: Fraction of sets that contain the true class.
        by_class: The same by true class, for which there is no guarantee.
        size: Mean number of classes in a set.
        single: Fraction of sets with exactly one class.
        empty: Fraction of empty sets.
    """

    sets: ConformalSets
    coverage: Estimate
    by_class: Mapping[str, Estimate]
    size: Estimate
    single: Estimate
    empty: Estimate


def fit_conformal_sets(
    validation: Predictions, method: str = "lac", *, level: float = 0.9, unit: Unit | None = None
) -> ConformalSets:
    """Fit sets that are to contain the true class for a fraction ``level`` of new subjects.

    Args:
        validation: Predictions of the subset "val"; rows without a true class are left out.
        method: A name of :data:`CONFORMAL`.
        level: Target coverage, in (0, 1).
        unit: "subject" pools the images of each subject first; the default where subjects are known. Images of one
            subject are alike: by image the guarantee is for one image of a new subject, drawn at random, and only
            where subjects are known.

    Raises:
        ConfigError: The level is out of range.
        DataError: These are not validation predictions, or none has a true class.
        UnknownNameError: There is no such method.
    """
    require_validation(validation)
    if not 0 < level < 1:
        raise ConfigError(f"`level` must lie in (0, 1), got {level}. Give the target coverage, for example 0.9.")
    chosen: Unit = unit or ("subject" if validation.subjects_known else "image")
    rows = labelled_rows(validation, chosen)
    if not len(rows):
        raise DataError("No row of the validation set has a true class: conformal sets cannot be fitted.")
    scores = look_up(method, CONFORMAL, "conformal method")(rows.probabilities)[np.arange(len(rows)), rows.targets]
    limit = quantile_by_subject(scores, cluster_indices(rows), level)
    return ConformalSets(method, rows.classes, level, limit, chosen, len(rows))


def quantile_by_subject(scores: Floats, clusters: Integers, level: float) -> float | None:
    """The quantile of scores with equal weights of the subjects and of one more, whose scores are infinite.

    Args:
        scores: Shape (N,).
        clusters: The subject of each row, shape (N,).
        level: In (0, 1).

    Returns:
        The quantile; None where it is infinite, because there are too few subjects.
    """
    order = np.argsort(scores)
    reached = np.cumsum(subject_weights(clusters)[order]) / (clusters.max() + 2)
    place = int(np.searchsorted(reached, level - 1e-9))
    return float(scores[order[place]]) if place < len(scores) else None


def subject_weights(clusters: Integers) -> Floats:
    """One over the number of rows of its subject, for each row, shape (N,)."""
    return np.asarray(1 / np.bincount(clusters)[clusters])


def evaluate_conformal_sets(
    sets: ConformalSets, test: Predictions, bootstrap: BootstrapConfig = DEFAULT_BOOTSTRAP
) -> ConformalResult:
    """Evaluate conformal sets on the test set.

    Args:
        sets: The fitted conformal predictor.
        test: Rows of their unit, all with their true class; rows of one subject are resampled together.
        bootstrap: How intervals are computed.

    Raises:
        DataError: The classes differ.
    """
    inside, targets, clusters = sets.predict(test), test.targets, cluster_indices(test)
    weights = subject_weights(clusters)
    held, size = inside[np.arange(len(targets)), targets], inside.sum(axis=1)

    def fraction(hits: Bools, among: Bools, empty: str = "no rows to evaluate") -> Estimate:
        return estimate_fraction(hits, among, clusters, bootstrap, IntervalNotes(empty, f"in them {empty}"), weights)

    everyone = np.ones(len(targets), bool)
    return ConformalResult(
        sets,
        coverage=fraction(held, everyone),
        by_class={
            name: fraction(held, targets == index, f"no row of class '{name}'")
            for index, name in enumerate(test.classes)
        },
        size=estimate_mean(size, clusters, bootstrap, (0, len(test.classes)), weights),
        single=fraction(size == 1, everyone),
        empty=fraction(size == 0, everyone),
    )
