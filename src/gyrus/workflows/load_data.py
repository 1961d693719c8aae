"""The data of an experiment: scanned, stacked, and looked at."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gyrus.audit.subjects_from_pixels import with_inferred_subjects
from gyrus.datasets.manifest import VOLUME_FILES, Manifest
from gyrus.datasets.neighbouring_slices import with_neighbours
from gyrus.datasets.reader import Reader
from gyrus.datasets.scan import scan
from gyrus.datasets.slice_stacks import stack
from gyrus.datasets.volume_slices import slice_volumes
from gyrus.errors import ConfigError
from gyrus.workflows.display import SILENT, Display
from gyrus.workflows.experiment_config import DataConfig, ExperimentConfig, load_config

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def scan_data(config: DataConfig, display: Display) -> Manifest:
    """The manifest of the labelled data that a config names.

    Raises:
        ConfigError: No data are named.
        DataError: They cannot be read, or hold files that cannot be used.
    """
    if config.path is None:
        raise ConfigError("No data: name a folder, a table or hf:owner/name with --data, or as data.path.")
    with display.progress("Reading files") as progress:
        manifest = scan(
            config.path,
            source=config.source,
            subject_rule=config.subject_rule,
            subject_pattern=config.subject_pattern,
            classes=config.classes,
            columns=config.columns,
            bids=config.bids,
            orientation=config.orientation,
            spacing=config.spacing,
            progress=progress,
        )
    if config.merge:
        manifest = manifest.merge(config.merge)
    if config.subjects == "inferred":
        with display.progress("Finding people") as progress:
            manifest = with_inferred_subjects(manifest, progress=progress)
    return usable(manifest, config, display)


def usable(manifest: Manifest, config: DataConfig, display: Display) -> Manifest:
    """Stack or slice where that is asked for, and stop at or leave out what cannot be used."""
    if config.stack:
        manifest = stack(manifest, config.stack)
    if config.slices:
        in_files = VOLUME_FILES not in manifest.table
        manifest = (with_neighbours if in_files else slice_volumes)(manifest, config.slices)
    for note in manifest.notes:
        display.say(f"Note: {note}.")
    if config.on_bad_file == "fail":
        manifest.require_clean()
    for problem in manifest.problems:
        display.say(f"Left out: {problem}")
    return manifest


def preview_augmentation(
    data: str | Path, config: ExperimentConfig | str | Path | None = None, *, images: int = 4, seed: int = 0
) -> Figure:
    """A contact sheet of the random steps on images of a data set.

    Args:
        data: Folder, table, parquet file, or hf:owner/name.
        config: Whose steps; by default every step there is.
        images: How many images the steps take in turn.
        seed: Which images, and what is left to chance.
    """
    from gyrus.transforms.augmentation.preview import preview

    settings = load_config(config)
    source = settings.data.model_copy(update={"path": str(data), "on_bad_file": "skip"})
    manifest = scan_data(source, SILENT)
    chosen = np.random.default_rng(seed).permutation(len(manifest))[:images]
    reader = Reader(manifest, settings.preprocessing.volume)
    pixels = np.stack([settings.preprocessing.apply(reader.read(int(number))) for number in chosen])
    steps = settings.augmentation if settings.augmentation.steps else None
    return preview(pixels.astype(np.float32) / 255, steps, seed=seed)
