"""``gyrus serve``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from gyrus.cli.options import Quiet
from gyrus.cli.terminal import display_of


def serve(
    *,
    bundle: Annotated[Path, typer.Argument(help="Folder of a bundle of gyrus export, or hf:owner/name[@REVISION].")],
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port to listen on.")] = 8000,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file",
            help="File with the token that requests must carry; by default the environment variable "
            "GYRUS_SERVE_TOKEN. Needed to serve other machines.",
        ),
    ] = None,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option("--allowed-host", help="Further name by which browsers reach the server. Repeatable."),
    ] = None,
    engine: Annotated[
        Literal["auto", "openvino", "onnxruntime"], typer.Option("--engine", help="What runs the networks.")
    ] = "auto",
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes that read and classify scans.")] = 1,
    queue: Annotated[int, typer.Option("--queue", min=1, help="Requests at the same time; others get 503.")] = 32,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Waiting requests that are answered together.")] = 16,
    max_mb: Annotated[int, typer.Option("--max-mb", min=1, help="Megabytes of an upload.")] = 256,
    max_unpacked_mb: Annotated[
        int, typer.Option("--max-unpacked-mb", min=1, help="Megabytes of an upload after unpacking.")
    ] = 1024,
    max_held_mb: Annotated[
        int, typer.Option("--max-held-mb", min=1, help="Megabytes of all uploads at the same time.")
    ] = 1024,
    max_files: Annotated[int, typer.Option("--max-files", min=1, help="Files of an upload.")] = 2000,
    seconds: Annotated[float, typer.Option("--seconds", min=0.1, help="Longest time of an answer.")] = 60.0,
    memory_mb: Annotated[
        int | None,
        typer.Option("--memory-mb", min=256, help="Memory of a worker in megabytes; by default half of what is free."),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Serve a bundle: a web page and an HTTP API.

    They are open to this machine only unless told otherwise. Nothing that is sent is kept.
    """
    import gyrus
    from gyrus.serving.limits import ServingLimits
    from gyrus.serving.server import read_token

    gyrus.serve(
        bundle,
        host=host,
        port=port,
        token=read_token(token_file),
        allowed_host=allowed_host or (),
        limits=ServingLimits(
            bytes=max_mb << 20,
            files=max_files,
            unpacked_bytes=max_unpacked_mb << 20,
            held_bytes=max_held_mb << 20,
            seconds=seconds,
            waiting=queue,
            batch=batch,
            memory=None if memory_mb is None else memory_mb << 20,
        ),
        engine=engine,
        workers=workers,
        display=display_of(quiet=quiet),
    )
