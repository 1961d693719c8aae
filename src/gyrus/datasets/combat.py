"""ComBat: remove the shift and scale of sites from features, fitted on training subjects and applied to new ones.

Johnson, Li and Rabinovic 2007, "Adjusting batch effects in microarray expression data using empirical Bayes methods",
Biostatistics 8(1), with parametric priors; for volumes of brain MRI Fortin et al. 2018, NeuroImage 167. Each feature is
modelled as a linear function of covariates plus a shift and a scale of its site. Shifts and scales of all features of a
site are drawn towards their common mean, so that sites of few subjects get moderate corrections.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from gyrus.datasets.identifiers import comparable
from gyrus.datasets.inner_folds import inner_folds
from gyrus.errors import DataError
from gyrus.serialisation import Saved
from gyrus.text import counted, listed

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

LEAST_OF_A_SITE = 2
"""A variance needs two subjects."""

CHANGE = 1e-6
MOST_STEPS = 10_000
"""The estimates of a site are iterated until none changes by more than this fraction."""


@dataclass(frozen=True)
class ComBat(Saved):
    """Shift and scale of each site, for F features and P covariates.

    Attributes:
        features: Names of the features, (F,).
        sites: Names of the S sites.
        covariates: Names of the covariates whose association with the features is kept, (P,).
        mean: Mean of each feature over sites, weighted by their subjects, where covariates are 0, (F,).
        coefficients: Of the covariates, (P, F).
        scale: Standard deviation of the residuals of each feature, (F,).
        shift: Shift of each site in these standard deviations, (S, F).
        spread: Scale of each site, as a factor, (S, F).
    """

    SCHEMA: ClassVar[str] = "gyrus.combat/1"

    features: tuple[str, ...]
    sites: tuple[str, ...]
    covariates: tuple[str, ...]
    mean: tuple[float, ...]
    coefficients: tuple[tuple[float, ...], ...]
    scale: tuple[float, ...]
    shift: tuple[tuple[float, ...], ...]
    spread: tuple[tuple[float, ...], ...]

    @classmethod
    def fit(
        cls,
        features: npt.ArrayLike,
        sites: Sequence[str],
        covariates: npt.ArrayLike | None = None,
        *,
        names: Sequence[str] = (),
        covariate_names: Sequence[str] = (),
    ) -> ComBat:
        """Fit on training subjects.

        Args:
            features: (N, F), without missing values.
            sites: The site of each subject, (N,); upper and lower case do not matter.
            covariates: Numbers and indicators whose association with the features is kept, (N, P). They must be known
                of new subjects too, so the class to predict is none of them.
            names: Names of the features; by default their numbers.
            covariate_names: Names of the covariates.

        Raises:
            DataError: There is only one site, a site has one subject, a value is missing, or the covariates cannot be
                told from the sites.
        """
        values = np.asarray(features, dtype=np.float64)
        kept = _matrix(covariates, len(values))
        _require_finite(values, kept)
        known, codes, counts = _sites(sites, len(values))
        indicators = np.eye(len(known))[codes]
        design = np.column_stack([indicators, kept])
        if np.linalg.matrix_rank(design) < design.shape[1]:
            raise DataError(
                "ComBat cannot tell the covariates from the sites: a covariate is constant, depends on others, or each "
                "of its values occurs at one site only. Keep fewer covariates."
            )
        estimates = np.asarray(np.linalg.lstsq(design, values, rcond=None)[0], dtype=np.float64)
        mean = (counts / counts.sum()) @ estimates[: len(known)]
        coefficients = estimates[len(known) :]
        scale = np.sqrt(((values - design @ estimates) ** 2).mean(axis=0))
        # A feature that sites and covariates explain wholly has no spread to correct.
        scale = np.where(scale > 1e-10 * np.maximum(np.abs(values).max(axis=0), 1e-300), scale, 1.0)
        standardised = (values - mean - kept @ coefficients) / scale
        both = [_posterior(standardised[codes == site]) for site in range(len(known))]
        return cls(
            features=tuple(names) or tuple(f"feature {number}" for number in range(values.shape[1])),
            sites=known,
            covariates=tuple(covariate_names) or tuple(f"covariate {number}" for number in range(kept.shape[1])),
            mean=tuple(map(float, mean)),
            coefficients=_rows(coefficients),
            scale=tuple(map(float, scale)),
            shift=_rows(np.array([shift for shift, _ in both])),
            spread=_rows(np.array([spread for _, spread in both])),
        )

    def apply(self, features: npt.ArrayLike, sites: Sequence[str], covariates: npt.ArrayLike | None = None) -> Floats:
        """The harmonised features of training subjects or of new ones of the same sites, (N, F).

        Args:
            features: (N, F), without missing values.
            sites: The site of each subject, (N,).
            covariates: As in :meth:`fit`, (N, P).

        Raises:
            DataError: A site is unknown, a value is missing, or the numbers of columns differ from those of the fit.
        """
        values = np.asarray(features, dtype=np.float64)
        kept = _matrix(covariates, len(values))
        found = (values.shape[1:], kept.shape[1], len(sites))
        if found != ((len(self.features),), len(self.covariates), len(values)):
            raise DataError(
                f"ComBat was fitted on {counted(len(self.features), 'feature')} and "
                f"{counted(len(self.covariates), 'covariate')}; got features of shape {values.shape}, covariates of "
                f"shape {kept.shape} and {counted(len(sites), 'site')}."
            )
        _require_finite(values, kept)
        position = {comparable(site): number for number, site in enumerate(self.sites)}
        strangers = [site for site in sites if comparable(str(site)) not in position]
        if strangers:
            raise DataError(
                f"{counted(len(strangers), 'subject is', 'subjects are')} of a site without training subjects, first: "
                f"'{strangers[0]}'. Its shift and scale are unknown, so its features cannot be harmonised. Known "
                f"sites: {listed(self.sites)}. Fit again with subjects of this site, or do not harmonise."
            )
        codes = np.array([position[comparable(str(site))] for site in sites], dtype=np.int64)
        common = np.asarray(self.mean) + kept @ np.asarray(self.coefficients).reshape(kept.shape[1], len(self.features))
        standardised = (values - common) / np.asarray(self.scale)
        corrected = (standardised - np.asarray(self.shift)[codes]) / np.asarray(self.spread)[codes]
        return common + corrected * np.asarray(self.scale)


def site_auc(features: npt.ArrayLike, sites: Sequence[str], *, seed: int = 0) -> float:
    """How well the site can be read from features: 0.5 if it cannot, 1 if always.

    Cross-validated: macro ROC AUC, each site against the others, of a logistic regression on standardised features.

    Args:
        features: (N, F), one row per subject.
        sites: The site of each subject, (N,).
        seed: Seed of the folds.

    Raises:
        DataError: There is only one site, or a site has one subject.
    """
    from sklearn.metrics import roc_auc_score

    known, codes, chances = site_probabilities(features, sites, seed=seed)
    areas = [roc_auc_score(codes == site, chances[:, site]) for site in range(len(known))]
    return float(np.mean(areas))


def site_probabilities(
    features: npt.ArrayLike, sites: Sequence[str], *, seed: int = 0
) -> tuple[tuple[str, ...], Integers, Floats]:
    """Read the site of each subject from features, by a model that was fitted on other subjects; as :func:`site_auc`.

    Returns:
        The S sites, the site of each subject (N,), and the probability of each site (N, S).
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    values = np.asarray(features, dtype=np.float64)
    known, codes, _ = _sites(sites, len(values))
    chances = np.zeros((len(values), len(known)))
    for train, held_out in inner_folds(codes, list(range(len(values))), seed):
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000)).fit(values[train], codes[train])
        chances[np.ix_(held_out, model.classes_)] = model.predict_proba(values[held_out])
    return known, codes, chances


