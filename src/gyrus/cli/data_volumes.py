"""``gyrus data convert`` and ``gyrus data preview``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gyrus.cli.command import command
from gyrus.cli.options import ConfigOptions, DataOptions, FigureFile, ReadingOptions, lengths
from gyrus.cli.terminal import Terminal, console

if TYPE_CHECKING:
    from gyrus.datasets.manifest import Manifest


def register(app: typer.Typer) -> None:
    """Add the commands about volumes and layouts."""
    command(app, "convert")(convert)
    command(app, "preview")(preview)


def convert(
    *,
    path: Annotated[str, typer.Argument(help="Folder, table, volume, DICOM folder, BIDS, parquet, or hf:owner/name.")],
    to: Annotated[str, typer.Option("--to", help="folder, parquet, nifti, bids or stack.")],
    out: Annotated[Path, typer.Option("--out", help="A new folder.")],
    slice_spacing: Annotated[
        str | None,
        typer.Option(
            "--slice-spacing", help="mm between slices, rows and columns, of slices that become volumes: 5,1,1."
        ),
    ] = None,
    experiment: ConfigOptions,
    reading: DataOptions,
) -> None:
    """Write data in another layout; labels, people and visits travel along."""
    import gyrus
    from gyrus.curation.convert import convert as write
    from gyrus.curation.scan_volumes import ConversionOptions
    from gyrus.datasets.scan import scan

    with Terminal().progress("Reading") as progress:
        manifest = scan(path, **reading.fields(), progress=progress)
    manifest.require_clean()
    show_notes(manifest)
    steps = gyrus.load_config(experiment.chosen, experiment.overrides()).preprocessing.volume
    with Terminal().progress("Converting") as progress:
        notes = write(manifest, to, out, ConversionOptions(lengths(slice_spacing, "--slice-spacing"), steps, progress))
    for note in notes:
        console.print(f"Note: {note}")
    console.print(f"{len(manifest)} samples as {to}: {out}")


def preview(
    *,
    path: Annotated[Path, typer.Argument(help="A volume, or a folder of DICOM files.")],
    out: FigureFile,
    experiment: ConfigOptions,
    reading: ReadingOptions,
) -> None:
    """Draw a volume in three planes, as it was read and after each step of preprocessing."""
    import gyrus
    from gyrus.datasets.prepared_volumes import PreparedVolumes
    from gyrus.datasets.scan import scan
    from gyrus.datasets.volume_slices import require_volumes
    from gyrus.errors import ConfigError
    from gyrus.files import atomic_path
    from gyrus.transforms.volume_preview import preview as draw

    if out.suffix not in (".png", ".svg", ".pdf"):
        raise ConfigError(f"--out must end in .png, .svg or .pdf, got '{out}'.")
    settings = gyrus.load_config(experiment.chosen, experiment.overrides())
    manifest = scan(path, labelled=False, **reading.fields())
    require_volumes(manifest, "A preview")
    show_notes(manifest)
    figure = draw(PreparedVolumes(manifest, ()).volume(0), settings.preprocessing.volume)
    with atomic_path(out) as temporary:
        figure.savefig(temporary)
    console.print(f"Contact sheet of {manifest.table['sample'].iloc[0]}: {out}")


def show_notes(manifest: Manifest) -> None:
    """Print what a scan of volumes decided or set aside, and warn of what looks like a person in names or headers."""
    from gyrus.curation.privacy import warnings_about_people

    for note in manifest.notes:
        console.print(f"Note: {note}.")
    for warning in warnings_about_people(manifest):
        console.print(f"Privacy: {warning}. Gyrus copies none of it from headers; file names are kept as they are.")
