"""Train a classifier: the one door to this package."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from lightning.pytorch import Trainer
from lightning.pytorch.plugins.environments import LightningEnvironment
from torch import nn

from gyrus.errors import ConfigError, DataError, RunError
from gyrus.files import digest
from gyrus.prediction.predict import pick_device
from gyrus.training.checkpoints import load_checkpoint, remove_abandoned, save_checkpoint
from gyrus.training.config import Monitor, TrainingConfig
from gyrus.training.history import History
from gyrus.training.interruption import InterruptedTraining, Interruption
from gyrus.training.loading import Loader, PartDataset
from gyrus.training.module import MEMORY_FORMATS, BeforeEpoch, TrainingModule
from gyrus.training.progress import choose_progress
from gyrus.training.randomness import kept_torch_state
from gyrus.training.samplers import SAMPLERS, batches

Stopped = Literal["finished", "early", "interrupted"]

LIGHTNING_NOISE = (
    ".*isinstance\\(treespec, LeafSpec\\).* is deprecated.*",
    ".*does not have many workers.*",
    ".*eval mode at the start of training.*",
)
"""Warnings that concern Lightning's own code, or choices that are meant."""

HARMLESS = ("workers", "device")
"""Settings that may change when a training is resumed."""


@dataclass(frozen=True)
class Fitted:
    """What a training came to. The model that was handed in carries the weights of the best epoch.

    Attributes:
        best_epoch: Counted from 1; None if the training was interrupted in its first epoch.
        best_score: Its score; None likewise.
        monitor: The score by which the best epoch was chosen.
        epochs: Epochs that are over.
        stopped: How the training ended. After "interrupted" it can be resumed.
        history: The CSV file with one row an epoch.
        warnings: What the user should know about data and settings.
    """

    best_epoch: int | None
    best_score: float | None
    monitor: Monitor
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
) -> Fitted:
    """Train ``model`` and leave it with the weights of its best epoch, on the CPU, in evaluation mode.

    The same arguments on the same machine give the same weights, bit for bit on the CPU, whether or not the
    training was interrupted and resumed on the way. All randomness comes from ``seed`` and the number of the epoch,
    so an interrupted epoch is repeated as it was. PyTorch's global random state is left as it was found.

    Args:
        model: Images float32 (B, C, *spatial) in, logits (B, K) out.
        train: The part to learn from.
        val: The part to choose the best epoch by.
        config: All settings.
        folder: Receives ``history.csv``, ``checkpoints/last.ckpt`` and ``checkpoints/best.ckpt``.
        classes: The K class names, in the order of the model's outputs.
        seed: Of everything that is random here. The model's first weights are the caller's.
        resume: Go on from ``last.ckpt``; where no epoch was finished yet, begin.
        progress: Show a bar on a terminal, or a line an epoch elsewhere.
        before_epoch: Called with the epoch, from 0, and the model; for example to unfreeze layers.

    Raises:
        ConfigError: A setting does not fit this machine or model.
        DataError: A part is empty, or the validation part has one class only.
        RunError: The folder holds a training already, or that of other settings; a loss is not finite; or the
            device has no deterministic form of an operation.
    """
    device = _device(config)
    remarks = _check_parts(train, val, classes) + _check_batches(model, train, config)
    keeper = _Keeper(folder, config.monitor, _settings(config, train, val, classes, seed))
    loader = _train_loader(train, config, seed, device)
    begun = keeper.begin(resume=resume)
    done = len(begun["history"]) if begun else 0
    bar = choose_progress(epochs=config.epochs, batches=len(loader), monitor=config.monitor, done=done, wanted=progress)
    with kept_torch_state(cuda=device == "cuda"), _quiet_lightning():
        module = TrainingModule(
            _laid_out(model, config),
            loader,
            config,
            classes=classes,
            seed=seed,
            progress=bar,
            epoch_over=keeper.epoch_over,
            before_epoch=before_epoch,
        )
        if begun:
            module.restore(begun)
        with bar:
            interrupted = not module.is_over and _run(module, loader, _val_loader(val, config, device), device, folder)
    _restore_best(model, keeper, module.history)
    return _outcome(module.history, config, keeper, interrupted=interrupted, remarks=remarks)


def _run(module: TrainingModule, loader: Loader, val: Loader, device: str, folder: Path) -> bool:
    """Train the epochs that are left. Returns whether a signal came in between."""
    config = module.config
    trainer = Trainer(
        accelerator={"cuda": "gpu"}.get(device, device),
        devices=1,
        precision=config.precision,
        max_epochs=config.epochs - len(module.history),
        gradient_clip_val=config.gradient_clip,
        accumulate_grad_batches=config.accumulate,
        deterministic=config.deterministic,
        callbacks=[Interruption()],
        # One process on one device, whatever cluster this runs on.
        plugins=[LightningEnvironment()],
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
    )
    try:
        trainer.fit(module, loader, val)
    except (InterruptedTraining, SystemExit):
        # Lightning turns a Ctrl-C or SIGTERM that comes before the first batch into SystemExit.
        return True
    except RuntimeError as error:
        if "deterministic" in str(error):
            raise RunError(f"{error} (Or set training.deterministic to false; runs then differ slightly.)") from error
        raise
    return False


