"""``gyrus predict``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gyrus.cli.options import Device, Engine, NewDataOptions, Quiet, Weights, WorkerOptions
from gyrus.cli.terminal import console, display_of


def predict(
    *,
    run: Annotated[
        Path,
        typer.Argument(
            help="Run folder, folder of gyrus crossval (an ensemble of its folds), or bundle: folder of gyrus export "
            "or hf:owner/name[@REVISION]."
        ),
    ],
    inputs: Annotated[
        list[str] | None,
        typer.Argument(help="Image files, folders or tables; none if the classifier uses only the table of --table."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="File to write: .csv, .parquet or .json.")] = None,
    dicom_sr: Annotated[
        Path | None,
        typer.Option(
            "--dicom-sr", help="New folder for one DICOM Structured Report per series; they hold the patient's header."
        ),
    ] = None,
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
    """Predict new images with a classifier or a bundle."""
    import gyrus
    from gyrus.errors import ConfigError
    from gyrus.export.manifest import is_bundle
    from gyrus.text import counted

    if out is None and dicom_sr is None:
        raise ConfigError(
            "Give --out FILE for a table, for example --out predictions.csv; --dicom-sr FOLDER for DICOM Structured "
            "Reports; or both."
        )
    written = f": {out}" if out else ""
    if is_bundle(run):
        from gyrus.workflows.predict_bundle import refuse_options_of_runs

        refuse_options_of_runs(several=bool(others), tta=tta, weights=weights, device=device)
        with workers.running():
            answers = gyrus.predict_bundle(
                run,
                inputs or [],
                out=out,
                dicom_sr=dicom_sr,
                data=reading.config() if reading.fields() else None,
                engine=engine,
                display=display_of(quiet=quiet),
            )
        _report(answers.warning, f"{counted(len(answers), 'prediction')} by {', '.join(answers.engines)}{written}")
        return
    with workers.running():
        predictions = gyrus.predict(
            [run, *(others or [])],
            inputs or [],
            out=out,
            dicom_sr=dicom_sr,
            data=reading.config(),
            device=device,
            engine=engine,
            tta=tta,
            weights=weights,
            display=display_of(quiet=quiet),
        )
    by = f" by {', '.join(predictions.engines)}" if predictions.engines else ""
    _report(predictions.warning, f"{counted(len(predictions), 'prediction')}{by}{written}")


def _report(warning: str, result: str) -> None:
    if warning:
        console.print(f"Note on the scores of this classifier: {warning}.")
    console.print(result)
