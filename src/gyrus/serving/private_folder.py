"""The one folder in which a server holds uploads while it answers: in memory where the system has such a folder."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gyrus.files import remove_abandoned, temporary_folder

MEMORY_FOLDER = Path("/dev/shm")
"""A file system in memory (Linux)."""

SMALLEST_SPACE = 256 << 20
"""Bytes that must be free there; containers have 64 MB by default."""


@contextmanager
def private_folder() -> Iterator[Path]:
    """A folder that only this user may read, gone at the end of the block.

    What a killed server left behind, in memory or on disk, is removed first.
    """
    for parent in (MEMORY_FOLDER, Path(tempfile.gettempdir())):
        remove_abandoned(parent)
    with temporary_folder(_parent(), "serving") as folder:
        yield folder


@contextmanager
def request_folder(parent: Path) -> Iterator[Path]:
    """A folder for one request below the folder of the server, with a random name; gone at the end of the block."""
    folder = parent / secrets.token_hex(8)
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _parent() -> Path | None:
    try:
        if os.access(MEMORY_FOLDER, os.W_OK) and shutil.disk_usage(MEMORY_FOLDER).free >= SMALLEST_SPACE:
            return MEMORY_FOLDER
    except OSError:
        pass
    return None
