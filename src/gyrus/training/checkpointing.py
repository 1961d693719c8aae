"""The files of a training: checkpoints, history, logs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gyrus.errors import RunError
from gyrus.files import digest, write_text
from gyrus.training.checkpoints import load_checkpoint, remove_abandoned, save_checkpoint
from gyrus.training.config import EMA, TrainingConfig
from gyrus.training.data_loader import PartDataset
from gyrus.training.history import History
from gyrus.training.progress import epoch_line

MAY_CHANGE = frozenset({"workers", "device", "loggers", "tracking"})
"""Settings that may change when a training is resumed."""

Snapshot = dict[str, Any]


class CheckpointWriter:
    """Writes and reads the files of a training.

    ``last.ckpt`` is written first and holds all that the others are made from, so that a kill between any two
    writes is mended when the training is resumed.

    Attributes:
        folder: Where everything lies.
        history: The CSV file.
    """

    def __init__(self, folder: Path, config: TrainingConfig, settings: dict[str, Any]) -> None:
        """Store the arguments.

        Args:
            folder: Where everything lies.
            config: All settings of the training.
            settings: What must be the same when it is resumed; see :func:`settings_of`.
        """
        self.folder = folder
        self.history = folder / "history.csv"
        self._last = folder / "checkpoints" / "last.ckpt"
        self._best = folder / "checkpoints" / "best.ckpt"
        self._swa = folder / "checkpoints" / "swa.ckpt"
        self._config = config
        self._settings = settings

    def begin(self, *, resume: bool) -> Snapshot | None:
        """The snapshot to go on from, or None to begin.

        Raises:
            RunError: The folder holds a training that is not to be resumed, or one of other settings.
        """
        if not self._last.exists():
            return None
        if not resume:
            raise RunError(f"{self._last.parent} holds a training already. Resume it, or name another folder.")
        remove_abandoned(self._last.parent)
        snapshot = self.last()
        _refuse_other_settings(snapshot["settings"], self._settings)
        self._write_rest(snapshot)
        return snapshot

    def epoch_over(self, snapshot: Snapshot) -> None:
        """Write everything after an epoch."""
        save_checkpoint(self._last, snapshot | {"settings": self._settings})
        self._write_rest(snapshot)

    def last(self) -> Snapshot:
        """The snapshot after the latest epoch."""
        return load_checkpoint(self._last)

    def best_weights(self) -> dict[str, Any]:
        """The state of the model after its best epoch."""
        return load_checkpoint(self._best)["model"]

    def swa(self) -> dict[str, Any] | None:
        """What :meth:`keep_swa` kept, if it did."""
        return load_checkpoint(self._swa) if self._swa.exists() else None

    def keep_swa(self, weights: dict[str, Any], scores: dict[str, float]) -> None:
        """Write averaged weights and their scores."""
        save_checkpoint(self._swa, {"model": weights, "scores": scores, "classes": self._settings["classes"]})

    def _write_rest(self, snapshot: Snapshot) -> None:
        history = History(tuple(snapshot["history"]))
        monitor = self._config.monitor
        if history.best_epoch(monitor) == len(history):
            averaged = isinstance(self._config.averaging, EMA)
            weights = snapshot["average"]["model"] if averaged else snapshot["model"]
            about = {"epoch": len(history), "monitor": monitor, "score": history.rows[-1][monitor]}
            save_checkpoint(self._best, {"model": weights, "classes": self._settings["classes"], **about})
        history.write_csv(self.history)
        lines = [epoch_line(row, self._config.epochs, monitor) for row in history.rows]
        write_text(self.folder / "history.txt", "\n".join(lines) + "\n")


def settings_of(
    config: TrainingConfig, train: PartDataset, val: PartDataset, classes: Sequence[str], seed: int
) -> dict[str, Any]:
    """What must be the same when a training is resumed."""
    fields = config.model_dump(mode="json", exclude=set(MAY_CHANGE))
    return {
        **{f"training.{name}": value for name, value in fields.items()},
        "classes": list(classes),
        "seed": seed,
        "train labels": digest(np.asarray(train.targets).tolist()),
        "val labels": digest(np.asarray(val.targets).tolist()),
    }


def _refuse_other_settings(before: dict[str, Any], now: dict[str, Any]) -> None:
    other = [name for name in sorted(before.keys() | now.keys()) if before.get(name) != now.get(name)]
    if other:
        changes = "; ".join(f"{name} was {before.get(name)!r}, is {now.get(name)!r}" for name in other)
        raise RunError(
            f"A training can only be resumed with the settings it began with: {changes}. Or start a new run."
        )
