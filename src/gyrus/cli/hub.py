"""``gyrus hub``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gyrus.cli.command import command, group
from gyrus.cli.options import Quiet
from gyrus.cli.terminal import console, display_of

app = group("Share bundles on the Hugging Face Hub. Log in with `hf auth login`, or set HF_TOKEN.")


@command(app, "push")
def push(
    *,
    bundle: Annotated[Path, typer.Argument(help="Folder of a bundle of gyrus export.")],
    address: Annotated[str, typer.Argument(help="hf:owner/name. The repository is created if there is none.")],
    public: Annotated[
        bool, typer.Option("--public", help="Let everyone read a new repository, or push to one that is public.")
    ] = False,
    message: Annotated[str, typer.Option("--message", help="Message of the commit.")] = "",
    quiet: Quiet = False,
) -> None:
    """Verify a bundle and push it with a card; new repositories are private."""
    import gyrus

    display = display_of(quiet=quiet)
    console.print(gyrus.push_bundle(bundle, address, public=public, message=message, display=display).text())


@command(app, "pull")
def pull(
    *,
    address: Annotated[str, typer.Argument(help="hf:owner/name, or hf:owner/name@REVISION (branch, tag or commit).")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the bundle; new or empty.")],
    quiet: Quiet = False,
) -> None:
    """Download a bundle and check the SHA-256 of every file."""
    import gyrus

    found = gyrus.pull_bundle(address, out=out, display=display_of(quiet=quiet))
    console.print(f"{found.source}: {out}")
    console.print(f"Every file has the right SHA-256. Check its answers on this machine: gyrus export verify {out}")