def _posterior(values: Floats) -> tuple[Floats, Floats]:
    """Shift (F,) and scale (F,) of one site from its standardised values (n, F), by empirical Bayes.

    Notation of Johnson et al.: gamma ~ N(mean, tau^2), delta^2 ~ inverse gamma(shape, rate) over the features.
    """
    count, shift, variance = len(values), values.mean(axis=0), values.var(axis=0, ddof=1)
    if values.shape[1] < 2 or np.ptp(variance) == 0:  # one feature has no prior
        return shift, np.sqrt(np.where(variance > 0, variance, 1.0))
    prior_mean, prior_variance = shift.mean(), shift.var(ddof=1)
    average, spread = variance.mean(), variance.var(ddof=1)
    shape = (2 * spread + average**2) / spread
    rate = (average * spread + average**3) / spread
    gamma, delta = shift, np.where(variance > 0, variance, average)
    for _ in range(MOST_STEPS):
        new_gamma = (count * prior_variance * shift + delta * prior_mean) / (count * prior_variance + delta)
        squares = ((values - new_gamma) ** 2).sum(axis=0)
        new_delta = (0.5 * squares + rate) / (count / 2 + shape - 1)
        change = max(
            float(np.max(np.abs(new_gamma - gamma) / np.maximum(np.abs(gamma), 1e-12))),
            float(np.max(np.abs(new_delta - delta) / delta)),
        )
        gamma, delta = new_gamma, new_delta
        if change < CHANGE:
            break
    return gamma, np.sqrt(delta)


def _sites(sites: Sequence[str], count: int) -> tuple[tuple[str, ...], Integers, Floats]:
    """Names of the sites in order, the site of each subject, and the number of subjects of each."""
    if len(sites) != count:
        raise DataError(f"There are {count} subjects and {len(sites)} sites.")
    spellings: dict[str, str] = {}
    for site in sites:
        spellings.setdefault(comparable(str(site)), str(site))
    known = sorted(spellings, key=lambda key: spellings[key])
    codes = np.array([known.index(comparable(str(site))) for site in sites], dtype=np.int64)
    counts = np.bincount(codes, minlength=len(known)).astype(np.float64)
    if len(known) < 2:
        raise DataError("Harmonisation needs at least two sites.")
    few = [spellings[key] for key, number in zip(known, counts, strict=True) if number < LEAST_OF_A_SITE]
    if few:
        raise DataError(
            f"Each site needs at least {LEAST_OF_A_SITE} training subjects; {listed(few)} has one. Merge or leave out "
            "such sites."
        )
    return tuple(spellings[key] for key in known), codes, counts


def _matrix(covariates: npt.ArrayLike | None, count: int) -> Floats:
    kept = np.empty((count, 0)) if covariates is None else np.asarray(covariates, dtype=np.float64)
    return kept[:, None] if kept.ndim == 1 else kept


def _require_finite(*tables: Floats) -> None:
    if not all(np.isfinite(table).all() for table in tables):
        raise DataError("ComBat needs features and covariates without missing values. Fill or leave out these rows.")


def _rows(values: Floats) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(map(float, row)) for row in values)
