"""A finished study, and a PostgreSQL server on loopback for the tests."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from gyrus.tuning.study import StudyResult
from tests.support.figures import drawn
from tests.support.tiny_study import run_study


@pytest.fixture(scope="session")
def tuned(phantom_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> StudyResult:
    """A finished study of the whole space; not to be changed."""
    with drawn():
        return run_study(phantom_folder, tmp_path_factory.mktemp("studies") / "study", 6, seed=4)


def _program(name: str) -> str | None:
    packaged = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(packaged[-1]) if packaged else None)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _user() -> str | None:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The URL of an empty database."""
    initdb, server = _program("initdb"), _program("postgres")
    if not (initdb and server and find_spec("psycopg")):
        pytest.skip("no PostgreSQL here: install Debian's package postgresql, and psycopg")
    folder = Path(tempfile.mkdtemp(prefix="gyrus-pg-"))
    user, port = _user(), _free_port()
    if user:
        shutil.chown(folder, user)
    data = folder / "data"
    as_user = {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []} if user else {}
    made = [initdb, "-D", str(data), "-U", "gyrus", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale", "C"]
    subprocess.run(made, check=True, capture_output=True, cwd=folder, **as_user)
    settings = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": folder, "fsync": "off"}
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([server, "-D", str(data), *options], stdout=log, stderr=log, cwd=folder, **as_user)
    try:
        url = f"postgresql://gyrus@127.0.0.1:{port}/postgres"
        _wait_for(url, process, folder / "log")
        yield url
    finally:
        process.send_signal(signal.SIGINT)  # without waiting for clients that are still connected
        process.wait(timeout=30)
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(url: str, process: subprocess.Popen, log: Path) -> None:
    import psycopg

    deadline = time.monotonic() + 60
    while True:
        try:
            psycopg.connect(url, connect_timeout=5).close()
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(log.read_text()) from None
            time.sleep(0.2)
        else:
            return
