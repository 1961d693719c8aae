"""The run folder: everything that one training leaves behind."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from gyrus.errors import RunError
from gyrus.extras import DISTRIBUTION
from gyrus.files import read_json, write_json

Status = Literal["started", "interrupted", "failed", "finished"]

LIBRARIES = (DISTRIBUTION, "torch", "torchvision", "lightning", "timm", "numpy", "pandas", "pillow", "scikit-learn")

NAMED_BY_GYRUS = re.compile(r"subject|image|shuffled-labels|(seed|fold)-\d+")
"""Run folders inside another folder, whose names alone do not tell them apart."""


@dataclass(frozen=True)
class Run:
    """A run folder and the names of what lies in it.

    Attributes:
        folder: The folder.
    """

    folder: Path

    @property
    def title(self) -> str:
        """The name of the folder; together with that of the one above where Gyrus itself has named it."""
        whole = self.folder.resolve()
        return f"{whole.parent.name}/{whole.name}" if NAMED_BY_GYRUS.fullmatch(whole.name) else whole.name

    @property
    def config(self) -> Path:
        """The resolved config, YAML, with every default spelt out."""
        return self.folder / "config.yaml"

    @property
    def manifest(self) -> Path:
        """What the data consisted of, parquet."""
        return self.folder / "manifest.parquet"

    @property
    def split(self) -> Path:
        """Who was in which part, JSON."""
        return self.folder / "split.json"

    @property
    def preprocessing(self) -> Path:
        """The steps and the fitted intensity scaling, JSON."""
        return self.folder / "preprocessing.json"

    @property
    def model(self) -> Path:
        """What the network is, JSON; its best weights lie beside it."""
        return self.folder / "model.json"

    @property
    def weights(self) -> Path:
        """The best weights, safetensors."""
        return self.folder / "model.safetensors"

    @property
    def history(self) -> Path:
        """One row an epoch, CSV."""
        return self.folder / "history.csv"

    @property
    def metrics(self) -> Path:
        """The evaluation on the test set, JSON."""
        return self.folder / "metrics.json"

    @property
    def classification_report(self) -> Path:
        """The same as text."""
        return self.folder / "classification_report.txt"

    @property
    def report(self) -> Path:
        """The page for people, HTML."""
        return self.folder / "report.html"

    @property
    def card(self) -> Path:
        """The model card, Markdown."""
        return self.folder / "model_card.md"

    @property
    def figures(self) -> Path:
        """Folder of the figures, PNG and SVG."""
        return self.folder / "figures"

    @property
    def baselines(self) -> Path:
        """What the classifier must beat, judged on the same people, JSON."""
        return self.folder / "baselines.json"

    @property
    def audit(self) -> Path:
        """Folder of what ``gyrus audit --run`` found out about its data and its split."""
        return self.folder / "audit"

    @property
    def explanation(self) -> Path:
        """Folder of what ``gyrus explain`` found out about where its answers come from."""
        return self.folder / "explanation"

    @property
    def assessment(self) -> Path:
        """Calibration, operating points, decision curve, abstention and sets of classes, JSON."""
        return self.folder / "assessment.json"

    @property
    def subgroups(self) -> Path:
        """Scores of groups of people and images, JSON."""
        return self.folder / "subgroups.json"

    @property
    def quality(self) -> Path:
        """Sharpness and noise of the images of the test set, CSV."""
        return self.folder / "quality.csv"

    @property
    def shuffled(self) -> Path:
        """The run of the same network on labels dealt out anew among the people, where that was asked for."""
        return self.folder / "shuffled-labels"

    @property
    def examples(self) -> Path:
        """The images of the test set that the network was surest about, rightly and wrongly, NumPy."""
        return self.folder / "examples.npz"

    @property
    def embeddings(self) -> Path:
        """Where the network puts images of the test set, NumPy."""
        return self.folder / "embeddings.npz"

    def predictions(self, subset: str) -> Path:
        """The predictions on a part, parquet."""
        return self.folder / "predictions" / f"{subset}.parquet"

    @property
    def status(self) -> Status:
        """How far the run has come."""
        return read_json(self.folder / "run.json")["status"]

    def mark(self, status: Status, **facts: Any) -> None:
        """Record how far the run has come, and further facts."""
        path = self.folder / "run.json"
        known = read_json(path) if path.exists() else {"created": _now()}
        write_json(path, {**known, **facts, "status": status, "updated": _now()})

    @classmethod
    def create(cls, folder: Path) -> Run:
        """Begin a run in a new or empty folder.

        Raises:
            RunError: Something lies there already.
        """
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            hint = "It holds a run; continue it with --resume, or" if (folder / "run.json").exists() else "Please"
            raise RunError(f"{folder} is not empty. {hint} give a new folder with --out.")
        folder.mkdir(parents=True, exist_ok=True)
        run = cls(folder)
        write_json(folder / "environment.json", environment())
        run.mark("started", command=sys.argv)
        return run

    @classmethod
    def open(cls, folder: Path, *, finished: bool = True) -> Run:
        """Open the run in a folder.

        Args:
            folder: The folder.
            finished: Whether the run must have come to its end.

        Raises:
            RunError: There is no run, or it has not finished.
        """
        folder = Path(folder)
        if not (folder / "run.json").is_file():
            raise RunError(f"There is no run in {folder}: it has no run.json. Name the folder given as --out to train.")
        run = cls(folder)
        if finished and run.status != "finished":
            raise RunError(
                f"The run in {folder} has not finished ({run.status}). Continue it with: gyrus train --resume {folder}"
            )
        return run

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from writing into the same run.

        Raises:
            RunError: Another process is in it.
        """
        try:
            with FileLock(self.folder / ".lock", timeout=0):
                yield
        except Timeout as error:
            raise RunError(
                f"Another process is writing into {self.folder}. Wait for it, or use another --out."
            ) from error


def environment() -> dict[str, Any]:
    """Versions and machine, for whoever repeats the run; nothing that names a person or a place."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "libraries": {name: found for name in LIBRARIES if (found := installed_version(name))},
    }


def installed_version(distribution: str) -> str | None:
    """The version of an installed distribution, or None."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
