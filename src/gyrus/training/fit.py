"""Train a classifier: the one door to this package."""

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
from gyrus.training.data_loader import Loader, PartDataset
from gyrus.training.history import History, goodness
from gyrus.training.lightning_module import BeforeEpoch, TrainingModule
from gyrus.training.lightning_trainer import run_epochs
from gyrus.training.loggers import RunLogger, open_log, require_loggers
from gyrus.training.losses import class_weights
from gyrus.training.malloc import freed_memory_kept
from gyrus.training.metrics import validation_scores
from gyrus.training.preflight_checks import check_batch_norm, check_device, check_parts
from gyrus.training.progress import Followed, choose_progress
from gyrus.training.random_state import kept_torch_state, seed_torch
from gyrus.training.samplers import SAMPLERS, batches
from gyrus.training.weight_averaging import WeightAverage

Stopped = Literal["finished", "early", "interrupted"]
Source = Literal["epoch", "swa"]

AfterEpoch = Callable[[History], None]
"""Called with all epochs that are over. What it raises ends the training and comes out of :func:`fit`."""


@dataclass(frozen=True)
class Fitted:
    """What a training came to. The model that was handed in carries the best weights.

    Attributes:
        best_epoch: Counted from 1; None if the training was interrupted in its first epoch.
        best_score: The score of the weights that the model carries; None likewise.
        monitor: The score by which they were chosen.
        weights: Whether they are those of the best epoch (with EMA: averaged until then), or the SWA average.
        epochs: Epochs that are over.
        stopped: How the training ended. After "interrupted" it can be resumed.
        history: The CSV file with one row an epoch.
        warnings: What the user should know about data and settings.
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
    train: PartDataset,
    val: PartDataset,
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
    """Train ``model`` and leave it with its best weights, on the CPU, in evaluation mode.

    The same arguments on the same machine give the same weights, bit for bit on the CPU, whether or not the
    training was interrupted and resumed on the way. All randomness comes from ``seed`` and the number of the epoch,
    so an interrupted epoch is repeated as it was. PyTorch's global random state is left as it was found.

    Args:
        model: Images float32 (B, C, *spatial) in, logits (B, K) out.
        train: The part to learn from.
        val: The part to choose the best epoch by.
        config: All settings.
        folder: Receives ``history.csv``, ``history.txt``, ``checkpoints/last.ckpt`` and ``checkpoints/best.ckpt``.
        classes: The K class names, in the order of the model's outputs.
        seed: Of everything that is random here. The model's first weights are the caller's.
        resume: Go on from ``last.ckpt``; where no epoch was finished yet, begin.
        progress: Show a bar on a terminal, or a line an epoch elsewhere.
        before_epoch: Called with the epoch, from 0, and the model; for example to unfreeze layers.
        after_epoch: Called when an epoch has been written; for example to give up a training that leads nowhere.
        log: Where it is followed, opened by the caller; None: as the config says.

    Raises:
        ConfigError: A setting does not fit this machine, these classes or this model.
        DataError: A part is empty or has one class only.
        MissingDependencyError: A logger is not installed.
        RunError: The folder holds a training already, or that of other settings; a loss is not finite; or the
            device has no deterministic form of an operation.
    """
    device = check_device(config)
    remarks = (*config.concerns(), *check_parts(train, val, classes))
    check_batch_norm(model, train, config)
    require_loggers(config.loggers)
    weights = class_weights(config.loss.class_weights, np.asarray(train.targets), classes)
    keeper = CheckpointWriter(folder, config, settings_of(config, train, val, classes, seed))
    begun = keeper.begin(resume=resume)
    loader = _train_loader(train, config, seed, pinned=device == "cuda")
    done = len(begun["history"]) if begun else 0
    bar = choose_progress(epochs=config.epochs, batches=len(loader), monitor=config.monitor, done=done, wanted=progress)
    with (
        _opened(log, config, folder) as place,
        kept_torch_state(cuda=device == "cuda"),
        freed_memory_kept(wanted=device == "cpu"),
    ):

        def epoch_over(snapshot: Snapshot) -> None:
            keeper.epoch_over(snapshot)
            place.epoch(snapshot["history"][-1])
            if after_epoch is not None:
                after_epoch(History(tuple(snapshot["history"])))

        followed = Followed(bar, place.step, len(loader))
        module = TrainingModule(
            _laid_out(model, config),
            loader,
            config,
            class_weights=weights,
            classes=classes,
            seed=seed,
            progress=followed,
            epoch_over=epoch_over,
            before_epoch=before_epoch,
        )
        if begun:
            module.restore(begun)
        with followed:
            val_loader = _val_loader(val, config, pinned=device == "cuda")
            interrupted = not module.is_over and run_epochs(module, loader, val_loader, device, folder)
        if isinstance(config.averaging, SWA) and not interrupted:
            interrupted = not _average_last_epochs(model, keeper, loader, val, config, classes, seed, device)
    return _outcome(model, module.history, config, keeper, interrupted=interrupted, remarks=remarks)


def _opened(log: RunLogger | None, config: TrainingConfig, folder: Path) -> AbstractContextManager[RunLogger]:
    """The caller's, which the caller closes, or one of our own."""
    return open_log(config.loggers, config.tracking, folder) if log is None else nullcontext(log)


