"""Files that are whole or not there: atomic writing, temporary files, JSON, and digests of values."""

from __future__ import annotations

import errno
import functools
import hashlib
import io
import json
import os
import platform
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from gyrus.errors import DataError, GyrusError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

TEMPORARY = re.compile(r"\.gyrus-([0-9a-f]{8})-[0-9a-z_]{8}-.*", re.DOTALL)
"""Names of temporary files: the machine that wrote them, random letters, and the name of the file to be written."""

FOREIGN_AGE = 7 * 24 * 3600.0
"""Seconds after which a temporary file of another machine may count as abandoned."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Error numbers of a full disk, an exhausted quota and a limit of the size of files."""


def cache_folder() -> Path:
    """Where decoded images and fetched data are kept: the environment variable GYRUS_CACHE, or ``~/.cache/gyrus``."""
    return Path(os.environ.get("GYRUS_CACHE") or Path.home() / ".cache" / "gyrus")


def cannot_write(path: Path, error: OSError) -> GyrusError:
    """The error for the user when a file or folder cannot be written."""
    advice = " Free some space, and repeat the command." if error.errno in FULL else ""
    return GyrusError(f"Cannot write {path}: {error.strerror or error}.{advice}")


def make_folder(path: Path) -> None:
    """Create a folder and its parents unless it exists.

    Raises:
        GyrusError: It cannot be created.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from error


@contextmanager
def atomic_path(path: Path, *, parents: bool = True) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when the block ends well.

    A reader, a crash or a full disk never sees half a file: the old one stays until the new one is whole. What killed
    processes have left in the same folder is removed.

    Args:
        path: The file.
        parents: Whether to create its folder.

    Raises:
        GyrusError: The folder cannot be written to, or the disk is full.
    """
    try:
        if parents:
            path.parent.mkdir(parents=True, exist_ok=True)
        with _temporary_file(path.parent, path.name) as temporary:
            yield temporary
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
    except OSError as error:
        raise cannot_write(path, error) from error


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder beside ``folder`` that takes its place when the block ends well.

    What killed processes have left beside it is removed.

    Raises:
        GyrusError: ``folder`` is not empty or not a folder, or cannot be written to.
    """
    try:
        remove_abandoned(folder.parent)  # also where the folder is refused
        require_empty(folder, "Give a new folder, or remove this one first.")
        remove_abandoned(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with temporary_folder(folder.parent, folder.name) as temporary:
            yield temporary
            temporary.chmod(0o777 & ~_umask())
            if folder.exists():
                folder.rmdir()
            temporary.replace(folder)
    except OSError as error:
        raise cannot_write(folder, error) from error


@contextmanager
def temporary_folder(parent: Path | None = None, name: str = "temporary") -> Iterator[Path]:
    """A folder for this block only; that of a killed process is removed by the next command.

    Args:
        parent: The folder to create it in, by default the system's folder of temporary files.
        name: What it is for.
    """
    with _temporary_file(parent or Path(tempfile.gettempdir()), name) as mark:
        folder = _folder_of(mark)
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _temporary_file(parent: Path, name: str) -> Iterator[Path]:
    """A new file in ``parent`` for this block, locked as a sign that its process is alive.

    The kernel releases the lock when the process ends in whatever way. Unlike a process number, it also holds between
    containers that share a disk.
    """
    remove_abandoned(parent)
    while True:
        handle, found = tempfile.mkstemp(dir=parent, prefix=f".gyrus-{_machine()}-", suffix=f"-{name[-40:]}")
        path = Path(found)
        if fcntl:
            with suppress(OSError):  # a file system without locks: nothing is removed there
                fcntl.flock(handle, fcntl.LOCK_EX)
        if path.exists():
            break
        os.close(handle)  # another process removed it before it was locked
    if not fcntl:  # Windows does not rename open files
        os.close(handle)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
        if fcntl:
            os.close(handle)


def remove_abandoned(parent: Path) -> None:
    """Remove the temporary files and folders that killed processes have left in a folder; once per process."""
    _remove_abandoned_once(parent.absolute())


@functools.cache
def _remove_abandoned_once(parent: Path) -> None:
    with suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            if match := TEMPORARY.fullmatch(entry.name):
                _remove_if_abandoned(Path(entry.path), same_machine=match[1] == _machine())


def _remove_if_abandoned(path: Path, *, same_machine: bool) -> None:
    """Remove a temporary file, and the folder that it stands for, unless its process may be alive."""
    if not fcntl:
        return
    with suppress(OSError):
        handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while its process is alive
            state = os.fstat(handle)
            ours = stat.S_ISREG(state.st_mode) and state.st_uid == os.geteuid()
            # Locks of some network file systems are not seen by other machines.
            if ours and (same_machine or time.time() - state.st_mtime > FOREIGN_AGE):
                shutil.rmtree(_folder_of(path), ignore_errors=True)
                path.unlink()
        finally:
            os.close(handle)


def _folder_of(mark: Path) -> Path:
    """The temporary folder that a temporary file stands for."""
    return mark.with_name(f"{mark.name}.folder")


@functools.cache
def _machine() -> str:
    """Eight digits that distinguish running systems; containers on one of them share it, as they share its locks."""
    try:
        system = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    except OSError:
        system = platform.node()
    return hashlib.sha256(system.encode()).hexdigest()[:8]


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def refuse_links(folder: Path, *, error: type[GyrusError] = GyrusError) -> None:
    """Refuse to write into a folder in which a link leads to another folder, where files would be changed.

    A link to a file is replaced when the file is written, and does no harm. The folder itself may be a link.

    Args:
        folder: It may be missing.
        error: The class of the error.

    Raises:
        GyrusError: A folder at any depth, or a lock file, is a link that leads out of ``folder``.
    """
    inside = folder.resolve()
    for place, folders, files in os.walk(inside):
        for name in [*folders, *(name for name in files if name.endswith(".lock"))]:
            path = Path(place, name)
            if path.is_symlink() and not path.resolve().is_relative_to(inside):
                raise error(f"{path} is a link that leads out of {folder}. Remove it; links are not followed.")


def remove_files(folder: Path, suffixes: Sequence[str]) -> None:
    """Delete the files below a folder that end in one of the suffixes, and folders that are then empty.

    Files of other kinds are kept, and links are not followed.
    """
    for place, _, files in os.walk(folder, topdown=False):
        for name in files:
            if name.endswith(tuple(suffixes)):
                Path(place, name).unlink(missing_ok=True)
        with suppress(OSError):  # other files are in it
            Path(place).rmdir()


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
    try:
        used = folder.exists() and (not folder.is_dir() or bool(names_in(folder) - set(ignored)))
    except OSError as impossible:
        raise cannot_write(folder, impossible) from impossible
    if used:
        raise error(f"{folder} is not an empty folder. {advice}")


def names_in(folder: Path) -> set[str]:
    """The names in a folder, without temporary files."""
    return {path.name for path in folder.iterdir() if not TEMPORARY.fullmatch(path.name)}


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


@contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """Report a file that the block cannot read.

    Libraries raise many kinds of errors for damaged files, so all of them are reported in the same way.

    Args:
        path: The file.
        kind: What it should be, with its article: "a manifest of Gyrus".

    Raises:
        DataError: The file is missing, damaged, or of another kind.
    """
    try:
        yield
    except MemoryError:
        raise
    except GyrusError as error:
        if str(path) in str(error):
            raise
        raise DataError(f"{path} is damaged or not {kind}: {error}") from error
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing.") from error
    except Exception as error:
        lines = str(error).strip().splitlines()
        reason = f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
        raise DataError(f"{path} is damaged or not {kind} ({reason}).") from error


@contextmanager
def open_arrays(path: Path) -> Iterator[Any]:
    """The arrays of an .npz file, without pickled objects; the file is closed even if it is damaged."""
    import numpy as np

    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        yield arrays


def read_lines(path: Path) -> io.StringIO:
    """A text file that ends with a newline, as every table that Gyrus writes.

    Raises:
        ValueError: The last line is incomplete, so the file was cut off.
    """
    text = path.read_text(encoding="utf-8")
    if not text.endswith("\n"):
        raise ValueError("its last line is incomplete")
    return io.StringIO(text)


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
