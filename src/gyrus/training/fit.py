"""Train a classifier: the entry point of this package."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn

from gyrus.inference.predict import predict_logits
from gyrus.training.checkpointing import CheckpointWriter, Snapshot, settings_of
from gyrus.training.config import SWA, BestBy, TrainingConfig
from gyrus.training.data_loader import BatchDataset, Loader, check_main_guard
from gyrus.training.history import History, goodness
from gyrus.training.lightning_module import BeforeEpoch, TrainingModule
from gyrus.training.lightning_trainer import run_epochs
from gyrus.training.loggers import RunLogger, open_log, require_loggers
from gyrus.training.losses import class_weights
from gyrus.training.malloc import keep_freed_memory
from gyrus.training.metrics import validation_scores
from gyrus.training.preflight_checks import check_batch_norm, check_device, check_subsets
from gyrus.training.progress import LoggedProgress, choose_progress
from gyrus.training.random_state import restored_torch_state, seed_torch
from gyrus.training.samplers import SAMPLERS, batches
from gyrus.training.weight_averaging import WeightAverage

Stopped = Literal["finished", "early", "interrupted"]
Source = Literal["epoch", "swa"]

AfterEpoch = Callable[[History], None]
"""Called with all complete epochs. Any exception it raises ends the training and is raised by :func:`fit`."""


@dataclass(frozen=True)
class Fitted:
    """The result of a training. The model passed to :func:`fit` has the best weights.

    Attributes:
        best_epoch: Counted from 1; None if the training was interrupted in its first epoch.
        best_score: The score of the weights of the model; None if there is no best epoch.
        monitor: The score by which they were selected.
        weights: Whether they are those of the best epoch (with EMA: averaged until then) or the SWA average.
        epochs: Complete epochs.
        stopped: How the training ended. After "interrupted" it can be resumed.
        history: The CSV file with one row per epoch.
        warnings: Problems of data and settings that the user should know.
    """

    best_epoch: int | None
    best_score: float | None
    monitor: BestBy
    weights: Source
    epochs: int
    stopped: Stopped
    history: Path
    warnings: tuple[str, ...]


def fit(
    model: nn.Module,
    train: BatchDataset,
    val: BatchDataset,
    config: TrainingConfig,
    folder: Path,
    *,
    classes: Sequence[str],
    seed: int,
    resume: bool = False,
    progress: bool = True,
    before_epoch: BeforeEpoch | None = None,
    after_epoch: AfterEpoch | None = None,
    log: RunLogger | None = None,
) -> Fitted:
    """Train ``model``, which then has its best weights, on the CPU, in evaluation mode.

    The same arguments on the same machine produce the same weights, bit for bit on the CPU, even if the training was
    interrupted and resumed. All random numbers depend on ``seed`` and the number of the epoch only, so an interrupted
    epoch is repeated identically. PyTorch's global random state is restored at the end.

    Args:
        model: From images float32 (B, C, *spatial) to logits (B, K).
        train: The training set.
        val: The validation set, which selects the best epoch.
        config: All settings.
        folder: Receives ``history.csv``, ``history.txt``, ``checkpoints/last.ckpt`` and ``checkpoints/best.ckpt``.
        classes: The K class names, in the order of the model's outputs.
        seed: Seed of all random numbers of the training. The caller initialises the model.
        resume: Continue from ``last.ckpt``; if no epoch was completed, start from the beginning.
        progress: Show a progress bar on a terminal, or one line per epoch elsewhere.
        before_epoch: Called with the epoch, from 0, and the model; for example to unfreeze layers.
        after_epoch: Called when an epoch has been saved; for example to prune an unpromising training.
        log: An open log of the caller; None opens the loggers of the config.

    Raises:
        ConfigError: A setting does not fit this machine, these classes or this model, or the main script would be run
            again by worker processes.
        DataError: The training or validation set is empty or has one class only.
        MissingDependencyError: A logger is not installed.
        RunError: The folder already contains a training, or one with other settings; a loss is not finite; or the
            device has no deterministic implementation of an operation.
    """
    check_main_guard(config.workers)
    device = check_device(config)
    warnings = (*config.warnings(), *check_subsets(train, val, classes))
    check_batch_norm(model, train, config)
    require_loggers(config.loggers)
    weights = class_weights(config.loss.class_weights, np.asarray(train.targets), classes)
    checkpoints = CheckpointWriter(folder, config, settings_of(config, train, val, classes, seed))
    resumed = checkpoints.begin(resume=resume)
    loader = _train_loader(train, config, seed, pinned=device == "cuda")
    done = len(resumed["history"]) if resumed else 0
    display = choose_progress(
        epochs=config.epochs, batches=len(loader), monitor=config.monitor, done=done, show=progress
    )
    with (
        _opened(log, config, folder) as run_log,
        restored_torch_state(cuda=device == "cuda"),
        keep_freed_memory(wanted=device == "cpu"),
    ):

        def save_epoch(snapshot: Snapshot) -> None:
            checkpoints.save(snapshot)
            run_log.epoch(snapshot["history"][-1])
            if after_epoch is not None:
                after_epoch(History(tuple(snapshot["history"])))

        logged = LoggedProgress(display, run_log.step, len(loader))
        module = TrainingModule(
            _in_memory_format(model, config),
            loader,
            config,
            class_weights=weights,
            classes=classes,
            seed=seed,
            progress=logged,
            save_epoch=save_epoch,
            before_epoch=before_epoch,
        )
        if resumed:
            module.restore(resumed)
        with logged:
            val_loader = _val_loader(val, config, pinned=device == "cuda")
            interrupted = not module.is_over and run_epochs(module, loader, val_loader, device, folder)
        if isinstance(config.averaging, SWA) and not interrupted:
            interrupted = not _average_last_epochs(model, checkpoints, loader, val, config, classes, seed, device)
    return _result(model, module.history, config, checkpoints, interrupted=interrupted, warnings=warnings)


def _opened(log: RunLogger | None, config: TrainingConfig, folder: Path) -> AbstractContextManager[RunLogger]:
    """The log of the caller, which the caller closes, or a new one."""
    return open_log(config.loggers, config.tracking, folder) if log is None else nullcontext(log)


def _average_last_epochs(
    model: nn.Module,
    checkpoints: CheckpointWriter,
    loader: Loader,
    val: BatchDataset,
    config: TrainingConfig,
    classes: Sequence[str],
    seed: int,
    device: str,
) -> bool:
    """Complete the SWA average: batch norm statistics from one pass over the training set, then its scores.

    Returns:
        Whether it is complete; after Ctrl-C it is completed when the training is resumed.
    """
    state = checkpoints.last()["average"]
    if checkpoints.swa() is not None or not state["count"]:
        return True
    average = WeightAverage(model)
    average.load_state_dict(state)
    average.model.to(device)
    loader.epoch = config.epochs
    seed_torch(seed, config.epochs)
    try:
        average.refresh_statistics(batch.images.to(device) for batch in loader)
        logits = predict_logits(average.model, val, batch_size=config.batch_size)  # type: ignore[arg-type]
    except KeyboardInterrupt:
        return False
    checkpoints.save_swa(average.model.cpu().state_dict(), validation_scores(logits, np.asarray(val.targets), classes))
    return True


def _result(
    model: nn.Module,
    history: History,
    config: TrainingConfig,
    checkpoints: CheckpointWriter,
    *,
    interrupted: bool,
    warnings: tuple[str, ...],
) -> Fitted:
    """Load the best weights into the model, and summarise the training."""
    epoch, score = history.best_epoch(config.monitor), None
    source: Source = "epoch"
    if epoch:
        row = history.rows[epoch - 1]
        best, score = checkpoints.best_weights(), row[config.monitor]
        swa = checkpoints.swa()
        if swa and goodness(swa["scores"], config.monitor) >= goodness(row, config.monitor):
            best, score, source = swa["model"], swa["scores"][config.monitor], "swa"
        model.load_state_dict(best)
    _clean_up(model)
    stopped: Stopped = "finished" if len(history) == config.epochs else "early"
    return Fitted(
        best_epoch=epoch,
        best_score=score,
        monitor=config.monitor,
        weights=source,
        epochs=len(history),
        stopped="interrupted" if interrupted else stopped,
        history=checkpoints.history,
        warnings=warnings,
    )


def _train_loader(train: BatchDataset, config: TrainingConfig, seed: int, *, pinned: bool) -> Loader:
    targets = np.asarray(train.targets)
    sampler = SAMPLERS[config.sampler]
    return Loader(
        train,
        lambda epoch: batches(sampler(targets, seed, epoch), config.batch_size),
        workers=config.workers,
        pinned=pinned,
    )


def _val_loader(val: BatchDataset, config: TrainingConfig, *, pinned: bool) -> Loader:
    cut = batches(np.arange(len(val)), config.batch_size)
    return Loader(val, lambda _: cut, workers=config.workers, pinned=pinned)


def _in_memory_format(model: nn.Module, config: TrainingConfig) -> nn.Module:
    """The model with convolution weights in the memory format of the config."""
    for parameter in model.parameters():
        memory_format = torch.channels_last if config.channels_last and parameter.ndim == 4 else torch.contiguous_format
        parameter.data = parameter.data.contiguous(memory_format=memory_format)
    return model


def _clean_up(model: nn.Module) -> None:
    """Remove everything of the training from the model except its weights."""
    for parameter in model.parameters():
        parameter.data = parameter.data.contiguous()
    model.zero_grad(set_to_none=True)
    model.eval()
