"""Harmonised columns of a run: refuse before training what cannot be harmonised, and check the site afterwards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np

from gyrus.datasets.combat import LEAST_OF_A_SITE
from gyrus.datasets.identifiers import comparable
from gyrus.datasets.manifest import Manifest
from gyrus.datasets.splits import Split
from gyrus.datasets.table_features import Harmonisation, first_of_each
from gyrus.evaluation.site_check import SiteCheck, check_site
from gyrus.runs.run_folder import Run
from gyrus.workflows.classical import fit_encoder
from gyrus.workflows.experiment_config import ExperimentConfig


def require_harmonisable(manifest: Manifest, split: Split, settings: ExperimentConfig) -> None:
    """Refuse, before training, columns that cannot be harmonised in every subset; nothing without ``data.harmonise``.

    Raises:
        ConfigError: There is no such column.
        DataError: A site is missing or has no training subjects, or a cell is not what its column holds.
    """
    if settings.data.harmonise:
        fit_encoder(manifest, split, settings).encode(manifest.table, unknown="missing")


def check_sites(run: Run, manifest: Manifest, split: Split, settings: ExperimentConfig) -> SiteCheck | None:
    """Check whether the site can still be read from harmonised columns; writes ``site_check.json``.

    Subjects outside the training set are used if every site has two of them, else those of the training set.

    Returns:
        None without ``data.harmonise``.
    """
    harmonisation = fit_encoder(manifest, split, settings).harmonisation if settings.data.harmonise else None
    if harmonisation is None:
        return None
    held_out = [*split.samples["val"], *split.samples["test"]]
    found = _site_check(harmonisation, manifest, held_out, "held out", settings)
    found = found or _site_check(harmonisation, manifest, split.samples["train"], "training", settings)
    if found:
        found.save(run.site_check)
    return found


def _site_check(
    harmonisation: Harmonisation,
    manifest: Manifest,
    samples: Sequence[str],
    subjects: Literal["held out", "training"],
    settings: ExperimentConfig,
) -> SiteCheck | None:
    """The check on some samples; None if there is one site, or a site has fewer than two subjects with all cells."""
    chosen = manifest.select(samples)
    table = first_of_each(chosen.table, chosen.scored_units[0].tolist())
    values, sites, covariates = harmonisation.features(table)
    whole = np.asarray(np.isfinite(values).all(axis=1))
    kept = [site for site, use in zip(sites, whole, strict=True) if use]
    counts = Counter(map(comparable, kept))
    if len(counts) < 2 or min(counts.values()) < LEAST_OF_A_SITE:
        return None
    return check_site(
        harmonisation,
        values[whole],
        kept,
        covariates[whole],
        subjects=subjects,
        resamples=settings.evaluation.resamples,
        seed=settings.seed,
        level=settings.evaluation.level,
    )
