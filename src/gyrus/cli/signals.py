"""Signals that request the end of a command."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

REQUESTS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Sent by clusters, containers and ``kill``, and when a terminal is closed."""


@contextmanager
def ended_by_signals() -> Iterator[list[int]]:
    """End the block as Ctrl-C does when a signal requests it, so that temporary files are removed.

    A second signal ends the process at once. A signal that the process ignores, as under ``nohup``, stays ignored.

    Yields:
        The numbers of the signals that have arrived.
    """
    arrived: list[int] = []
    before: dict[int, Any] = {}

    def end(number: int, _: object) -> None:
        arrived.append(number)
        for each in before:
            signal.signal(each, signal.SIG_DFL)
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in REQUESTS}
        before = {number: handler for number, handler in before.items() if handler == signal.SIG_DFL}
        for number in before:
            signal.signal(number, end)
    try:
        yield arrived
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
