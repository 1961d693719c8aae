"""``gyrus pretrain``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gyrus.cli.options import DataOptions, ExperimentOptions, Quiet, WorkerOptions, whole_numbers
from gyrus.cli.terminal import console, display_of


def pretrain(
    *,
    experiment: ExperimentOptions,
    out: Annotated[Path, typer.Option("--out", help="Folder, new or of an earlier call to continue.")],
    exclude: Annotated[
        list[Path] | None,
        typer.Option(
            "--exclude",
            help="Run folder, or file of `gyrus data split`: leave out its validation and test subjects. Repeatable.",
        ),
    ] = None,
    hidden: Annotated[float, typer.Option("--hidden", help="Fraction of each image that is hidden.")] = 0.6,
    block: Annotated[
        str | None,
        typer.Option("--block", help="Size of a hidden block along each axis, as 8,8 or 4,8,8; an eighth by default."),
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of the weights and of training.")] = None,
    reading: DataOptions,
    workers: WorkerOptions,
    quiet: Quiet = False,
) -> None:
    """Pretrain a network on images without labels.

    The network learns to reconstruct hidden regions. `gyrus train --set model.pretrained=OUT/weights.safetensors`
    starts from its weights, and refuses to test on subjects that they were trained on.

    The same command continues what was interrupted.
    """
    import gyrus

    masking = {"hidden": hidden, "block": whole_numbers(block, "--block") if block else ()}
    try:
        with workers.running():
            found = gyrus.pretrain(
                experiment.chosen,
                data=experiment.data,
                out=out,
                exclude=exclude or (),
                overrides=experiment.overrides(reading, seed=seed),
                masking=masking,
                display=display_of(quiet=quiet),
            )
    except KeyboardInterrupt:
        console.print("Interrupted. The same command continues it.")
        raise typer.Exit(130) from None
    console.print(found.pretraining.text())
    console.print(f"Picture: {found.picture}")
    console.print(f"Weights: {found.weights}")
    console.print(f"Train from them: gyrus train ... --set model.pretrained={found.weights}")
