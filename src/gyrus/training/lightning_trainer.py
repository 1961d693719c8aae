"""Lightning's trainer, configured so that users never see it.

Ctrl-C, SIGTERM and SIGHUP end it after the current batch.
"""

from __future__ import annotations

import logging
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.plugins.environments import LightningEnvironment

from gyrus.errors import RunError
from gyrus.training.data_loader import Loader
from gyrus.training.lightning_module import TrainingModule

NOISE = (
    ".*isinstance\\(treespec, LeafSpec\\).* is deprecated.*",
    ".*does not have many workers.*",
    ".*eval mode at the start of training.*",
    ".*available but not used.*",
)
"""Warnings about Lightning's own code, or about choices that are intended: the config names the device."""


SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


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
            heeded = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]  # not under nohup
            self._before = {number: signal.signal(number, self._request) for number in heeded}

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


def run_epochs(module: TrainingModule, train: Loader, val: Loader, device: str, folder: Path) -> bool:
    """Train the remaining epochs. Returns whether a signal requested the end.

    Raises:
        RunError: A loss is not finite, or the device has no deterministic implementation of an operation.
    """
    with _quiet():
        trainer = _trainer(module, device, folder)
        try:
            trainer.fit(module, train, val)
        except (InterruptedTraining, SystemExit):
            # Lightning turns a Ctrl-C or SIGTERM that arrives before the first batch into SystemExit.
            return True
        except RuntimeError as error:
            if "deterministic" in str(error):
                raise RunError(
                    f"This device has no deterministic implementation of an operation of the model: {error} "
                    "Set training.deterministic to false; repeated runs then differ slightly."
                ) from error
            raise
    return False


def _trainer(module: TrainingModule, device: str, folder: Path) -> Trainer:
    config = module.config  # nothing is auto any more
    return Trainer(
        accelerator={"cuda": "gpu"}.get(device, device),
        devices=1,
        precision=config.precision,  # type: ignore[arg-type]
        max_epochs=config.epochs - len(module.history),
        gradient_clip_val=config.gradient_clip,
        accumulate_grad_batches=config.accumulate,
        deterministic=config.deterministic,  # type: ignore[arg-type]
        callbacks=[Interruption()],
        # One process on one device, also on a cluster.
        plugins=[LightningEnvironment()],
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the messages of Lightning about itself; its other warnings are shown."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        for message in NOISE:
            warnings.filterwarnings("ignore", message=message)
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