def _average_last_epochs(
    model: nn.Module,
    keeper: CheckpointWriter,
    loader: Loader,
    val: PartDataset,
    config: TrainingConfig,
    classes: Sequence[str],
    seed: int,
    device: str,
) -> bool:
    """Finish the SWA average: statistics from one more pass over the training set, then its scores.

    Returns:
        Whether it was finished; a Ctrl-C leaves it to be done when the training is resumed.
    """
    state = keeper.last()["average"]
    if keeper.swa() is not None or not state["count"]:
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
    keeper.keep_swa(average.model.cpu().state_dict(), validation_scores(logits, np.asarray(val.targets), classes))
    return True


def _outcome(
    model: nn.Module,
    history: History,
    config: TrainingConfig,
    keeper: CheckpointWriter,
    *,
    interrupted: bool,
    remarks: tuple[str, ...],
) -> Fitted:
    """Give the model its best weights, and tell how the training went."""
    epoch, score = history.best_epoch(config.monitor), None
    source: Source = "epoch"
    if epoch:
        row = history.rows[epoch - 1]
        best, score = keeper.best_weights(), row[config.monitor]
        swa = keeper.swa()
        if swa and goodness(swa["scores"], config.monitor) >= goodness(row, config.monitor):
            best, score, source = swa["model"], swa["scores"][config.monitor], "swa"
        model.load_state_dict(best)
    _at_rest(model)
    stopped: Stopped = "finished" if len(history) == config.epochs else "early"
    return Fitted(
        best_epoch=epoch,
        best_score=score,
        monitor=config.monitor,
        weights=source,
        epochs=len(history),
        stopped="interrupted" if interrupted else stopped,
        history=keeper.history,
        warnings=remarks,
    )


def _train_loader(train: PartDataset, config: TrainingConfig, seed: int, *, pinned: bool) -> Loader:
    targets = np.asarray(train.targets)
    sampler = SAMPLERS[config.sampler]
    return Loader(
        train,
        lambda epoch: batches(sampler(targets, seed, epoch), config.batch_size),
        workers=config.workers,
        pinned=pinned,
    )


def _val_loader(val: PartDataset, config: TrainingConfig, *, pinned: bool) -> Loader:
    cut = batches(np.arange(len(val)), config.batch_size)
    return Loader(val, lambda _: cut, workers=config.workers, pinned=pinned)


def _laid_out(model: nn.Module, config: TrainingConfig) -> nn.Module:
    """The model with convolution weights in the memory order that the config asks for."""
    for parameter in model.parameters():
        order = torch.channels_last if config.channels_last and parameter.ndim == 4 else torch.contiguous_format
        parameter.data = parameter.data.contiguous(memory_format=order)
    return model


def _at_rest(model: nn.Module) -> None:
    """Leave nothing of the training in the model but its weights."""
    for parameter in model.parameters():
        parameter.data = parameter.data.contiguous()
    model.zero_grad(set_to_none=True)
    model.eval()
