"""Further places to which epochs are logged."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from gyrus.errors import MissingDependencyError
from gyrus.registry import look_up

Row = Mapping[str, float]


def log_to_tensorboard(folder: Path, row: Row) -> None:
    """Add an epoch to the TensorBoard events in ``folder/tensorboard``."""
    from lightning.pytorch.loggers import TensorBoardLogger

    logger = TensorBoardLogger(folder, name="tensorboard", version="")
    logger.log_metrics({name: value for name, value in row.items() if math.isfinite(value)}, step=int(row["epoch"]))
    logger.finalize("success")


LOGGERS: dict[str, Callable[[Path, Row], None]] = {"tensorboard": log_to_tensorboard}


def require_loggers(names: Sequence[str]) -> None:
    """Refuse loggers whose library is not installed, before anything is trained.

    Raises:
        MissingDependencyError: Names what to install.
    """
    for name in names:
        if find_spec(name) is None:
            raise MissingDependencyError(f"training.loggers names {name}, which is not installed: pip install {name}.")


def log_epoch(names: Sequence[str], folder: Path, row: Row) -> None:
    """Log an epoch to each of the named loggers."""
    for name in names:
        look_up(name, LOGGERS, "logger")(folder, row)