class _Keeper:
    """Keeps the files of a training.

    ``last.ckpt`` is written first and holds all that the others are made from, so that a kill between any two
    writes is mended when the training is resumed.
    """

    def __init__(self, folder: Path, monitor: Monitor, settings: dict[str, Any]) -> None:
        self.last = folder / "checkpoints" / "last.ckpt"
        self.best = folder / "checkpoints" / "best.ckpt"
        self.history = folder / "history.csv"
        self._monitor = monitor
        self._settings = settings

    def begin(self, *, resume: bool) -> dict[str, Any] | None:
        """The snapshot to go on from, or None to begin."""
        if not resume or not self.last.exists():
            if self.last.exists():
                raise RunError(f"{self.last.parent} holds a training already. Resume it, or name another folder.")
            return None
        remove_abandoned(self.last.parent)
        snapshot = load_checkpoint(self.last)
        _refuse_other_settings(snapshot["settings"], self._settings)
        self._write_rest(snapshot)
        return snapshot

    def epoch_over(self, module: TrainingModule) -> None:
        """Write everything after an epoch."""
        snapshot = module.snapshot() | {"settings": self._settings}
        save_checkpoint(self.last, snapshot)
        self._write_rest(snapshot)

    def _write_rest(self, snapshot: dict[str, Any]) -> None:
        history = History(tuple(snapshot["history"]))
        epoch = history.best_epoch(self._monitor)
        if epoch == len(history):
            best = {"model": snapshot["model"], "epoch": epoch, "score": history.rows[-1][self._monitor]}
            save_checkpoint(self.best, best | {"monitor": self._monitor, "classes": self._settings["classes"]})
        history.write_csv(self.history)


def _settings(
    config: TrainingConfig, train: PartDataset, val: PartDataset, classes: Sequence[str], seed: int
) -> dict[str, Any]:
    """What must be the same when a training is resumed."""
    return {
        **{f"training.{name}": value for name, value in config.model_dump(mode="json", exclude=set(HARMLESS)).items()},
        "classes": list(classes),
        "seed": seed,
        "train labels": digest(np.asarray(train.targets).tolist()),
        "val labels": digest(np.asarray(val.targets).tolist()),
    }


def _refuse_other_settings(before: dict[str, Any], now: dict[str, Any]) -> None:
    other = [name for name in sorted(before.keys() | now.keys()) if before.get(name) != now.get(name)]
    if other:
        changes = "; ".join(f"{name} was {before.get(name)!r}, is {now.get(name)!r}" for name in other)
        raise RunError(
            f"A training can only be resumed with the settings it began with: {changes}. Or start a new run."
        )


def _check_parts(train: PartDataset, val: PartDataset, classes: Sequence[str]) -> tuple[str, ...]:
    """Refuse parts that cannot be learnt from or chosen by; name the classes that a part lacks."""
    remarks = []
    for name, part in (("training", train), ("validation", val)):
        targets = np.asarray(part.targets)
        if not len(targets):
            raise DataError(f"The {name} part is empty. Change the shares of the split.")
        if targets.min() < 0 or targets.max() >= len(classes):
            raise DataError(f"The {name} part has images without a label among {list(classes)}. Leave them out.")
        present = np.unique(targets)
        if len(present) == 1:
            raise DataError(
                f"All {len(targets)} images of the {name} part are of class '{classes[present[0]]}': "
                "nothing can be told apart. Give it more subjects, or use another split seed."
            )
        lacking = [label for index, label in enumerate(classes) if index not in present]
        if lacking:
            remarks.append(f"The {name} part has no image of {', '.join(lacking)}; its scores leave them out.")
    return tuple(remarks)


def _check_batches(model: nn.Module, train: PartDataset, config: TrainingConfig) -> tuple[str, ...]:
    """Batch normalisation learns nothing from one image."""
    normalised = any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in model.modules())
    if normalised and min(config.batch_size, len(train)) == 1:
        raise ConfigError("training.batch_size is 1, but the model has batch normalisation. Use 2 or more.")
    return ()


def _device(config: TrainingConfig) -> str:
    """The kind of device, chosen and checked."""
    device = pick_device(config.device).type
    if device == "cpu" and config.precision == "16-mixed":
        raise ConfigError("training.precision 16-mixed needs a GPU. On the CPU use bf16-mixed or 32-true.")
    return device


def _train_loader(train: PartDataset, config: TrainingConfig, seed: int, device: str) -> Loader:
    targets = np.asarray(train.targets)
    sampler = SAMPLERS[config.sampler]
    return Loader(
        train,
        lambda epoch: batches(sampler(targets, seed, epoch), config.batch_size),
        workers=config.workers,
        pinned=device == "cuda",
    )


def _val_loader(val: PartDataset, config: TrainingConfig, device: str) -> Loader:
    cut = batches(np.arange(len(val)), config.batch_size)
    return Loader(val, lambda _: cut, workers=config.workers, pinned=device == "cuda")


def _laid_out(model: nn.Module, config: TrainingConfig) -> nn.Module:
    """The model with convolution weights in the memory order that the config asks for."""
    for parameter in model.parameters():
        if config.channels_last and parameter.ndim in MEMORY_FORMATS:
            parameter.data = parameter.data.contiguous(memory_format=MEMORY_FORMATS[parameter.ndim])
    return model


def _restore_best(model: nn.Module, keeper: _Keeper, history: History) -> None:
    if len(history):
        model.load_state_dict(load_checkpoint(keeper.best)["model"])
    for parameter in model.parameters():
        parameter.data = parameter.data.contiguous()
    model.zero_grad(set_to_none=True)
    model.eval()


def _outcome(
    history: History, config: TrainingConfig, keeper: _Keeper, *, interrupted: bool, remarks: tuple[str, ...]
) -> Fitted:
    epoch = history.best_epoch(config.monitor)
    stopped: Stopped = "finished"
    if interrupted:
        stopped = "interrupted"
    elif len(history) < config.epochs:
        stopped = "early"
    score = history.rows[epoch - 1][config.monitor] if epoch else None
    return Fitted(epoch, score, config.monitor, len(history), stopped, keeper.history, remarks)


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Silence what Lightning says about itself; what it says about mistakes goes through."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        for message in LIGHTNING_NOISE:
            warnings.filterwarnings("ignore", message=message)
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
