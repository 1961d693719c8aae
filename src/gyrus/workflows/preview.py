"""Contact sheets: a volume after each step of preprocessing, and images after each step of augmentation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gyrus.curation.privacy import privacy_warnings
from gyrus.datasets.reader import PreparedVolumes, Reader
from gyrus.datasets.slices import require_volumes
from gyrus.errors import ConfigError
from gyrus.files import atomic_path
from gyrus.workflows.display import SILENT, Display, show_warnings
from gyrus.workflows.experiment_config import DataConfig, ExperimentConfig, load_config
from gyrus.workflows.load_data import scan_path, scan_unlabelled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURE_FILES = (".png", ".svg", ".pdf")


def preview(
    path: str | Path,
    *,
    out: str | Path | None = None,
    config: ExperimentConfig | str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    data: DataConfig | None = None,
    display: Display = SILENT,
) -> Figure:
    """Draw a volume in three planes, as read and after each step of preprocessing; or the channels of a session.

    Args:
        path: A volume, or a folder of DICOM files; of several volumes the first is drawn.
        out: Where to save the figure: a .png, .svg or .pdf file.
        config: Whose steps; see :func:`gyrus.workflows.experiment_config.load_config`.
        overrides: Fields by dotted name.
        data: How to read the volume.
        display: Where notes and warnings about personal data are shown.

    Raises:
        ConfigError: ``out`` has another suffix, or the config has a mistake.
        DataError: There is no volume, or a step fails.
    """
    from gyrus.transforms.volume_preview import preview as draw
    from gyrus.transforms.volume_preview import preview_channels

    _require_figure_file(out)
    settings = load_config(config, overrides)
    manifest = scan_unlabelled(path, data or DataConfig(), display)
    require_volumes(manifest, "A preview")
    show_warnings(display, privacy_warnings(manifest))
    volumes, steps = PreparedVolumes(manifest, ()), settings.preprocessing.volume
    if manifest.channels:
        channels = zip(manifest.channels, volumes.channels(0), strict=True)
        figure = preview_channels({name: volume for name, volume in channels if volume is not None}, steps)
    else:
        figure = draw(volumes.volume(0), steps)
    _save(figure, out)
    return figure


def augment_preview(
    path: str | Path,
    *,
    out: str | Path | None = None,
    config: ExperimentConfig | str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    images: int = 4,
    seed: int = 0,
) -> Figure:
    """Draw each random augmentation step at low, middle and high strength, on images of a data set.

    Args:
        path: Folder, table, Parquet file, or hf:owner/name.
        out: Where to save the figure: a .png, .svg or .pdf file.
        config: Whose steps; by default every step there is.
        overrides: Fields by dotted name.
        images: How many images to use.
        seed: Seed of the choice of images and of the random steps.

    Raises:
        ConfigError: ``out`` has another suffix, or the config has a mistake.
        DataError: The data cannot be read.
    """
    from gyrus.transforms.augmentation.preview import preview as draw

    _require_figure_file(out)
    settings = load_config(config, overrides)
    manifest = scan_path(path, settings.data, SILENT, on_bad_file="skip")
    chosen = np.random.default_rng(seed).permutation(len(manifest))[:images]
    reader = Reader(manifest, settings.preprocessing.volume)
    sequences = bool(manifest.channels)
    pixels = np.stack([settings.preprocessing.apply(reader.read(int(one)), sequences=sequences) for one in chosen])
    steps = settings.augmentation if settings.augmentation.steps else None
    figure = draw(pixels.astype(np.float32) / 255, steps, seed=seed)
    _save(figure, out)
    return figure


def _require_figure_file(out: str | Path | None) -> None:
    if out is not None and Path(out).suffix not in FIGURE_FILES:
        raise ConfigError(f"--out must end in .png, .svg or .pdf, got '{out}'.")


def _save(figure: Figure, out: str | Path | None) -> None:
    if out is not None:
        with atomic_path(Path(out)) as temporary:
            figure.savefig(temporary)
