"""Prepare a data set for training: remove bad images and duplicates, and split the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gyrus.configuration import parse
from gyrus.curation.cleaning import CleaningPlan, Rules, plan_cleaning, write_copy, write_manifest
from gyrus.datasets.manifest import Manifest
from gyrus.datasets.splits import Split, SplitConfig
from gyrus.datasets.splits import split as split_manifest
from gyrus.errors import ConfigError
from gyrus.files import require_empty
from gyrus.transforms.preprocessing import AnyImageStep
from gyrus.workflows.display import SILENT, Display
from gyrus.workflows.experiment_config import DataConfig
from gyrus.workflows.load_data import scan_path, with_copies_together


@dataclass(frozen=True, eq=False)
class Preparation:
    """A prepared data set.

    Attributes:
        plan: The decision for every image.
        folder: The cleaned copy or the table; None after a dry run.
    """

    plan: CleaningPlan
    folder: Path | None


def prepare(
    path: str | Path,
    *,
    out: str | Path | None = None,
    rules: Rules | None = None,
    steps: Sequence[AnyImageStep] = (),
    manifest_only: bool = False,
    dry_run: bool = False,
    seed: int = 0,
    data: DataConfig | None = None,
    display: Display = SILENT,
) -> Preparation:
    """Write a cleaned copy of a data set, without bad images and duplicates, and a log of every decision.

    Args:
        path: Folder, table, Parquet file, or hf:owner/name.
        out: A new or empty folder; not needed for a dry run.
        rules: Rules by which images are removed.
        steps: Preprocessing steps, applied to every image of the copy.
        manifest_only: Write a table of the kept images only, which stay where they are.
        dry_run: Decide, but write nothing.
        seed: Seed of the search for duplicates.
        data: How to read the data.
        display: Where progress is shown.

    Raises:
        ConfigError: ``out`` is missing or not empty, or ``steps`` and ``manifest_only`` are both given.
        DataError: The data cannot be read or are not slices, or no image of a class would remain.
        GyrusError: The folder cannot be written to.
    """
    if manifest_only and steps:
        raise ConfigError("--step changes pixels, but --manifest-only writes no images. Give only one of them.")
    if out is None and not dry_run:
        raise ConfigError("Name a new folder with --out, or list the decisions with --dry-run.")
    if out is not None and not dry_run:
        require_empty(Path(out), "Nothing is overwritten; give a new folder with --out.", error=ConfigError)

    manifest = scan_path(path, data, display, on_bad_file="skip")
    with display.progress("Measuring images") as progress:
        plan = plan_cleaning(manifest, rules, seed=seed, progress=progress)
    if dry_run or out is None:
        return Preparation(plan, None)
    if manifest_only:
        return Preparation(plan, write_manifest(plan, Path(out)))
    with display.progress("Writing images") as progress:
        return Preparation(plan, write_copy(plan, Path(out), steps=steps, progress=progress))


def write_split(
    path: str | Path,
    out: str | Path,
    *,
    split: SplitConfig | Mapping[str, Any] | None = None,
    seed: int = 0,
    data: DataConfig | None = None,
    display: Display = SILENT,
) -> tuple[Manifest, Split]:
    """Split a data set and save the split.

    Args:
        path: Folder, table, Parquet file, or hf:owner/name.
        out: The split file, JSON.
        split: How to split: a config, or its fields.
        seed: Seed of the split.
        data: How to read the data.
        display: Where progress is shown.

    Raises:
        ConfigError: A field of the split has a value that is not allowed.
        BadFilesError: The data contain unusable files.
        DataError: The data cannot be read or split.
    """
    config = split if isinstance(split, SplitConfig) else parse(SplitConfig, split or {}, where="The split")
    manifest = with_copies_together(scan_path(path, data, display), config, display)
    result = split_manifest(manifest, config, seed=seed)
    result.save(Path(out))
    return manifest, result
