"""Serve a bundle over HTTP until the server is told to stop."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gyrus.errors import ConfigError
from gyrus.export.bundle import BundleEngine
from gyrus.extras import missing_dependency
from gyrus.serving.limits import ServingLimits
from gyrus.serving.security import SMALLEST_TOKEN, TOKEN_VARIABLE, Access, access_log, is_loopback
from gyrus.workflows.display import SILENT, Display

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

MOST_CONNECTIONS = 256
"""Open at the same time; others are refused."""

KEEP_ALIVE = 10
"""Seconds that an idle connection stays open."""

STOP_SECONDS = 30
"""Seconds that running requests have to end when the server is told to stop."""


def serve(
    bundle: str | Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
    allowed_host: Sequence[str] = (),
    limits: ServingLimits | None = None,
    engine: BundleEngine = "auto",
    workers: int = 1,
    display: Display = SILENT,
) -> None:
    """Serve a bundle: a web page and an HTTP API. Returns when the process is told to stop (Ctrl-C, SIGTERM).

    Args:
        bundle: The folder. It is verified first.
        host: The address to listen on.
        port: The port; 0 for a free one.
        token: What requests must carry; needed unless ``host`` is of this machine only.
        allowed_host: Further names in the Host header, without port.
        limits: What is accepted.
        engine: As for :meth:`gyrus.export.bundle.Bundle.open`.
        workers: Processes that decode and predict.
        display: Where progress is shown.

    Raises:
        ConfigError: Others could use the server without a token.
        GyrusError: The bundle cannot be used, or failed its verification.
        MissingDependencyError: A library of the server is not installed.
    """
    access = access_for(host, token, allowed_host)
    if workers < 1:
        raise ConfigError(f"--workers must be at least 1, got {workers}.")
    try:
        import uvicorn

        from gyrus.serving.app import create_app
    except ImportError as error:
        raise missing_dependency("Serving a bundle", "serve") from error
    with _listen(host, port) as listening:
        app = create_app(bundle, limits=limits, access=access, engine=engine, workers=workers, display=display)
        address = f"http://{_shown(host)}:{listening.getsockname()[1]}"
        app.state.on_start = lambda: display.say(f"Serving {Path(bundle).name} on {address} (Ctrl-C stops)")
        _log_to_stderr()
        uvicorn.Server(_config(app)).run(sockets=[listening])
    if app.state.failure:
        raise app.state.failure


def _config(app: FastAPI) -> uvicorn.Config:
    import uvicorn

    return uvicorn.Config(
        app,
        access_log=False,  # it would name what is asked for
        server_header=False,
        log_config=None,
        log_level=None,
        lifespan="on",
        limit_concurrency=MOST_CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=STOP_SECONDS,
        proxy_headers=False,
    )


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens, so that a port in use is noticed before the bundle is loaded.

    Raises:
        ConfigError: The address or port cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host.strip("[]"), port), family=family)
    except OSError as error:
        raise ConfigError(
            f"The server cannot listen on {host}, port {port}: {error.strerror or error}. Give another --port or "
            "--host."
        ) from error


def access_for(host: str, token: str | None, allowed_host: Sequence[str] = ()) -> Access:
    """Who may use a server.

    Raises:
        ConfigError: The address is reached from other machines and there is no token, or the token is too short.
    """
    if token is None and not is_loopback(host):
        raise ConfigError(
            f"With --host {host} other machines could use the server. Give a token with --token-file or the "
            f"environment variable {TOKEN_VARIABLE}, or leave --host out to serve this machine only."
        )
    if token is not None and (len(token) < SMALLEST_TOKEN or not token.isascii() or not token.isprintable()):
        raise ConfigError(
            f"The token must have at least {SMALLEST_TOKEN} printable ASCII characters. Make one with: "
            "openssl rand -hex 32"
        )
    return Access((*allowed_host, _shown(host)), token)


def read_token(file: Path | None) -> str | None:
    """The token in a file, or else in the environment; None without either.

    Raises:
        ConfigError: The file cannot be read.
    """
    if file is None:
        return os.environ.get(TOKEN_VARIABLE) or None
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The token file {file} cannot be read: {error}.") from error


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    access_log.addHandler(handler)
    access_log.setLevel(logging.INFO)
    access_log.propagate = False
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL + 1)  # errors are reported by the application
