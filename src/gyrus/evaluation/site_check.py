"""Whether the site can be read from columns of a table, before and after they are harmonised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from gyrus.datasets.combat import site_probabilities
from gyrus.datasets.table_features import Harmonisation
from gyrus.evaluation.evaluate import evaluate
from gyrus.evaluation.result import Estimate
from gyrus.inference.predictions import Predictions
from gyrus.serialisation import Saved
from gyrus.text import listed

Floats = npt.NDArray[np.float64]

LEAST_PROBABILITY = 1e-12


@dataclass(frozen=True)
class SiteCheck(Saved):
    """How well a logistic regression reads the site of subjects from columns.

    Attributes:
        text_of_columns: What was harmonised, in words.
        kept: Columns whose effect was kept, and removed for this check.
        count: The number of subjects.
        subjects: Whether the fit of the harmonisation has seen them.
        before: Cross-validated macro ROC AUC of the columns as they are; 0.5: the site cannot be read.
        after: That of the harmonised columns.
        level: Confidence level.
    """

    SCHEMA: ClassVar[str] = "gyrus.site-check/1"

    text_of_columns: str
    kept: tuple[str, ...]
    count: int
    subjects: Literal["held out", "training"]
    before: Estimate
    after: Estimate
    level: float

    def text(self) -> str:
        """The result in sentences."""
        where = "outside the training set" if self.subjects == "held out" else "of the training set"
        beyond = f", beyond {listed(self.kept)}" if self.kept else ""
        return (
            f"ComBat on {self.text_of_columns}, fitted on the training set. {self._verdict()} from these "
            f"columns{beyond}: ROC AUC {self.after.text(2)} after harmonisation, {self.before.text(2)} before "
            f"({self.count} subjects {where}; 0.5 or less if it cannot be read)."
        )

    def _verdict(self) -> str:
        if self.after.low is None or self.before.low is None:
            return "Whether the site can be read is not known"
        if self.after.low > 0.5:
            return "The site can still be read"
        if self.before.low > 0.5:
            return "The site is no longer shown to be readable"
        return "It was not shown that the site can be read"


def check_site(
    harmonisation: Harmonisation,
    values: Floats,
    sites: Sequence[str],
    covariates: Floats,
    *,
    subjects: Literal["held out", "training"],
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> SiteCheck:
    """Read the site from columns with and without harmonisation; the effect of kept columns is removed before.

    Args:
        harmonisation: As fitted on the training set.
        values: The columns of N subjects (N, F), without missing values.
        sites: Their sites.
        covariates: Their kept features (N, P).
        subjects: Whether the fit has seen them.
        resamples: Bootstrap resamples of the subjects.
        seed: Seed of folds and resamples.
        level: Confidence level.

    Raises:
        DataError: There is one site only, or a site has one subject.
    """
    combat = harmonisation.combat
    kept = covariates @ np.asarray(combat.coefficients).reshape(covariates.shape[1], values.shape[1])

    def area(features: Floats) -> Estimate:
        names, codes, chances = site_probabilities(features - kept, sites, seed=seed)
        people = [f"{number}" for number in range(len(codes))]
        found = Predictions.from_logits(
            people,
            np.log(np.maximum(chances, LEAST_PROBABILITY)),
            classes=names,
            split_unit="subject",
            subset="test",
            targets=[names[code] for code in codes],
            subjects=people,
        )
        scores = evaluate(found, resamples=resamples, seed=seed, level=level).headline
        return scores.metrics["macro_roc_auc"]

    return SiteCheck(
        harmonisation.text,
        tuple(column.name for column in harmonisation.kept),
        len(values),
        subjects,
        area(values),
        area(combat.apply(values, sites, covariates)),
        level,
    )
