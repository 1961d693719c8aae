"""``gyrus export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from gyrus.cli.command import command, group
from gyrus.cli.options import Quiet
from gyrus.cli.terminal import console, display_of

DEFAULT = "bundle"


class _WithDefault(TyperGroup):
    """``gyrus export RUN`` is short for ``gyrus export bundle RUN``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put in the name of the command where the first word is none."""
        if args and args[0] not in {*self.commands, *ctx.help_option_names}:
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)


app = group(
    "Export a classifier as a bundle, or predictions to BIDS.",
    cls=_WithDefault,
)


@command(app, DEFAULT)
def export(
    *,
    run: Annotated[Path, typer.Argument(help="Folder of a run, of gyrus crossval or of gyrus ensemble.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the bundle; new or empty.")],
    formats: Annotated[
        str,
        typer.Option(
            "--format", help="Formats, separated by commas: onnx, openvino; monai adds the files of a MONAI Bundle."
        ),
    ] = "onnx",
    data: Annotated[
        Path | None, typer.Option("--data", help="Where the data are now, if they have moved, to compare the test set.")
    ] = None,
    licence: Annotated[str | None, typer.Option("--licence", help="Licence of the networks.")] = None,
    intended_use: Annotated[str | None, typer.Option("--intended-use", help="Who may use it, and for what.")] = None,
    operating_point: Annotated[
        Literal["youden", "sensitivity", "specificity", "cost", "npv_with_sensitivity"],
        typer.Option("--operating-point", help="Goal of the operating point to ship."),
    ] = "youden",
    quiet: Quiet = False,
) -> None:
    """Write a bundle: networks, preprocessing, operating point, model card; the default command."""
    import gyrus

    stated = {"licence": licence, "intended_use": intended_use}
    found = gyrus.export(
        run,
        out=out,
        formats=[name.strip() for name in formats.split(",") if name.strip()],
        data=data,
        operating_point=operating_point,
        display=display_of(quiet=quiet),
        **{name: text for name, text in stated.items() if text},
    )
    console.print(found.text())


@command(app, "verify")
def verify(
    *,
    bundle: Annotated[Path, typer.Argument(help="Folder of a bundle, or hf:owner/name[@REVISION].")],
    quiet: Quiet = False,
) -> None:
    """Check the files of a bundle, and its answers to the phantoms that come with it, on this machine."""
    import gyrus

    found = gyrus.verify_bundle(bundle, display=display_of(quiet=quiet))
    console.print(found.text())
    found.require_passed()
    console.print("The bundle gives the probabilities of the runs on this machine.")


@command(app, "bids")
def bids(
    table: Annotated[Path, typer.Argument(help="Table of predictions: .csv, .parquet or .json.")],
    out: Annotated[Path, typer.Option("--out", help="New folder, for example bids/derivatives/gyrus.")],
    sources: Annotated[
        Path | None, typer.Option("--sources", help="BIDS data set of the images, for paths relative to it.")
    ] = None,
) -> None:
    """Write predictions as BIDS derivatives: one table per subject and session."""
    import gyrus
    from gyrus.text import counted

    written = gyrus.export_bids(table, out, sources=sources)
    console.print(f"{counted(len(written), 'table')} of predictions: {out}")
