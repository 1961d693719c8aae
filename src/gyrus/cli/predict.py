"""``gyrus predict``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gyrus.cli.options import Device, Engine, NewDataOptions, Quiet, Weights, WorkerOptions
from gyrus.cli.terminal import console, display_of


def predict(
    *,
    run: Annotated[Path, typer.Argument(help="Run folder, or folder of gyrus crossval (an ensemble of its folds).")],
    inputs: Annotated[list[str], typer.Argument(help="Image files, folders or tables.")],
    out: Annotated[Path, typer.Option("--out", help="File to write: .csv, .parquet or .json.")],
    device: Device = "auto",
    engine: Engine = "auto",
    others: Annotated[
        list[Path] | None, typer.Option("--with", help="Another run, to average with the first. Repeatable.")
    ] = None,
    weights: Weights = "equal",
    tta: Annotated[
        int | None,
        typer.Option(
            "--tta", min=0, help="Augmented copies per image (test-time augmentation); by default as in the run."
        ),
    ] = None,
    reading: NewDataOptions,
    workers: WorkerOptions,
    quiet: Quiet = False,
) -> None:
    """Predict new images with a trained classifier or an ensemble."""
    import gyrus
    from gyrus.text import counted

    with workers.running():
        predictions = gyrus.predict(
            [run, *(others or [])],
            inputs,
            out=out,
            data=reading.config(),
            device=device,
            engine=engine,
            tta=tta,
            weights=weights,
            display=display_of(quiet=quiet),
        )
    if predictions.warning:
        console.print(f"Note on the scores of this classifier: {predictions.warning}.")
    by = f" by {', '.join(predictions.engines)}" if predictions.engines else ""
    console.print(f"{counted(len(predictions), 'prediction')}{by}: {out}")
