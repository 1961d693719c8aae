"""Files that are whole or not there: atomic writing, JSON, and digests of values."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gyrus.errors import GyrusError


def cache_folder() -> Path:
    """Where decoded images and fetched data are kept: the environment variable GYRUS_CACHE, or ``~/.cache/gyrus``."""
    return Path(os.environ.get("GYRUS_CACHE") or Path.home() / ".cache" / "gyrus")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when the block ends well.

    A reader, a crash or a full disk never sees half a file: the old one stays until the new one is whole.

    Raises:
        GyrusError: The folder cannot be written to, or the disk is full.
    """
    handle = -1
    temporary = Path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}-", suffix=path.suffix)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    except OSError as error:
        raise GyrusError(f"Cannot write {path}: {error.strerror or error}.") from error
    finally:
        if handle != -1:
            temporary.unlink(missing_ok=True)


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder beside ``folder`` that takes its place when the block ends well.

    Raises:
        GyrusError: ``folder`` is not empty or not a folder, or cannot be written to.
    """
    temporary = None
    try:
        require_empty(folder, "Give a new folder, or remove this one first.")
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name[:40]}-"))
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o777 & ~umask)
        if folder.exists():
            folder.rmdir()
        temporary.replace(folder)
    except OSError as error:
        raise GyrusError(f"Cannot write {folder}: {error.strerror or error}.") from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def require_empty(
    folder: Path, advice: str, *, error: type[GyrusError] = GyrusError, ignored: Sequence[str] = ()
) -> None:
    """Refuse to write into a folder that holds files already.

    Args:
        folder: It may be missing.
        advice: What to do, for the message: "Give a new folder with --out."
        error: The class of the error.
        ignored: Names of files that may be there.

    Raises:
        GyrusError: ``folder`` is not a folder, or holds files.
    """
    if folder.exists() and (not folder.is_dir() or any(path.name not in ignored for path in folder.iterdir())):
        raise error(f"{folder} is not an empty folder. {advice}")


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically. NaN is written as null."""
    write_text(path, json.dumps(_without_nan(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        GyrusError: The file is missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise GyrusError(f"Cannot read {path}: {error.strerror or error}.") from error
    except ValueError as error:
        raise GyrusError(f"{path} is not a JSON file: {error}.") from error


def file_digest(path: Path) -> str:
    """SHA-256 of a file, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(value: Any) -> str:
    """SHA-256 of a JSON-able value, as 64 hexadecimal digits; the order of keys does not matter."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    if isinstance(value, float) and value != value:
        return None
    return value
