"""Lightning's trainer, configured so that users never see it."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightning.pytorch import Trainer
from lightning.pytorch.plugins.environments import LightningEnvironment

from gyrus.errors import RunError
from gyrus.training.data_loader import Loader
from gyrus.training.interruption import InterruptedTraining, Interruption
from gyrus.training.lightning_module import TrainingModule

NOISE = (
    ".*isinstance\\(treespec, LeafSpec\\).* is deprecated.*",
    ".*does not have many workers.*",
    ".*eval mode at the start of training.*",
    ".*available but not used.*",
)
"""Warnings about Lightning's own code, or about choices that are intended: the config names the device."""


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
    config = module.config
    return Trainer(
        accelerator={"cuda": "gpu"}.get(device, device),
        devices=1,
        precision=config.precision,
        max_epochs=config.epochs - len(module.history),
        gradient_clip_val=config.gradient_clip,
        accumulate_grad_batches=config.accumulate,
        deterministic=config.deterministic,
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
