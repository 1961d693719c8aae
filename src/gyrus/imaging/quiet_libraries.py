"""Keep the libraries that decode images from writing to the terminal; Gyrus reports the reasons in its own words."""

from __future__ import annotations

import ctypes
import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any, TextIO

_LOGGERS = ("PIL", "nibabel", "nibabel.global", "pydicom", "highdicom")
_LIBTIFF_HANDLERS = ("TIFFSetErrorHandler", "TIFFSetWarningHandler")
_ABOVE_ALL_LEVELS = logging.CRITICAL + 1


class _WhileAnyThread:
    """A context for all threads: the first thread to enter opens it, the last one to leave closes it."""

    def __init__(self, open_once: Callable[[ExitStack], None]) -> None:
        self._open_once = open_once
        self._lock = threading.Lock()
        self._users = 0
        self._opened = ExitStack()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            if self._users == 0:
                self._open_once(self._opened)
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0:
                    self._opened.close()


def _quieten(opened: ExitStack) -> None:
    opened.enter_context(warnings.catch_warnings())
    warnings.filterwarnings("ignore", module=r"(PIL|nibabel|numpy|pydicom|highdicom|SimpleITK)(\.|$)")
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        opened.callback(logger.setLevel, logger.level)
        logger.setLevel(_ABOVE_ALL_LEVELS)
    for set_handler in _libtiff():
        opened.callback(set_handler, set_handler(None))


@cache
def _libtiff() -> tuple[Callable[[Any], Any], ...]:
    """The functions of Pillow's libtiff that set where its messages go; empty where they cannot be reached."""
    from PIL import Image

    functions = []
    for name in _LIBTIFF_HANDLERS:
        try:
            function = getattr(ctypes.CDLL(Image.core.__file__), name)
        except (OSError, AttributeError):
            return ()
        function.argtypes, function.restype = [ctypes.c_void_p], ctypes.c_void_p
        functions.append(function)
    return tuple(functions)


quiet_libraries = _WhileAnyThread(_quieten)
"""A context in which Pillow, libtiff, nibabel, NumPy, SimpleITK, pydicom and highdicom neither warn nor log;
thread-safe."""


class _Stderr:
    """Standard error for Python, while libraries in C write theirs to nowhere."""

    def __init__(self) -> None:
        self._descriptor: int | None = None
        self._stream: TextIO | None = None

    def redirect(self, opened: ExitStack) -> None:
        try:
            # The same descriptor every time: others, such as a progress bar, may keep the stream.
            self._descriptor = os.dup(2) if self._descriptor is None else os.dup2(2, self._descriptor)
            nowhere = os.open(os.devnull, os.O_WRONLY)
        except OSError:  # there is no standard error, so nothing can be written to it
            return
        opened.callback(self._restore, sys.stderr)
        if self._writes_to_descriptor_2(sys.stderr):
            sys.stderr.flush()
            if self._stream is None:
                self._stream = open(  # noqa: SIM115
                    self._descriptor, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False
                )
            sys.stderr = self._stream
        os.dup2(nowhere, 2)
        os.close(nowhere)

    def _restore(self, before: TextIO) -> None:
        assert self._descriptor is not None
        if self._stream is not None:
            self._stream.flush()
        os.dup2(self._descriptor, 2)
        if sys.stderr is self._stream:
            sys.stderr = before

    @staticmethod
    def _writes_to_descriptor_2(stream: TextIO) -> bool:
        try:
            return getattr(stream, "rich_proxied_file", stream).fileno() == 2
        except (AttributeError, OSError, ValueError):
            return False


silent_stderr = _WhileAnyThread(_Stderr().redirect)
"""A context in which libraries in C cannot write to standard error, and Python still can; thread-safe. For those whose
messages cannot be turned off: GDCM, OpenJPEG and MetaIO."""
