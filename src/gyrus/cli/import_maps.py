"""``gyrus import-maps``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gyrus.cli.terminal import console


def import_maps(
    maps: Annotated[Path, typer.Argument(help="Results folder (MAPS) of ClinicaDL 1.6 or 2.0.")],
    out: Annotated[Path, typer.Option("--out", help="New folder for the splits, the predictions and the scores.")],
    labels: Annotated[
        Path | None,
        typer.Option("--labels", help="TSV with participant_id, session_id and labels, added to the splits."),
    ] = None,
) -> None:
    """Import splits and predictions of ClinicaDL.

    Each split becomes a table that --data takes beside the CAPS. Predictions are of version 1.6 only: version 2.0 saves
    none.
    """
    import gyrus

    imported = gyrus.import_maps(maps, out=out, labels=labels)
    console.print(imported.text())
    console.print(f"Tables: {out}")
