"""``gyrus explain``."""

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
    new_data,
)
from gyrus.cli.terminal import Terminal, console


def explain(
    run: Annotated[Path, typer.Argument(help="A run folder, or the folder of gyrus crossval.")],
    inputs: Annotated[
        list[str] | None, typer.Argument(help="Image files, folders or tables; by default the test set of the run.")
    ] = None,
    method: Annotated[
        str, typer.Option("--method", help="Methods, with commas between, or all: grad-cam,occlusion.")
    ] = "grad-cam",
    target: Annotated[
        str, typer.Option("--target", help="predicted, true, a class, or A-B for what speaks for A and against B.")
    ] = "predicted",
    layer: Annotated[
        str | None, typer.Option("--layer", help="Of class activation maps; a wrong name gives the list.")
    ] = None,
    grid: Annotated[
        str, typer.Option("--grid", help="Images to show: random, best, worst, class, or methods for few by all.")
    ] = "random",
    out: Annotated[Path | None, typer.Option("--out", help="Where to write: by default RUN/explanation.")] = None,
    shown: Annotated[int, typer.Option("--shown", help="How many images are shown.")] = 8,
    images: Annotated[int, typer.Option("--images", help="How many the checks and the mean maps are made of.")] = 24,
    checks: Annotated[bool, typer.Option("--checks/--no-checks", help="Whether the maps are checked.")] = True,
    others: Annotated[
        list[Path] | None, typer.Option("--with", help="A run whose maps are compared with these. May be repeated.")
    ] = None,
    emphasis: Annotated[
        str | None,
        typer.Option("--emphasis", help="Powers of the maps by class, for show: CLASS=1.5,CLASS=1.2, or system-d."),
    ] = None,
    colours: Annotated[str, typer.Option("--colours", help="inferno, magma, viridis, cividis or jet.")] = "inferno",
    atlas: Annotated[
        str | None,
        typer.Option("--atlas", help="Labels of regions: a file, or with {subject} or {sample} in its name many."),
    ] = None,
    region_names: Annotated[
        Path | None, typer.Option("--region-names", help="A table of the atlas: numbers, then names.")
    ] = None,
    eraser: Annotated[
        str, typer.Option("--eraser", help="What stands where something is taken out: blur, black or mean.")
    ] = "blur",
    seed: Annotated[int, typer.Option("--seed", help="Seed of the images and of everything random.")] = 0,
    device: Device = "auto",
    source: Source = None,
    column: Columns = None,
    bids: Bids = None,
    orientation: Orientation = None,
    spacing: Spacing = None,
    on_bad_file: OnBadNewFile = "fail",
    quiet: Quiet = False,
) -> None:
    """Show which pixels the answers came from, and check whether that can be believed."""
    import gyrus
    from gyrus.explanation.atlas import Atlas
    from gyrus.explanation.attribution import MethodSettings
    from gyrus.explanation.checks import ExplanationChecks
    from gyrus.explanation.methods import METHODS
    from gyrus.workflows.explain.config import ExplainConfig
    from gyrus.workflows.explain.explain import explain_run

    names = tuple(METHODS) if method == "all" else tuple(dict.fromkeys(name.strip() for name in method.split(",")))
    config = ExplainConfig(
        methods=names,
        target=target,
        layer=layer,
        grid=grid,  # type: ignore[arg-type]
        shown=shown,
        images=images,
        checks=checks,
        emphasis=_powers(emphasis),
        colours=colours,
        atlas=Atlas(atlas, region_names) if atlas else None,
        settings=MethodSettings(seed=seed, eraser=eraser),  # type: ignore[arg-type]
        device=device,
    )
    data = new_data(
        source=source,
        column=column,
        bids=bids,
        orientation=orientation,
        spacing=spacing,
        on_bad_file=on_bad_file,
    )
    display = gyrus.SILENT if quiet else Terminal()
    album = explain_run([run, *(others or [])], inputs or (), config=config, out=out, data=data, display=display)
    if checks:
        for sentence in ExplanationChecks.load(album.checks).sentences:
            console.print(sentence, markup=False)
    for note in album.showing.notes:
        console.print(f"Note: {note}", markup=False)
    console.print(f"Maps: {album.folder / 'maps'}", markup=False)
    console.print(f"Page: {album.page}", markup=False)


def _powers(text: str | None) -> dict[str, float]:
    """Class to power.

    Raises:
        ConfigError: The text has another form.
    """
    from gyrus.errors import ConfigError

    powers = {}
    for part in text.split(",") if text else []:
        name, equals, power = part.rpartition("=")
        try:
            powers[name or power] = float(power) if equals else 1.0
        except ValueError:
            equals = ""
        if not equals and part != "system-d":
            raise ConfigError(f"--emphasis '{part}' must have the form CLASS=POWER, for example Mild=1.3, or system-d.")
    return powers
