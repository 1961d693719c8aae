"""Logging of a training to TensorBoard, MLflow and Weights & Biases, through Lightning's loggers."""

from __future__ import annotations

import json
import logging
import math
import os
import re
import threading
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gyrus.errors import GyrusError, RunError
from gyrus.extras import missing_dependency
from gyrus.files import read_json, write_json
from gyrus.redaction import has_hidden_secret, without_secrets
from gyrus.registry import look_up
from gyrus.training.config import Tracking
from gyrus.training.history import Row


class LoggerBackend(ABC):
    """One destination of the log of a training.

    Attributes:
        library: The package that must be installed.
        extra: The optional dependencies that contain it.
    """

    library: str
    extra: str

    @abstractmethod
    def __init__(self, folder: Path, tracking: Tracking, identity: str | None) -> None:
        """Open the log, or reopen that of an earlier process.

        Args:
            folder: The run folder.
            tracking: The settings.
            identity: The value of :attr:`identity` in the earlier process; None the first time.
        """
        self.logger: Any = None
        self.identity = identity or ""

    def log(self, metrics: Row, step: int) -> None:
        """Log values at a step."""
        self.logger.log_metrics(metrics, step=step)

    @abstractmethod
    def describe(self, parameters: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        """Log configuration and tags, once."""

    @abstractmethod
    def save(self, figures: Sequence[Path], files: Sequence[Path]) -> None:
        """Log figures (PNG) and files."""

    def close(self, *, well: bool) -> None:
        """Write pending values and close the log."""
        self.logger.finalize("success" if well else "failed")


class TensorBoard(LoggerBackend):
    """An event file in ``tensorboard`` in the run folder."""

    library, extra = "tensorboard", "tensorboard"

    def __init__(self, folder: Path, tracking: Tracking, identity: str | None) -> None:
        """Open an event file."""
        from lightning.pytorch.loggers import TensorBoardLogger

        super().__init__(folder, tracking, identity)
        self.logger = TensorBoardLogger(folder, name="tensorboard", version="")

    def describe(self, parameters: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        """Log each as a text table."""
        for title, facts in (("parameters", parameters), ("tags", tags)):
            rows = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
            self.logger.experiment.add_text(title, f"| | |\n|---|---|\n{rows}")

    def save(self, figures: Sequence[Path], files: Sequence[Path]) -> None:
        """Log figures, and the paths of files, because TensorBoard stores no files."""
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
        """Find or create the run."""
        from lightning.pytorch.loggers import MLFlowLogger
        from mlflow.exceptions import MlflowException

        logging.getLogger("lightning.pytorch.loggers.mlflow").setLevel(logging.ERROR)
        for name in ("alembic", "mlflow"):  # they log every table that they create
            logging.getLogger(name).setLevel(logging.WARNING)
        super().__init__(folder, tracking, identity)
        beside = folder.resolve().parent
        uri = _mlflow_address(tracking)
        self.logger = MLFlowLogger(
            experiment_name=tracking.project,
            run_name=folder.resolve().name,
            tracking_uri=uri or f"sqlite:///{beside / 'mlflow.db'}",
            artifact_location=None if uri else (beside / "mlartifacts").as_uri(),
            run_id=identity,
        )
        try:
            with _restored_variable("MLFLOW_TRACKING_URI"):  # MLflow sets it, and the next run would read it
                self.identity = self.logger.run_id
        except MlflowException as error:
            reason = str(error).partition("\n")[0]
            raise RunError(without_secrets(f"MLflow at {uri or beside} cannot be used: {reason}")) from error

    def log(self, metrics: Row, step: int) -> None:
        """Log values at a step, under names that MLflow accepts."""
        super().log({re.sub(r"[^\w/. -]", "_", name): value for name, value in metrics.items()}, step)

    def describe(self, parameters: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        """Log parameters and tags."""
        self.logger.log_hyperparams(dict(parameters))
        for name, value in tags.items():
            self.logger.experiment.set_tag(self.identity, name, value)

    def save(self, figures: Sequence[Path], files: Sequence[Path]) -> None:
        """Log artifacts."""
        for path in figures:
            self.logger.experiment.log_artifact(self.identity, str(path), "figures")
        for path in files:
            self.logger.experiment.log_artifact(self.identity, str(path))


class WandB(LoggerBackend):
    """A run of Weights & Biases; by default offline, in ``wandb`` in the run folder."""

    library, extra = "wandb", "tracking"

    def __init__(self, folder: Path, tracking: Tracking, identity: str | None) -> None:
        """Open the run, without source code, git state, command line or names of user and machine."""
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
            settings=wandb.Settings(
                silent=True, console="off", disable_git=True, disable_code=True, x_disable_meta=True
            ),
        )
        run.define_metric("trainer/global_step")
        run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
        self.logger = WandbLogger(experiment=run)

    def describe(self, parameters: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        """Log the config of the run."""
        self.logger.experiment.config.update({**parameters, **{f"tag.{name}": value for name, value in tags.items()}})

    def save(self, figures: Sequence[Path], files: Sequence[Path]) -> None:
        """Log figures as media, files as one artifact."""
        import wandb

        run = self.logger.experiment
        run.log({f"figures/{path.stem}": wandb.Image(str(path)) for path in figures})
        artifact = wandb.Artifact(f"run-{self.identity}", type="model")
        for path in files:
            artifact.add_file(str(path))
        run.log_artifact(artifact)

    def close(self, *, well: bool) -> None:
        """Finish the run."""
        self.logger.experiment.finish(exit_code=0 if well else 1)


LOGGERS: dict[str, type[LoggerBackend]] = {"tensorboard": TensorBoard, "mlflow": MLflow, "wandb": WandB}


class RunLogger:
    """The log of a training: all its destinations."""

    def __init__(self, destinations: Mapping[str, LoggerBackend], new: Sequence[str], every: int) -> None:
        """Store the arguments.

        Args:
            destinations: By name.
            new: Names of those that have no content yet.
            every: Log the loss every so many steps; 0: never.
        """
        self.every = every
        self._destinations = destinations
        self._new = new

    def epoch(self, row: Row) -> None:
        """Log an epoch; undefined values are left out."""
        self._log(row, int(row["epoch"]))

    def step(self, loss: float, step: int) -> None:
        """Log the recent mean loss at a step, counted from 1 over all epochs."""
        if self.every and step % self.every == 0:
            self._log({"step_loss": loss}, step)

    def describe(self, parameters: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        """Log configuration and tags to all new destinations."""
        for name in self._new:
            with _reported(name):
                self._destinations[name].describe(flatten(parameters), tags)

    def save(self, scores: Row, figures: Sequence[Path], files: Sequence[Path], *, step: int) -> None:
        """Log final scores, figures and files."""
        self._log(scores, step)
        for name, destination in self._destinations.items():
            with _reported(name):
                destination.save(figures, files)

    def _log(self, values: Row, step: int) -> None:
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        for name, destination in self._destinations.items():
            with _reported(name):
                destination.log(finite, step)


@contextmanager
def open_log(names: Sequence[str], tracking: Tracking, folder: Path) -> Iterator[RunLogger]:
    """Open all loggers of a run folder for the block; a resumed training continues its earlier logs.

    Raises:
        MissingDependencyError: A library is not installed; raised before anything is written.
    """
    require_loggers(names)
    if not names:
        yield RunLogger({}, (), 0)
        return
    identities = folder / "tracking.json"
    known: dict[str, str] = read_json(identities) if identities.exists() else {}
    destinations: dict[str, LoggerBackend] = {}
    for name in names:
        with _reported(name):
            destinations[name] = look_up(name, LOGGERS, "logger")(folder, tracking, known.get(name))
    write_json(identities, known | {name: log.identity for name, log in destinations.items()})
    with _quiet_threads():
        try:
            yield RunLogger(destinations, [name for name in names if name not in known], tracking.every)
        except BaseException:
            for destination in destinations.values():
                with suppress(Exception):  # the first error is the one to report
                    destination.close(well=False)
            raise
        for name, destination in destinations.items():
            with _reported(name):
                destination.close(well=True)


@contextmanager
def _reported(name: str) -> Iterator[None]:
    """Report a logger that fails inside the block; the libraries raise many kinds of errors for a full disk."""
    try:
        yield
    except GyrusError:
        raise
    except Exception as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise RunError(
            f"The logger {name} failed: {reason.rstrip('.')}. The disk may be full, or its server lost. Resume the run "
            "when that is mended, or without the logger: remove it from training.loggers in config.yaml."
        ) from error


@contextmanager
def _quiet_threads() -> Iterator[None]:
    """Print no traceback of a thread of a logger that cannot write; the logger raises the error at its next use."""
    before = threading.excepthook

    def report(failure: threading.ExceptHookArgs) -> None:
        if not issubclass(failure.exc_type, OSError):
            before(failure)

    threading.excepthook = report
    try:
        yield
    finally:
        threading.excepthook = before


def _mlflow_address(tracking: Tracking) -> str | None:
    """The address of the config or of the environment; None for a file beside the run folder."""
    environment = os.environ.get("MLFLOW_TRACKING_URI")
    if tracking.mlflow is None or not has_hidden_secret(tracking.mlflow):
        return tracking.mlflow or environment
    if environment:  # of a resumed run, whose config was stored without the password
        return environment
    raise RunError(
        f"The password of the tracking server {tracking.mlflow} is not stored in the run folder. Set the environment "
        "variable MLFLOW_TRACKING_URI to the whole address, and continue."
    )


@contextmanager
def _restored_variable(name: str) -> Iterator[None]:
    """Restore an environment variable at the end of the block."""
    before = os.environ.get(name)
    try:
        yield
    finally:
        os.environ.pop(name, None)
        if before is not None:
            os.environ[name] = before


def require_loggers(names: Sequence[str]) -> None:
    """Refuse loggers whose library is not installed, before training starts.

    Raises:
        MissingDependencyError: The message says what to install.
    """
    for name in names:
        logger = look_up(name, LOGGERS, "logger")
        if find_spec(logger.library) is None:
            raise missing_dependency(f"The logger {name} of training.loggers", logger.extra)


def flatten(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested document as dotted names and values; lists as JSON."""
    result: dict[str, Any] = {}
    for name, value in document.items():
        if isinstance(value, Mapping):
            result |= flatten(value, f"{prefix}{name}.")
        else:
            result[f"{prefix}{name}"] = json.dumps(value) if isinstance(value, list | tuple) else value
    return result
