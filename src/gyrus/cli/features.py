"""``gyrus features``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gyrus.cli.options import DataOptions, WorkerOptions
from gyrus.cli.terminal import Terminal, console
from gyrus.text import counted


def features(
    *,
    path: Annotated[
        str,
        typer.Argument(help="Folder, table, volume, DICOM folder, BIDS data set, Parquet file, or hf:owner/name."),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", help="Table to write, CSV; pictures go into a folder of its name without the ending."),
    ] = Path("features.csv"),
    reading: DataOptions,
    workers: WorkerOptions,
) -> None:
    """Measure volumes of tissues and brain regions.

    Writes one row per session, and a picture of each head with the contours of its tissues. Whole heads are registered
    to a template; of slices, the fractions of the tissues are measured. Run the command again to continue.
    """
    import gyrus

    with workers.running():
        found = gyrus.features(path, out=out, data=reading.config(), display=Terminal())
    measured = len(found.sessions) - len(found.failures)
    console.print(f"Measured {measured} of {counted(len(found.sessions), 'session')}.")
    for session in found.failures:
        console.print(f"Failed: {session.name}: {session.reason}.")
    console.print(f"Table: {found.table}")
    console.print(f"Page: {found.page}")
