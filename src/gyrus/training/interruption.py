"""Ctrl-C and SIGTERM end a training cleanly, after the current batch."""

from __future__ import annotations

import signal
import threading
from typing import Any

from lightning.pytorch import Callback

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class InterruptedTraining(Exception):  # noqa: N818, it signals an event and not an error
    """A signal requested the end of the training; the current epoch is discarded."""


class Interruption(Callback):
    """Ends the training after the current batch when a signal arrives; a second signal has its previous effect."""

    def __init__(self) -> None:
        self._requested = False
        self._before: dict[signal.Signals, Any] = {}

    def on_train_start(self, *_: Any) -> None:
        """Called by Lightning after it has installed its own signal handlers, which these replace."""
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._request) for number in SIGNALS}

    def on_train_batch_end(self, *_: Any) -> None:
        """Called by Lightning after each training batch."""
        self._stop_if_requested()

    def on_validation_batch_end(self, *_: Any) -> None:
        """Called by Lightning after each validation batch."""
        self._stop_if_requested()

    def _request(self, *_: Any) -> None:
        self._requested = True
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _stop_if_requested(self) -> None:
        if self._requested:
            raise InterruptedTraining
