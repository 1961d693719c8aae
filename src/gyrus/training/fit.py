"""Train a classifier: the entry point of this package."""

from __future__ import annotations

import io
import socket
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gyrus.datasets.targets import TargetScaling
from gyrus.errors import ConfigError, DataError, RunError
from gyrus.files import reading
from gyrus.inference.predict import pick_device, predict_logits
from gyrus.malloc import keep_freed_memory
from gyrus.processes import ALONE, Process
from gyrus.training.checkpointing import CheckpointWriter, Snapshot, settings_of
from gyrus.training.config import SWA, BestBy, NumberLoss, TrainingConfig
from gyrus.training.data_loader import SAMPLERS, BatchDataset, Loader, Order, batches, check_main_guard
from gyrus.training.distributed import device_of, planned_processes, team_of
from gyrus.training.history import History, goodness
from gyrus.training.lightning_module import BeforeEpoch, SaveEpoch, TrainingModule
from gyrus.training.lightning_trainer import InterruptedTraining, run_epochs
from gyrus.training.loggers import RunLogger, open_log, require_loggers
from gyrus.training.losses import class_weights
from gyrus.training.metrics import number_scores, validation_scores
from gyrus.training.precision import DeviceSettings, device_settings, require_correct_gradients
from gyrus.training.progress import FORWARD_SHARE, LoggedProgress, Progress, choose_progress
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


@dataclass(frozen=True)
class Job:
    """All that a process needs to train, besides its place among the others.

    Attributes:
        model: The network with its initial weights.
        train: The training set.
        val: The validation set.
        config: All settings.
        classes: The K class names.
        seed: Seed of all random numbers.
        class_weights: float32 (K,) or None.
        resumed: The snapshot from which to continue, or None.
        before_epoch: As for :func:`fit`.
        scale: Standard deviation of a number over the training set.
        ordered: Whether the classes are in the order of their stages.
    """

    model: nn.Module
    train: BatchDataset
    val: BatchDataset
    config: TrainingConfig
    classes: tuple[str, ...]
    seed: int
    class_weights: np.ndarray | None
    resumed: Snapshot | None
    before_epoch: BeforeEpoch | None
    scale: float = 1.0
    ordered: bool = False

    def packed(self) -> bytes:
        """The job as bytes, for :meth:`unpacked` in another process.

        Raises:
            ConfigError: A part of it cannot be sent to another process.
        """
        content = io.BytesIO()
        try:
            torch.save(self, content)
        except Exception as error:  # pickling raises many kinds
            raise ConfigError(
                f"This training cannot be sent to other processes: {error}. Define its network, data set and functions "
                "at the top level of a module, or set training.devices to 1."
            ) from error
        return content.getvalue()

    @classmethod
    def unpacked(cls, content: bytes) -> Job:
        """The job that process 0 of this training has packed."""
        job = torch.load(io.BytesIO(content), weights_only=False, map_location="cpu")
        assert isinstance(job, cls)
        return job

    def loader(self, dataset: BatchDataset, order: Order, process: Process, device: str) -> Loader:
        """The batches of this process."""
        there = device_of(process, device)
        return Loader(dataset, order, workers=self.config.workers, device=there, process=process)

    def train_loader(self, process: Process, device: str) -> Loader:
        """The batches of the training set."""
        targets, sampler = np.asarray(self.train.targets), SAMPLERS[self.config.sampler]
        order = lambda epoch: batches(sampler(targets, self.seed, epoch), self.config.batch_size)  # noqa: E731
        return self.loader(self.train, order, process, device)


