"""``gyrus test``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from gyrus.cli.options import Device, Quiet, TrainingDataOptions, assignments
from gyrus.cli.terminal import console, display_of


def external_validation(
    *,
    run: Annotated[
        Path,
        typer.Argument(
            help="Run, ensemble or cross-validation; or bundle: folder of gyrus export or hf:owner/name[@REVISION]."
        ),
    ],
    cohort: Annotated[str, typer.Argument(help="Folder or table of the cohort, with labels.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the page, the predictions and the results as JSON.")],
    class_map: Annotated[
        list[str] | None,
        typer.Option("--map", help="Class of the cohort and of the classifier, as NAME=CLASS. Repeatable."),
    ] = None,
    same_ids: Annotated[
        Literal["set-aside", "keep"],
        typer.Option(
            "--same-ids",
            help="Subjects whose identifier is also in the data of the classifier: set aside, or keep if both data "
            "sets number their subjects independently.",
        ),
    ] = "set-aside",
    by_image: Annotated[bool, typer.Option("--by-image", help="Accept images whose subjects are unknown.")] = False,
    width: Annotated[
        float, typer.Option("--width", help="Wanted width of intervals, for the number of subjects needed.")
    ] = 0.1,
    device: Device = "auto",
    resamples: Annotated[int | None, typer.Option("--resamples", min=0, help="Bootstrap resamples.")] = None,
    reading: TrainingDataOptions,
    quiet: Quiet = False,
) -> None:
    """Validate a trained classifier on another cohort.

    Subjects who are also in the data of the classifier are set aside. Nothing is chosen on the cohort.
    """
    import gyrus

    found = gyrus.external_validation(
        run,
        cohort,
        out=out,
        data=reading.config(),
        class_map=assignments(class_map, "--map", "NAME=CLASS, for example AD=Dementia"),
        same_ids=same_ids,
        by_image=by_image,
        width=width,
        device=device,
        resamples=resamples,
        display=display_of(quiet=quiet),
    )
    console.print(found.text())
    console.print(f"Report: {out / 'report.html'}")
