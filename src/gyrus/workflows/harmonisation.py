"""Harmonised columns of a run: refuse before training what cannot be harmonised, and check the site afterwards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from gyrus.datasets.combat import LEAST_OF_A_SITE
from gyrus.datasets.identifiers import comparable
from gyrus.datasets.manifest import Manifest
from gyrus.datasets.splits import Split
from gyrus.datasets.table_features import Harmonisation, first_of_each
from gyrus.evaluation.site_check import CheckedSubjects, HarmonisedSubjects, SiteCheck, check_site
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
    found = _checked(run, [_subjects(harmonisation, manifest, held_out)], "held out", settings)
    if found:
        return found
    return _checked(run, [_subjects(harmonisation, manifest, split.samples["train"])], "training", settings)


def check_sites_of_folds(
    folder: Run, manifest: Manifest, splits: Sequence[Split], settings: ExperimentConfig
) -> SiteCheck | None:
    """The same for a cross-validation: each subject by the harmonisation of the fold that has not seen it.

    Args:
        folder: Of the cross-validation; receives ``site_check.json``.
        manifest: The data.
        splits: Of each fold.
        settings: The config.

    Returns:
        None without ``data.harmonise``, or if a site has fewer than two subjects with all cells.
    """
    parts = []
    for split in splits if settings.data.harmonise else ():
        harmonisation = fit_encoder(manifest, split, settings).harmonisation
        assert harmonisation is not None
        parts.append(_subjects(harmonisation, manifest, split.samples["test"]))
    return _checked(folder, parts, "out-of-fold", settings)


def _subjects(harmonisation: Harmonisation, manifest: Manifest, samples: Sequence[str]) -> HarmonisedSubjects:
    """The subjects of some samples that lack no cell."""
    chosen = manifest.select(samples)
    table = first_of_each(chosen.table, chosen.scored_units[0].tolist())
    values, sites, covariates = harmonisation.features(table)
    whole = np.asarray(np.isfinite(values).all(axis=1))
    kept = [site for site, use in zip(sites, whole, strict=True) if use]
    return HarmonisedSubjects(harmonisation, values[whole], kept, covariates[whole])


def _checked(
    run: Run, parts: Sequence[HarmonisedSubjects], subjects: CheckedSubjects, settings: ExperimentConfig
) -> SiteCheck | None:
    """The check, saved; None if there is one site, or a site has fewer than two subjects."""
    counts = Counter(comparable(site) for part in parts for site in part.sites)
    if len(counts) < 2 or min(counts.values()) < LEAST_OF_A_SITE:
        return None
    found = check_site(
        parts,
        subjects=subjects,
        resamples=settings.evaluation.resamples,
        seed=settings.seed,
        level=settings.evaluation.level,
    )
    found.save(run.site_check)
    return found
