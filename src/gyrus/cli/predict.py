"""``gyrus predict``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gyrus.cli.options import (
    Bids,
    Columns,
    Device,
    OnBadNewFile,
    Orientation,
    Quiet,
    Source,
    Spacing,
    Weights,
    new_data,
)
from gyrus.cli.terminal import Terminal, console


def predict(
    run: Annotated[Path, typer.Argument(help="A run folder, or the folder of gyrus crossval: all its folds together.")],
    inputs: Annotated[list[str], typer.Argument(help="Image files, folders or tables.")],
    out: Annotated[Path, typer.Option("--out", help="A .csv, .parquet or .json file.")],
    source: Source = None,
    column: Columns = None,
    bids: Bids = None,
    orientation: Orientation = None,
    spacing: Spacing = None,
    on_bad_file: OnBadNewFile = "fail",
    device: Device = "auto",
    others: Annotated[
        list[Path] | None, typer.Option("--with", help="A further run, for the mean of all. May be repeated.")
    ] = None,
    weights: Weights = "equal",
    tta: Annotated[
        int | None,
        typer.Option("--tta", min=0, help="Altered copies of each image to ask about too; by default as in the run."),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Say what a trained classifier, or several together, thinks of new images."""
    import gyrus
    from gyrus.errors import ConfigError

    if out.suffix not in (".csv", ".parquet", ".json"):
        raise ConfigError(f"--out must end in .csv, .parquet or .json, got '{out}'.")
    config = new_data(
        source=source,
        column=column,
        bids=bids,
        orientation=orientation,
        spacing=spacing,
        on_bad_file=on_bad_file,
    )
    display = gyrus.SILENT if quiet else Terminal()
    predictions = gyrus.predict(
        [run, *(others or [])], inputs, data=config, device=device, tta=tta, weighting=weights, display=display
    )
    predictions.export(out)
    if predictions.statement:
        console.print(f"Note on the scores of this classifier: {predictions.statement}.")
    console.print(f"{len(predictions.table)} predictions: {out}")