def fit(
    model: nn.Module,
    train: BatchDataset,
    val: BatchDataset,
    config: TrainingConfig,
    folder: Path,
    *,
    classes: Sequence[str],
    seed: int,
    ordered: bool = False,
    scaling: TargetScaling | None = None,
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
        model: From images float32 (B, C, *spatial) to logits (B, K), or to numbers in their unit (B, Q).
        train: The training set.
        val: The validation set, which selects the best epoch.
        config: All settings.
        folder: Receives ``history.csv``, ``history.txt``, ``checkpoints/last.ckpt`` and ``checkpoints/best.ckpt``.
        classes: The K class names, in the order of the model's outputs; none where the loss is that of a number.
        seed: Seed of all random numbers of the training. The caller initialises the model.
        ordered: Whether the classes are in the order of their stages.
        scaling: The scale of a number; by default that of the training set.
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
    number = isinstance(config.loss, NumberLoss)
    checked = _check_numbers(train, val, scaling) if number else _check_subsets(train, val, classes)
    warnings = (*config.warnings(), *checked)
    process = planned_processes(config, device)
    _check_batch_norm(model, train, config, process)
    require_loggers(config.loggers)
    chosen = device_settings(config, model, device)
    checkpoints = CheckpointWriter(folder, config, settings_of(chosen.applied_to(config), train, val, classes, seed))
    resumed = checkpoints.begin(resume=resume, automatic=chosen.reasons)
    if resumed:
        chosen = chosen.begun_with(resumed["settings"])
    require_correct_gradients(chosen, model)
    config = chosen.applied_to(config)
    weights, scale = None, 1.0
    if isinstance(config.loss, NumberLoss):
        scale = (scaling or TargetScaling.fit(train.targets)).scale
    else:
        weights = class_weights(config.loss.class_weights, np.asarray(train.targets), classes)
    job = Job(model, train, val, config, tuple(classes), seed, weights, resumed, before_epoch, scale, ordered)
    loader = job.train_loader(ALONE, device)
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
        module = _module(job, process, device, logged, _saved_by_process_0(save_epoch, process))
        if resumed:
            with reading(checkpoints.path, "the state of a training of this network"):
                module.restore(resumed)
        with logged:
            logged.say(chosen.text())
            interrupted = not module.is_over and _train_with_all(module, job, process, device, folder)
        if isinstance(config.averaging, SWA) and not interrupted:
            interrupted = not _average_last_epochs(
                model, checkpoints, loader, val, config, classes, seed, device, scale, ordered=ordered
            )
    return _result(model, module.history, config, checkpoints, chosen, interrupted=interrupted, warnings=warnings)


def follow_training(content: bytes, process: Process) -> None:
    """Train with process 0, from the job that it has packed; nothing is written.

    Args:
        content: The job.
        process: This process.
    """
    job = Job.unpacked(content)
    for dataset in (job.train, job.val):
        store = getattr(dataset, "store", None)
        if store is not None and not store.folder.exists():
            raise RunError(
                f"The decoded images in {store.folder} are not on the machine {socket.gethostname()}. Set the "
                "environment variable GYRUS_CACHE to a folder that all machines share."
            )
    device = _check_device(job.config)
    with restored_torch_state(cuda=device == "cuda"), keep_freed_memory(wanted=device == "cpu"):
        module = _module(job, process, device, Progress(), lambda _: _end_if_process_0_fails())
        if job.resumed:
            module.restore(job.resumed)
        _run_epochs(module, job, process, device, Path())


def _module(job: Job, process: Process, device: str, progress: Progress, save_epoch: SaveEpoch) -> TrainingModule:
    return TrainingModule(
        _in_memory_format(job.model, job.config),
        job.train_loader(process, device),
        job.config,
        class_weights=job.class_weights,
        classes=job.classes,
        seed=job.seed,
        progress=progress,
        save_epoch=save_epoch,
        before_epoch=job.before_epoch,
        process=process,
        scale=job.scale,
        ordered=job.ordered,
    )


def _train_with_all(module: TrainingModule, job: Job, process: Process, device: str, folder: Path) -> bool:
    """In process 0: train with all processes. Returns whether a signal requested the end."""
    with team_of(process, device) as team:
        if team is None:
            return _run_epochs(module, job, process, device, folder)
        with team.training(job.packed(), device):
            return _run_epochs(module, job, process, device, folder)


def _run_epochs(module: TrainingModule, job: Job, process: Process, device: str, folder: Path) -> bool:
    """In every process: train the remaining epochs. Returns whether a signal requested the end."""
    cut = batches(np.arange(len(job.val)), job.config.batch_size)
    val = job.loader(job.val, lambda _: cut, process, device)
    return run_epochs(module, module.loader, val, device, folder, process)


def _saved_by_process_0(save_epoch: SaveEpoch, process: Process) -> SaveEpoch:
    """Save an epoch while the others wait, and let them know if that ends the training."""

    def save(snapshot: Snapshot) -> None:
        failed = torch.ones(1)
        try:
            save_epoch(snapshot)
            failed.zero_()
        finally:
            distributed.broadcast(failed, 0)

    return save if process.world > 1 else save_epoch


def _end_if_process_0_fails() -> None:
    """In another process: wait until process 0 has saved the epoch.

    Raises:
        InterruptedTraining: It could not, or it has ended the training.
    """
    failed = torch.ones(1)
    distributed.broadcast(failed, 0)
    if failed:
        raise InterruptedTraining


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


def _check_numbers(train: BatchDataset, val: BatchDataset, scaling: TargetScaling | None) -> tuple[str, ...]:
    """Refuse a training or validation set whose numbers cannot be used."""
    for name, dataset in (("training", train), ("validation", val)):
        targets = np.asarray(dataset.targets)
        if not len(targets):
            raise DataError(f"The {name} set is empty. Change the fractions of the split.")
        if not np.isfinite(targets).all():
            raise DataError(f"The {name} set has images without a number. Exclude them.")
    if scaling is None:
        TargetScaling.fit(train.targets)
    return ()


def _check_batch_norm(model: nn.Module, train: BatchDataset, config: TrainingConfig, process: Process) -> None:
    """Refuse batches, or shares of batches, of one image for a model with batch normalisation."""
    has_norm = any(isinstance(layer, _BatchNorm) for layer in model.modules())
    if has_norm and min(config.batch_size, len(train)) == 1:
        raise ConfigError("training.batch_size is 1, but the model has batch normalisation. Use 2 or more.")
    smallest = min(map(len, batches(np.arange(len(train)), config.batch_size))) // process.world
    if has_norm and process.world > 1 and not config.sync_batch_norm and smallest < 2:
        raise ConfigError(
            f"The smallest batch leaves {smallest} of its images for one of {process.world} processes, but batch "
            "normalisation needs two. Set training.sync_batch_norm to true, or change training.batch_size."
        )


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
    scale: float,
    *,
    ordered: bool,
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
    targets = np.asarray(val.targets)
    scores = (
        number_scores(logits, targets, config.loss, scale)
        if isinstance(config.loss, NumberLoss)
        else validation_scores(logits, targets, classes, ordered=ordered)
    )
    checkpoints.save_swa(average.model.cpu().state_dict(), scores)
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
