"""Sets of classes that hold the true one as often as was asked for.

Split conformal prediction: a threshold on how badly a class fits, taken from validation people, so that for new people
from the same source the set holds the true class with the wanted probability, whatever the classifier is (Vovk,
Gammerman and Shafer 2005; Angelopoulos and Bates 2023). The promise is an average over all people, not one for each
class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gyrus.errors import ConfigError, DataError
from gyrus.evaluation.calibrators import require_validation
from gyrus.evaluation.comparison import judged_rows
from gyrus.evaluation.intervals import IntervalNotes
from gyrus.evaluation.result import Estimate, Unit
from gyrus.evaluation.sampling import USUAL, BootstrapConfig, clusters_of, estimate_mean, estimate_share
from gyrus.evaluation.saving import load_value, save_value
from gyrus.inference.predictions import Predictions
from gyrus.registry import look_up

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

SCHEMA = "gyrus.conformal/1"


def lac_scores(probabilities: Floats) -> Floats:
    """Least ambiguous sets: one minus the probability of each class (Sadinle, Lei and Wasserman 2019); (N, K)."""
    return 1 - probabilities


def aps_scores(probabilities: Floats) -> Floats:
    """Adaptive sets: the probability of likelier classes and half of its own (Romano, Sesia and Candès 2020); (N, K).

    The paper adds a random share of its own in place of half, which would give one person another set each time. The
    promise holds for any share that does not look at the truth. Equally likely classes count in their order.
    """
    order = np.argsort(-probabilities, axis=1, kind="stable")
    sums = np.take_along_axis(probabilities, order, axis=1).cumsum(axis=1)
    return np.take_along_axis(sums, np.argsort(order, axis=1), axis=1) - probabilities / 2


CONFORMAL: dict[str, Callable[[Floats], Floats]] = {"lac": lac_scores, "aps": aps_scores}


@dataclass(frozen=True)
class ConformalSets:
    """A fitted way to give sets of classes.

    Attributes:
        method: A name of :data:`CONFORMAL`.
        classes: The classes it knows.
        level: How often the set is to hold the true class.
        limit: Classes that fit no worse than this are in the set; None where there were too few people, so that
            every set holds every class.
        unit: What it was fitted on: use it on rows of the same kind.
        count: On how many.
    """

    method: str
    classes: tuple[str, ...]
    level: float
    limit: float | None
    unit: Unit
    count: int

    def sets(self, predictions: Predictions) -> Bools:
        """Which classes are in the set of each row, shape (N, K).

        Raises:
            DataError: They have other classes.
        """
        if predictions.classes != self.classes:
            raise DataError(f"The sets are of classes {list(self.classes)}, not {list(predictions.classes)}.")
        scores = look_up(self.method, CONFORMAL, "conformal method")(predictions.probabilities)
        return np.ones(scores.shape, bool) if self.limit is None else np.asarray(scores <= self.limit + 1e-12)

    def save(self, path: Path) -> None:
        """Write as JSON."""
        save_value(self, path, SCHEMA)

    @classmethod
    def load(cls, path: Path) -> ConformalSets:
        """Read what :meth:`save` wrote.

        Raises:
            DataError: The file holds no sets, another version of them, or is damaged.
        """
        return load_value(cls, path, SCHEMA)


@dataclass(frozen=True)
class SetsResult:
    """How sets do on people they were not fitted on.

    Attributes:
        sets: The fitted sets.
        coverage: How often the set holds the true class.
        by_class: The same among the people of each class, of which nothing was promised.
        size: Mean number of classes in a set.
        single: Share of sets with one class: a definite answer.
        empty: Share of empty sets.
    """

    sets: ConformalSets
    coverage: Estimate
    by_class: Mapping[str, Estimate]
    size: Estimate
    single: Estimate
    empty: Estimate


def fit_sets(
    validation: Predictions, method: str = "lac", *, level: float = 0.9, unit: Unit | None = None
) -> ConformalSets:
    """Fit sets that are to hold the true class of ``level`` of all new people.

    Args:
        validation: Predictions of the part "val"; rows without a true class are left out.
        method: A name of :data:`CONFORMAL`.
        level: The wanted coverage, in (0, 1).
        unit: "subject" pools the images of each person first; by default that, where subjects are known. Images of one
            person are alike, so that by image the promise does not hold for new people.

    Raises:
        ConfigError: The level is out of range.
        DataError: These are not validation predictions, or none has a true class.
        UnknownNameError: There is no such method.
    """
    require_validation(validation)
    if not 0 < level < 1:
        raise ConfigError(f"`level` must lie in (0, 1), got {level}. Give the wanted coverage, for example 0.9.")
    chosen: Unit = unit or ("subject" if validation.subjects_known else "image")
    rows = judged_rows(validation, chosen)
    if not len(rows):
        raise DataError("No row of the validation set has a true class: there is nothing to fit sets on.")
    scores = look_up(method, CONFORMAL, "conformal method")(rows.probabilities)[np.arange(len(rows)), rows.targets]
    place = int(np.ceil(round((len(rows) + 1) * level, 9)))
    limit = float(np.sort(scores)[place - 1]) if place <= len(rows) else None
    return ConformalSets(method, rows.classes, level, limit, chosen, len(rows))


def judge_sets(sets: ConformalSets, test: Predictions, sampling: BootstrapConfig = USUAL) -> SetsResult:
    """How sets do on other people.

    Args:
        sets: The fitted sets.
        test: Rows of their unit, all with their true class; rows of one subject are resampled together.
        sampling: How intervals are made.

    Raises:
        DataError: The classes are others.
    """
    inside, targets, clusters = sets.sets(test), test.targets, clusters_of(test)
    held, size = inside[np.arange(len(targets)), targets], inside.sum(axis=1)

    def share(hits: Bools, among: Bools, nobody: str = "there is nobody") -> Estimate:
        return estimate_share(hits, among, clusters, sampling, IntervalNotes(nobody, f"in them {nobody}"))

    everybody = np.ones(len(targets), bool)
    return SetsResult(
        sets,
        coverage=share(held, everybody),
        by_class={
            name: share(held, targets == index, f"there is nobody of class '{name}'")
            for index, name in enumerate(test.classes)
        },
        size=estimate_mean(size, clusters, sampling),
        single=share(size == 1, everybody),
        empty=share(size == 0, everybody),
    )
