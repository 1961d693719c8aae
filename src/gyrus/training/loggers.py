"""Where a training is followed from elsewhere: TensorBoard, MLflow, Weights & Biases, through Lightning's loggers."""

from __future__ import annotations

import json
import logging
import math
import os
import re
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gyrus.errors import RunError
from gyrus.extras import missing_dependency
from gyrus.files import read_json, write_json
from gyrus.registry import look_up
from gyrus.training.config import Tracking

Row = Mapping[str, float]


class LoggerBackend(ABC):
    """A training in one of the places where it is followed.

    Attributes:
        library: What must be installed.
        extra: The optional dependencies that contain it.
    """

    library: str
    extra: str

    @abstractmethod
    def __init__(self, folder: Path, tracking: Tracking, identity: str | None) -> None:
        """Open it, or open it again where an earlier process has made it.

        Args:
            folder: The run folder.
            tracking: Where and as what.
            identity: What :attr:`identity` was then; None the first time.
        """
        self.logger: Any = None
        self.identity = identity or ""

    def log(self, metrics: Row, step: int) -> None:
        """Add numbers at a step."""
        self.logger.log_metrics(metrics, step=step)

    @abstractmethod
    def describe(self, parameters: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        """Say what is trained, and on what; once."""

    @abstractmethod
    def keep(self, figures: Sequence[Path], files: Sequence[Path]) -> None:
        """Add pictures (PNG) and files."""

    def close(self, *, well: bool) -> None:
        """Write what is left."""
        self.logger.finalize("success" if well else "failed")


class TensorBoard(LoggerBackend):
    """Events in ``tensorboard`` in the run folder."""

    library, extra = "tensorboard", "tensorboard"

    def __init__(self, folder: Path, tracking: Tracking, identity: str | None) -> None:
        """Open a file of events."""
        from lightning.pytorch.loggers import TensorBoardLogger

        super().__init__(folder, tracking, identity)
        self.logger = TensorBoardLogger(folder, name="tensorboard", version="")

    def describe(self, parameters: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        """As a table of text each."""
        for title, facts in (("parameters", parameters), ("tags", tags)):
            rows = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
            self.logger.experiment.add_text(title, f"| | |\n|---|---|\n{rows}")

    def keep(self, figures: Sequence[Path], files: Sequence[Path]) -> None:
        """Pictures; TensorBoard keeps no files, so the report is named."""
        import numpy as np
        from PIL import Image

        for path in figures:
            with Image.open(path) as image:
                self.logger.experiment.add_image(path.stem, np.asarray(image.convert("RGB")), dataformats="HWC")
        self.logger.experiment.add_text("files", "\n".join(f"- {path}" for path in files))


class MLflow(LoggerBackend):
    """A run on an MLflow server, or in a SQLite file beside the run folder."""

    library, extra = "mlflow", "tracking"

    def __init__(self, folder: Path, tracking: Tracking, identity: str | None) -> None:
        """Find or make the run."""
        from lightning.pytorch.loggers import MLFlowLogger
        from mlflow.exceptions import MlflowException

        logging.getLogger("lightning.pytorch.loggers.mlflow").setLevel(logging.ERROR)
        for name in ("alembic", "mlflow"):  # they tell of every table that they make
            logging.getLogger(name).setLevel(logging.WARNING)
        super().__init__(folder, tracking, identity)
        beside = folder.resolve().parent
        place = tracking.mlflow or os.environ.get("MLFLOW_TRACKING_URI")
        self.logger = MLFlowLogger(
            experiment_name=tracking.project,
            run_name=folder.resolve().name,
            tracking_uri=place or f"sqlite:///{beside / 'mlflow.db'}",
            artifact_location=None if place else (beside / "mlartifacts").as_uri(),
            run_id=identity,
        )
        try:
            with _kept_variable("MLFLOW_TRACKING_URI"):  # which MLflow sets, and the next run would take for the user's
                self.identity = self.logger.run_id
        except MlflowException as error:
            raise RunError(f"MLflow at {place or beside} cannot be used: {str(error).partition(chr(10))[0]}") from error

    def log(self, metrics: Row, step: int) -> None:
        """Add numbers at a step, under names that MLflow takes."""
        super().log({re.sub(r"[^\w/. -]", "_", name): value for name, value in metrics.items()}, step)

    def describe(self, parameters: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        """As parameters and tags."""
        self.logger.log_hyperparams(dict(parameters))
        for name, value in tags.items():
            self.logger.experiment.set_tag(self.identity, name, value)

    def keep(self, figures: Sequence[Path], files: Sequence[Path]) -> None:
        """As artefacts."""
        for path in figures:
            self.logger.experiment.log_artifact(self.identity, str(path), "figures")
        for path in files:
            self.logger.experiment.log_artifact(self.identity, str(path))


class WandB(LoggerBackend):
    """A run of Weights & Biases; offline, in ``wandb`` in the run folder, unless asked otherwise."""

    library, extra = "wandb", "tracking"

    def __init__(self, folder: Path, tracking: Tracking, identity: str | None) -> None:
        """Open the run; it tells nothing of the machine's code or git."""
        import wandb
        from lightning.pytorch.loggers import WandbLogger

        super().__init__(folder, tracking, identity or uuid.uuid4().hex[:8])
        run = wandb.init(
            project=tracking.project,
            name=folder.resolve().name,
            id=self.identity,
            dir=str(folder),
            mode="online" if tracking.wandb == "online" else "offline",
            resume="allow" if tracking.wandb == "online" else None,
            settings=wandb.Settings(silent=True, console="off", disable_git=True, disable_code=True),
        )
        run.define_metric("trainer/global_step")
        run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
        self.logger = WandbLogger(experiment=run)

    def describe(self, parameters: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        """As the run's config."""
        self.logger.experiment.config.update({**parameters, **{f"tag.{name}": value for name, value in tags.items()}})

    def keep(self, figures: Sequence[Path], files: Sequence[Path]) -> None:
        """Pictures as media, files as one artefact."""
        import wandb

        run = self.logger.experiment
        run.log({f"figures/{path.stem}": wandb.Image(str(path)) for path in figures})
        artefact = wandb.Artifact(f"run-{self.identity}", type="model")
        for path in files:
            artefact.add_file(str(path))
        run.log_artifact(artefact)

    def close(self, *, well: bool) -> None:
        """End the run."""
        self.logger.experiment.finish(exit_code=0 if well else 1)


LOGGERS: dict[str, type[LoggerBackend]] = {"tensorboard": TensorBoard, "mlflow": MLflow, "wandb": WandB}


class RunLogger:
    """All the places where a training is followed, as one."""

    def __init__(self, places: Mapping[str, LoggerBackend], fresh: Sequence[str], every: int) -> None:
        """Store the arguments.

        Args:
            places: By name.
            fresh: Those that know nothing yet.
            every: So many steps lie between two that are logged; 0: none is.
        """
        self.every = every
        self._places = places
        self._fresh = fresh

    def epoch(self, row: Row) -> None:
        """Log an epoch; a number without meaning is left out."""
        self._log(row, int(row["epoch"]))

    def step(self, loss: float, step: int) -> None:
        """Log the recent mean loss at a step, counted from 1 over all epochs."""
        if self.every and step % self.every == 0:
            self._log({"step_loss": loss}, step)

    def describe(self, parameters: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        """Say what is trained, and on what, wherever it is not known yet."""
        for name in self._fresh:
            self._places[name].describe(flat(parameters), tags)

    def keep(self, scores: Row, figures: Sequence[Path], files: Sequence[Path], *, step: int) -> None:
        """Add what came of it."""
        self._log(scores, step)
        for place in self._places.values():
            place.keep(figures, files)

    def _log(self, numbers: Row, step: int) -> None:
        finite = {name: value for name, value in numbers.items() if math.isfinite(value)}
        for place in self._places.values():
            place.log(finite, step)


@contextmanager
def open_log(names: Sequence[str], tracking: Tracking, folder: Path) -> Iterator[RunLogger]:
    """Open all places for a run folder while the block runs; a resumed training goes on where it was logged before.

    Raises:
        MissingDependencyError: A library is not installed; told before anything is written.
    """
    require_loggers(names)
    if not names:
        yield RunLogger({}, (), 0)
        return
    memory = folder / "tracking.json"
    known: dict[str, str] = read_json(memory) if memory.exists() else {}
    places = {name: look_up(name, LOGGERS, "logger")(folder, tracking, known.get(name)) for name in names}
    write_json(memory, known | {name: place.identity for name, place in places.items()})
    well = False
    try:
        yield RunLogger(places, [name for name in names if name not in known], tracking.every)
        well = True
    finally:
        for place in places.values():
            place.close(well=well)


@contextmanager
def _kept_variable(name: str) -> Iterator[None]:
    """Leave an environment variable as it was."""
    before = os.environ.get(name)
    try:
        yield
    finally:
        os.environ.pop(name, None)
        if before is not None:
            os.environ[name] = before


def require_loggers(names: Sequence[str]) -> None:
    """Refuse loggers whose library is not installed, before anything is trained.

    Raises:
        MissingDependencyError: Names what to install.
    """
    for name in names:
        place = look_up(name, LOGGERS, "logger")
        if find_spec(place.library) is None:
            raise missing_dependency(f"The logger {name} of training.loggers", place.extra)


def flat(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested document by dotted names; lists as JSON."""
    result: dict[str, Any] = {}
    for name, value in document.items():
        if isinstance(value, Mapping):
            result |= flat(value, f"{prefix}{name}.")
        else:
            result[f"{prefix}{name}"] = json.dumps(value) if isinstance(value, list | tuple) else value
    return result
