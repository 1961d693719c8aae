"""Ctrl-C and SIGTERM end a training cleanly, at the next step."""

from __future__ import annotations

import signal
import threading
from typing import Any

from lightning.pytorch import Callback

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class InterruptedTraining(Exception):  # noqa: N818, it is a message and no mistake
    """A signal asked the training to end; the epoch in progress is given up."""


class Interruption(Callback):
    """Ends the training at the next batch after a signal; a second signal acts as it did before the training."""

    def __init__(self) -> None:
        self._asked = False
        self._before: dict[signal.Signals, Any] = {}

    def on_train_start(self, *_: Any) -> None:
        """Called by Lightning when its own handlers are in place; these come before them."""
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._ask) for number in SIGNALS}

    def on_train_batch_end(self, *_: Any) -> None:
        """Called by Lightning after each training batch."""
        self._obey()

    def on_validation_batch_end(self, *_: Any) -> None:
        """Called by Lightning after each validation batch."""
        self._obey()

    def _ask(self, *_: Any) -> None:
        self._asked = True
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _obey(self) -> None:
        if self._asked:
            raise InterruptedTraining
