"""``gyrus explain``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gyrus.cli.options import Device, Engine, NewDataOptions, Quiet
from gyrus.cli.terminal import console, display_of


def explain(
    *,
    run: Annotated[Path, typer.Argument(help="Run folder, or folder of gyrus crossval.")],
    inputs: Annotated[
        list[str] | None, typer.Argument(help="Image files, folders or tables; by default the test set of the run.")
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            "--method",
            help="Methods separated by commas (for example grad-cam,occlusion), or all; grad-cam for networks.",
        ),
    ] = "default",
    target: Annotated[
        str,
        typer.Option("--target", help="predicted, true, a class, or A-B for the evidence for A and against B."),
    ] = "predicted",
    layer: Annotated[
        str | None, typer.Option("--layer", help="Layer of class activation maps; a wrong name lists the layers.")
    ] = None,
    grid: Annotated[
        str,
        typer.Option(
            "--grid",
            help="Which images to show: random, best, worst, class (some of each), or methods (a few with all).",
        ),
    ] = "random",
    out: Annotated[
        Path | None, typer.Option("--out", help="Output folder; by default explanation in the run folder.")
    ] = None,
    dicom_sc: Annotated[
        Path | None,
        typer.Option(
            "--dicom-sc",
            help="New folder for the heat maps of DICOM series as DICOM images; they hold the patient's header.",
        ),
    ] = None,
    shown: Annotated[int, typer.Option("--shown", help="Number of images to show.")] = 8,
    images: Annotated[
        int, typer.Option("--images", help="Number of images for the checks and the mean heat maps.")
    ] = 24,
    checks: Annotated[
        bool, typer.Option("--checks/--no-checks", help="Check how far the heat maps can be relied on.")
    ] = True,
    others: Annotated[
        list[Path] | None, typer.Option("--with", help="Another run to compare the heat maps with. Repeatable.")
    ] = None,
    emphasis: Annotated[
        str | None,
        typer.Option(
            "--emphasis", help="Power of the shown heat maps by class: CLASS=1.5,CLASS=1.2, or dementia-stages."
        ),
    ] = None,
    colours: Annotated[
        str, typer.Option("--colours", help="Colour map: inferno, magma, viridis, cividis or jet.")
    ] = "inferno",
    atlas: Annotated[
        str | None,
        typer.Option("--atlas", help="Label volume of an atlas; {subject} or {sample} in the name: one file each."),
    ] = None,
    region_names: Annotated[
        Path | None, typer.Option("--region-names", help="Table of the atlas regions: numbers, then names.")
    ] = None,
    truth: Annotated[
        str | None,
        typer.Option(
            "--truth",
            help="Masks of what the heat maps should find, such as masks/{sample}.png, to measure the maps against.",
        ),
    ] = None,
    eraser: Annotated[
        str, typer.Option("--eraser", help="What replaces the pixels that are taken out: blur, black or mean.")
    ] = "blur",
    seed: Annotated[int, typer.Option("--seed", help="Seed of the choice of images and of random methods.")] = 0,
    device: Device = "auto",
    engine: Engine = "auto",
    minutes: Annotated[
        float | None,
        typer.Option(
            "--minutes", help="Time limit. Methods and checks that would exceed it are left out, which is reported."
        ),
    ] = None,
    reading: NewDataOptions,
    quiet: Quiet = False,
) -> None:
    """Compute heat maps of the predictions, and check them."""
    import gyrus
    from gyrus.workflows.explain.config import parse_emphasis

    config = gyrus.ExplainConfig(
        methods=tuple(dict.fromkeys(name.strip() for name in method.split(","))),
        target=target,
        layer=layer,
        grid=grid,
        shown=shown,
        images=images,
        checks=checks,
        emphasis=parse_emphasis(emphasis),
        colours=colours,
        atlas=gyrus.Atlas(atlas, region_names) if atlas else None,
        truth=truth,
        settings=gyrus.MethodSettings(seed=seed, eraser=eraser),
        device=device,
        engine=engine,
        minutes=minutes,
    )
    folder = gyrus.explain(
        [run, *(others or [])],
        inputs or (),
        config=config,
        out=out,
        dicom_sc=dicom_sc,
        data=reading.config(),
        display=display_of(quiet=quiet),
    )
    console.print(folder.text())
