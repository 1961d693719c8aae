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

CheckedSubjects = Literal["held out", "training", "out-of-fold"]


@dataclass(frozen=True)
class HarmonisedSubjects:
    """Subjects and the harmonisation that is checked on them.

    Attributes:
        harmonisation: As fitted on a training set.
        values: The columns of N subjects (N, F), without missing values.
        sites: Their sites.
        covariates: Their kept features (N, P).
    """

    harmonisation: Harmonisation
    values: Floats
    sites: Sequence[str]
    covariates: Floats

    def without_kept(self) -> tuple[Floats, Floats]:
        """The columns (N, F) before and after harmonisation, without the effect of kept columns."""
        combat = self.harmonisation.combat
        shape = self.covariates.shape[1], self.values.shape[1]
        kept = self.covariates @ np.asarray(combat.coefficients).reshape(shape)
        return self.values - kept, combat.apply(self.values, self.sites, self.covariates) - kept


@dataclass(frozen=True)
class SiteCheck(Saved):
    """How well a logistic regression reads the site of subjects from columns.

    Attributes:
        text_of_columns: What was harmonised, in words.
        kept: Columns whose effect was kept, and removed for this check.
        count: The number of subjects.
        subjects: Whether the fit of the harmonisation has seen them; "out-of-fold": the harmonisation of each fold on
            the subjects of its test set, over all folds.
        before: Cross-validated macro ROC AUC of the columns as they are; 0.5: the site cannot be read.
        after: That of the harmonised columns.
        level: Confidence level.
    """

    SCHEMA: ClassVar[str] = "gyrus.site-check/1"

    text_of_columns: str
    kept: tuple[str, ...]
    count: int
    subjects: CheckedSubjects
    before: Estimate
    after: Estimate
    level: float

    def text(self) -> str:
        """The result in sentences."""
        where = {
            "held out": "outside the training set",
            "training": "of the training set",
            "out-of-fold": "each outside the training set of its fold",
        }[self.subjects]
        of_folds = " of each fold" if self.subjects == "out-of-fold" else ""
        beyond = f", beyond {listed(self.kept)}" if self.kept else ""
        return (
            f"ComBat on {self.text_of_columns}, fitted on the training set{of_folds}. {self._verdict()} from these "
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
    parts: Sequence[HarmonisedSubjects],
    *,
    subjects: CheckedSubjects,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> SiteCheck:
    """Read the site from columns with and without harmonisation; the effect of kept columns is removed before.

    Args:
        parts: The subjects of one harmonisation, or of that of each fold.
        subjects: Whether the fit has seen them.
        resamples: Bootstrap resamples of the subjects.
        seed: Seed of folds and resamples.
        level: Confidence level.

    Raises:
        DataError: There is one site only, or a site has one subject.
    """
    first = parts[0].harmonisation
    both = [part.without_kept() for part in parts]
    before, after = (np.concatenate([each[place] for each in both]) for place in (0, 1))
    sites = [site for part in parts for site in part.sites]

    def area(features: Floats) -> Estimate:
        names, codes, chances = site_probabilities(features, sites, seed=seed)
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
        scores = evaluate(found, resamples=resamples, seed=seed, level=level, unit="subject").headline
        return scores.metrics["macro_roc_auc"]

    return SiteCheck(
        first.text,
        tuple(column.name for column in first.kept),
        len(before),
        subjects,
        area(before),
        area(after),
        level,
    )
