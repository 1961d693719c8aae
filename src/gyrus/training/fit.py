"""Train a classifier: the entry point of this package."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from gyrus.errors import ConfigError, DataError
from gyrus.files import reading
from gyrus.inference.predict import pick_device, predict_logits
from gyrus.training.checkpointing import CheckpointWriter, Snapshot, settings_of
from gyrus.training.config import SWA, BestBy, TrainingConfig
from gyrus.training.data_loader import SAMPLERS, BatchDataset, Loader, batches, check_main_guard
from gyrus.training.history import History, goodness
from gyrus.training.lightning_module import BeforeEpoch, TrainingModule
from gyrus.training.lightning_trainer import run_epochs
from gyrus.training.loggers import RunLogger, open_log, require_loggers
from gyrus.training.losses import class_weights
from gyrus.training.malloc import keep_freed_memory
from gyrus.training.metrics import validation_scores
from gyrus.training.precision import DeviceSettings, device_settings
from gyrus.training.progress import FORWARD_SHARE, LoggedProgress, choose_progress
from gyrus.training.random_state import restored_torch_state, seed_torch
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
        device_settings: Device, precision and determinism, and why they were chosen.
    """

    best_epoch: int | None
    best_score: float | None
    monitor: BestBy
    weights: Source
    epochs: int
    stopped: Stopped
    history: Path
    warnings: tuple[str, ...]
    device_settings: DeviceSettings


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

    The same arguments on the same machine produce the same weights, bit for bit where algorithms are deterministic (by
    default on the CPU), even if the training was interrupted and resumed. All random numbers depend on ``seed`` and the
    number of the epoch only, so an interrupted epoch is repeated identically. PyTorch's global random state is restored
    at the end.

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
    device = _check_device(config)
    warnings = (*config.warnings(), *_check_subsets(train, val, classes))
    _check_batch_norm(model, train, config)
    require_loggers(config.loggers)
    chosen = device_settings(config, model, device)
    targets, sampler = np.asarray(train.targets), SAMPLERS[config.sampler]
    weights = class_weights(config.loss.class_weights, targets, classes)
    checkpoints = CheckpointWriter(folder, config, settings_of(chosen.applied_to(config), train, val, classes, seed))
    resumed = checkpoints.begin(resume=resume, automatic=chosen.reasons)
    if resumed:
        chosen = chosen.begun_with(resumed["settings"])
    config = chosen.applied_to(config)
    loader = Loader(
        train,
        lambda epoch: batches(sampler(targets, seed, epoch), config.batch_size),
        workers=config.workers,
        device=torch.device(device),
    )
    done = len(resumed["history"]) if resumed else 0
    display = choose_progress(
        epochs=config.epochs,
        batches=len(loader),
        monitor=config.monitor,
        done=done,
        show=progress,
        validation=FORWARD_SHARE * len(val) / config.batch_size,
    )
    with (
        open_log(config.loggers, config.tracking, folder) if log is None else nullcontext(log) as run_log,
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
            with reading(checkpoints.path, "the state of a training of this network"):
                module.restore(resumed)
        with logged:
            logged.say(chosen.text())
            cut = batches(np.arange(len(val)), config.batch_size)
            val_loader = Loader(val, lambda _: cut, workers=config.workers, device=torch.device(device))
            interrupted = not module.is_over and run_epochs(module, loader, val_loader, device, folder)
        if isinstance(config.averaging, SWA) and not interrupted:
            interrupted = not _average_last_epochs(model, checkpoints, loader, val, config, classes, seed, device)
    return _result(model, module.history, config, checkpoints, chosen, interrupted=interrupted, warnings=warnings)


def _check_subsets(train: BatchDataset, val: BatchDataset, classes: Sequence[str]) -> tuple[str, ...]:
    """Refuse a training or validation set that cannot be used. Returns a warning for each set that lacks a class."""
    warnings = []
    for name, dataset in (("training", train), ("validation", val)):
        targets = np.asarray(dataset.targets)
        if not len(targets):
            raise DataError(f"The {name} set is empty. Change the fractions of the split.")
        if targets.min() < 0 or targets.max() >= len(classes):
            raise DataError(f"The {name} set has images without a label among {list(classes)}. Exclude them.")
        if len(set(targets.tolist())) == 1:
            raise DataError(
                f"All {len(targets)} images of the {name} set are of class '{classes[targets[0]]}'; at least two "
                "classes are needed. Add subjects, or use another split seed."
            )
        lacking = [label for index, label in enumerate(classes) if index not in targets]
        if lacking:
            warnings.append(f"The {name} set has no image of {', '.join(lacking)}; its scores exclude these classes.")
    return tuple(warnings)


def _check_batch_norm(model: nn.Module, train: BatchDataset, config: TrainingConfig) -> None:
    """Refuse batches of one image for a model with batch normalisation."""
    has_norm = any(isinstance(layer, _BatchNorm) for layer in model.modules())
    if has_norm and min(config.batch_size, len(train)) == 1:
        raise ConfigError("training.batch_size is 1, but the model has batch normalisation. Use 2 or more.")


def _check_device(config: TrainingConfig) -> str:
    """The type of the device, selected and checked with the precision: cpu, cuda or mps."""
    device = pick_device(config.device).type
    if device == "cpu" and config.precision == "16-mixed":
        raise ConfigError("training.precision 16-mixed needs a GPU. On the CPU use bf16-mixed or 32-true.")
    return device


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
    chosen: DeviceSettings,
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
        with reading(checkpoints.best_path, "the weights of this network"):
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
        device_settings=chosen,
    )


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
