"""Train several classifiers, one after the other here or at once where the user wants it; the results are the same."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from gyrus.datasets.manifest import Manifest
from gyrus.datasets.store import open_store
from gyrus.executor import current_executor, map_tasks, runs_here
from gyrus.files import cache_folder
from gyrus.transforms.preprocessing import PreprocessingConfig
from gyrus.workflows.display import Display, Silent, show_notes

Training = Callable[[Display], object]
"""Trains one classifier in a folder of its own, or continues it. It can be pickled, and its paths are absolute."""


def train_all(
    trainings: Mapping[str, Training], manifest: Manifest, preprocessing: PreprocessingConfig, display: Display
) -> None:
    """Run trainings that are independent of each other.

    Each computes with as many threads as it would in this process, because their number changes the rounding of sums.

    Args:
        trainings: By title.
        manifest: The data of all of them, whose images all workers prepare together before the first training.
        preprocessing: The steps.
        display: Where progress is shown. Messages of a training that runs elsewhere are shown when it has finished.

    Raises:
        GyrusError: A training failed; the others are ended, and continue with the next call.
        KeyboardInterrupt: One was interrupted.
    """
    if runs_here():
        for title, training in trainings.items():
            display.say(f"{title}:")
            training(display)
        return
    if manifest.has_images:
        with display.progress("Decoding images") as progress:
            open_store(manifest, preprocessing, progress=progress)
    show_notes(display, [_note_on_threads(min(current_executor().places, len(trainings)))])
    process = _Process.current()
    with display.progress("Training") as progress:
        progress(0, len(trainings))
        messages = map_tasks(process.run, list(trainings.values()), whole=True)
        for done, (title, lines) in enumerate(zip(trainings, messages, strict=True), 1):
            progress(done, len(trainings))
            for line in (f"{title}:", *lines):
                display.say(line)


class _Recorded(Silent):
    """A display that keeps the messages."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        """Keep a line."""
        self.lines.append(text)


@dataclass(frozen=True)
class _Process:
    """What a training takes from its process, and what it must find in another one too.

    Attributes:
        command: The words of the command, which a run stores.
        folder: The working folder, for relative paths in configs.
        cache: The folder of GYRUS_CACHE.
        threads: Threads of PyTorch.
    """

    command: tuple[str, ...]
    folder: Path
    cache: Path
    threads: int

    @classmethod
    def current(cls) -> _Process:
        return cls(tuple(sys.argv), Path.cwd(), cache_folder().absolute(), torch.get_num_threads())

    def run(self, training: Training) -> list[str]:
        """Train in this process; returns the messages."""
        display, before = _Recorded(), (sys.argv, os.environ.get("GYRUS_CACHE"), torch.get_num_threads())
        sys.argv = list(self.command)
        os.environ["GYRUS_CACHE"] = str(self.cache)
        torch.set_num_threads(self.threads)
        with suppress(OSError):  # another machine may lack it
            os.chdir(self.folder)
        try:
            training(display)
        finally:
            sys.argv = before[0]
            os.environ.pop("GYRUS_CACHE") if before[1] is None else os.environ.update(GYRUS_CACHE=before[1])
            torch.set_num_threads(before[2])
        return display.lines


def _note_on_threads(trainings: int) -> str:
    threads, cores = torch.get_num_threads(), os.cpu_count() or 1
    if trainings * threads <= cores or trainings == 1:
        return ""
    return (
        f"{trainings} trainings run at once, each with {threads} threads as a single one would have, so that the "
        f"results are the same. On a machine with {cores} cores OMP_NUM_THREADS={max(1, cores // trainings)} is faster"
    )
