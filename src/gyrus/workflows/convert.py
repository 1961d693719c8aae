"""Convert a data set to another layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gyrus.curation.convert import convert as convert_manifest
from gyrus.curation.privacy import privacy_warnings
from gyrus.curation.scan_volumes import ConversionOptions
from gyrus.datasets.manifest import Manifest
from gyrus.datasets.targets import Target, refuse_number
from gyrus.workflows.display import SILENT, Display, show_warnings
from gyrus.workflows.experiment_config import DataConfig, ExperimentConfig, load_config
from gyrus.workflows.load_data import scan_path


@dataclass(frozen=True, eq=False)
class Conversion:
    """A converted data set.

    Attributes:
        folder: The new folder.
        manifest: The original data.
        notes: What the user of the folder should know.
    """

    folder: Path
    manifest: Manifest
    notes: tuple[str, ...]


def convert(
    path: str | Path,
    to: str,
    out: str | Path,
    *,
    slice_spacing: tuple[float, float, float] | None = None,
    config: ExperimentConfig | str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    data: DataConfig | None = None,
    display: Display = SILENT,
) -> Conversion:
    """Convert a data set to another layout, with labels, subjects, sessions and further columns.

    Args:
        path: Folder, table, volume, DICOM folder, BIDS data set, Parquet file, or hf:owner/name.
        to: The layout, a name of :data:`gyrus.curation.convert.TARGETS`: folder, parquet, nifti, bids or stack.
        out: A new or empty folder.
        slice_spacing: Distance in mm between slices, rows and columns, for slices that become volumes.
        config: A config whose ``preprocessing.volume`` scales volumes to 8 bits when they become slices.
        overrides: Fields of the config by dotted name.
        data: How to read the data.
        display: Where progress and warnings about personal data are shown.

    Raises:
        UnknownNameError: There is no such layout.
        ConfigError: The config has a mistake.
        BadFilesError: The data contain unusable files.
        DataError: The data cannot be read, or lack what the layout needs.
        GyrusError: The folder is not empty, or cannot be written to.
    """
    if data and data.target:
        refuse_number(Target("number", data.target), "Conversions (gyrus data convert)", "Leave out --target.")
    steps = load_config(config, overrides).preprocessing.volume
    manifest = scan_path(path, data, display)
    show_warnings(display, privacy_warnings(manifest))
    with display.progress("Converting") as progress:
        notes = convert_manifest(manifest, to, Path(out), ConversionOptions(slice_spacing, steps, progress))
    return Conversion(Path(out), manifest, notes)
