"""The files of a training: checkpoints, from which it can be resumed, and its history.

Checkpoints are written atomically and read without unpickling code.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gyrus.errors import RunError
from gyrus.files import atomic_path, digest, reading, write_text
from gyrus.runs.run_folder import Run
from gyrus.text import one_per_line
from gyrus.training.config import EMA, MAY_CHANGE, TrainingConfig
from gyrus.training.data_loader import BatchDataset
from gyrus.training.history import History
from gyrus.training.progress import epoch_line

FORMAT = 1
"""Version of the content of a checkpoint."""

Snapshot = dict[str, Any]
"""Everything that the next epoch depends on."""


class CheckpointWriter:
    """Writes and reads the files of a training.

    ``last.ckpt`` is written first and contains everything that the other files are derived from. If the process is
    killed between two files, they are written again when the training is resumed.

    Attributes:
        folder: The run folder.
        history: The CSV file.
    """

    def __init__(self, folder: Path, config: TrainingConfig, settings: dict[str, Any]) -> None:
        """Store the arguments.

        Args:
            folder: The run folder.
            config: All settings of the training.
            settings: What must be the same when the training is resumed; see :func:`settings_of`.
        """
        self.folder = folder
        run = Run(folder)
        self.history = run.history
        self._last = run.checkpoint
        self._best = self._last.with_name("best.ckpt")
        self._swa = self._last.with_name("swa.ckpt")
        self._config = config
        self._settings = settings

    def begin(self, *, resume: bool, automatic: Iterable[str] = ()) -> Snapshot | None:
        """The snapshot from which to continue, or None to start from the beginning.

        Args:
            resume: Whether a training in the folder is continued.
            automatic: Settings of the training that are chosen for the device; a snapshot decides them.

        Raises:
            RunError: The folder contains a training that is not to be resumed, or one with other settings.
        """
        if not self._last.exists():
            return None
        if not resume:
            raise RunError(f"{self._last.parent} already contains a training. Resume it, or choose another folder.")
        snapshot = self.last()
        missing = {"settings", "history", "model", "optimiser"} - snapshot.keys()
        if missing:
            raise RunError(f"{self._last} is not the state of a training: it lacks {', '.join(sorted(missing))}.")
        before = {name: snapshot["settings"].get(name) for name in map("training.{}".format, automatic)}
        self._settings = {**self._settings, **before}
        _refuse_other_settings(snapshot["settings"], self._settings)
        self._write_derived_files(snapshot)
        return snapshot

    @property
    def path(self) -> Path:
        """``last.ckpt``."""
        return self._last

    @property
    def best_path(self) -> Path:
        """``best.ckpt``."""
        return self._best

    def save(self, snapshot: Snapshot) -> None:
        """Write all files after an epoch."""
        save_checkpoint(self._last, snapshot | {"settings": self._settings})
        self._write_derived_files(snapshot)

    def last(self) -> Snapshot:
        """The snapshot after the last complete epoch."""
        return load_checkpoint(self._last)

    def best_weights(self) -> dict[str, Any]:
        """The state of the model after its best epoch."""
        with reading(self._best, "the best weights of a training"):
            return load_checkpoint(self._best)["model"]

    def swa(self) -> dict[str, Any] | None:
        """The content of ``swa.ckpt``, if :meth:`save_swa` has written it."""
        return load_checkpoint(self._swa) if self._swa.exists() else None

    def save_swa(self, weights: dict[str, Any], scores: dict[str, float]) -> None:
        """Write averaged weights and their scores."""
        save_checkpoint(self._swa, {"model": weights, "scores": scores, "classes": self._settings["classes"]})

    def _write_derived_files(self, snapshot: Snapshot) -> None:
        history = History(tuple(snapshot["history"]))
        monitor = self._config.monitor
        if history.best_epoch(monitor) == len(history):
            averaged = isinstance(self._config.averaging, EMA)
            weights = snapshot["average"]["model"] if averaged else snapshot["model"]
            facts = {"epoch": len(history), "monitor": monitor, "score": history.rows[-1][monitor]}
            save_checkpoint(self._best, {"model": weights, "classes": self._settings["classes"], **facts})
        history.write_csv(self.history)
        lines = [epoch_line(row, self._config.epochs, monitor) for row in history.rows]
        write_text(self.folder / "history.txt", one_per_line(lines) + "\n")


def settings_of(
    config: TrainingConfig, train: BatchDataset, val: BatchDataset, classes: Sequence[str], seed: int
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


def save_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Write ``content`` (tensors, numbers, strings, and lists and dicts of them), atomically."""
    with atomic_path(path) as temporary:
        try:
            torch.save({"format": FORMAT, **content}, temporary)
        except RuntimeError as error:
            # PyTorch does not pass on the error of the system. Almost always, the disk is full.
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a file of :func:`save_checkpoint` onto the CPU. Code in the file is never executed.

    Raises:
        RunError: The file is missing or damaged, is not a checkpoint, or has a newer format.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise RunError(f"There is no checkpoint {path}.") from error
    except Exception as error:
        # PyTorch raises many kinds of errors for damaged files, RuntimeError and EOFError among them.
        raise RunError(
            f"{path} is damaged or not a checkpoint of Gyrus ({type(error).__name__}). Start a new training."
        ) from error
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise RunError(f"{path} has format {found}, but this version of Gyrus reads format {FORMAT}.")
    return content


def _refuse_other_settings(before: dict[str, Any], now: dict[str, Any]) -> None:
    other = [name for name in sorted(before.keys() | now.keys()) if before.get(name) != now.get(name)]
    if other:
        changes = "; ".join(f"{name} was {before.get(name)!r}, is {now.get(name)!r}" for name in other)
        raise RunError(
            f"A training can only be resumed with its original settings: {changes}. Restore them, or start a new run."
        )
