"""What a training would do, and the memory and the time that it needs: found out before anything is written."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gyrus.datasets import splits
from gyrus.datasets.manifest import Manifest
from gyrus.datasets.splits import Split, class_sizes
from gyrus.datasets.store import open_store, stored_shape
from gyrus.errors import ConfigError, DataError, SplitError
from gyrus.files import temporary_folder
from gyrus.inference.predict import pick_device
from gyrus.memory import available_memory, memory_text
from gyrus.text import counted, listed, one_per_line
from gyrus.training.config import ORDERED_LOSSES, ORDERED_MONITORS
from gyrus.training.distributed import planned_processes
from gyrus.training.forecast import MemoryForecast, forecast_memory, time_of_step
from gyrus.training.progress import FORWARD_SHARE, duration_text
from gyrus.types import SUBSET_TITLES, SUBSETS
from gyrus.workflows.baselines import memory_of_baselines
from gyrus.workflows.data_module import DataModule, build_model
from gyrus.workflows.display import SILENT, Display, show_warnings
from gyrus.workflows.evaluate import require_evaluable
from gyrus.workflows.experiment_config import ExperimentConfig, load_config
from gyrus.workflows.harmonisation import require_harmonisable
from gyrus.workflows.load_data import scan_to_train

SMALLEST_BATCH = 2

FEW_NUMBERS = 6
"""Fewer different numbers than these are probably classes."""

MANY_CLASSES = 100
"""More classes than these are probably subjects."""


@dataclass(frozen=True)
class TrainingPlan:
    """What a training would do and need.

    Attributes:
        settings: The config.
        manifest: The data.
        split: The split of the data.
        image_shape: Shape of a preprocessed image: channels, then voxels along each axis.
        memory: The forecast of its memory.
        available: The memory of the device that is available, in bytes.
        device: Type of the device.
        seconds: Time of all epochs; None if it was not measured because the memory does not suffice.
    """

    settings: ExperimentConfig
    manifest: Manifest
    split: Split
    image_shape: tuple[int, ...]
    memory: MemoryForecast
    available: int
    device: str
    seconds: float | None

    def text(self) -> str:
        """The plan, one fact per line."""
        settings, table = self.settings, self.manifest.table
        lines = {"Data": f"{self.manifest.root}, {counted(len(table), 'image')}"}
        if self.manifest.target.is_number:
            numbers = self.manifest.targets
            lines["Number"] = f"{self.manifest.target.name}, {numbers.min():g} to {numbers.max():g}"
        else:
            classes = table["label"].value_counts()
            lines["Classes"] = listed([f"{name} ({classes.get(name, 0)})" for name in self.manifest.classes])
        for subset in SUBSETS:
            subjects = len(self.split.subjects[subset])
            people = f" of {counted(subjects, 'subject')}" if subjects else ""
            lines[SUBSET_TITLES[subset].capitalize()] = counted(len(self.split.samples[subset]), "image") + people
        size = " x ".join(map(str, self.image_shape[1:]))
        channels = counted(self.image_shape[0], "channel")
        steps, epochs = _steps_per_epoch(self.split, settings), settings.training.epochs
        lines |= {
            "Input": f"{size}, {channels}",
            "Network": f"{settings.model.name}, {self.memory.parameters:,} weights",
            "Training": f"{counted(epochs, 'epoch')} of {counted(steps, 'step')}, "
            f"batches of {settings.training.batch_size}, {self.device}",
            "Memory": f"{self.memory.text()}; available: {memory_text(self.available)}",
            "Time": self._time(),
        }
        return one_per_line([*(f"{name + ':':15} {text}" for name, text in lines.items()), "Nothing was written."])

    def require_memory(self) -> None:
        """Refuse it if it needs more memory than there is; see :func:`require_memory`.

        Raises:
            ConfigError: The memory does not suffice.
        """
        require_memory(self.settings, self.image_shape, len(self.manifest.classes), len(self.manifest))

    def _time(self) -> str:
        if self.seconds is None:
            return "not measured, because the memory does not suffice"
        epochs = self.settings.training.epochs
        most = "at most " if self.settings.training.early_stopping else "about "
        return (
            f"about {duration_text(self.seconds / epochs)} per epoch, {most}{duration_text(self.seconds)} in total, "
            "without decoding and evaluation (measured on a few steps)"
        )


def plan_training(
    config: ExperimentConfig | str | Path | None = None,
    *,
    data: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    display: Display = SILENT,
) -> TrainingPlan:
    """Find out what :func:`gyrus.workflows.train.train` would do with the same arguments; nothing is written.

    Memory is forecast without any computation. Time is measured on a few training steps, unless the memory does not
    suffice for them.

    Raises:
        GyrusError: As :func:`gyrus.workflows.train.train`, except that too little memory is no error.
    """
    settings = load_config(config, overrides, data=data)
    if settings.model.classical is not None:
        raise ConfigError(
            f"A dry run forecasts memory and time of a network, and {settings.model.name} is none: it is fitted in "
            "seconds. Train without --dry-run; `gyrus data split` shows the split."
        )
    with temporary_folder() as cache:
        manifest, split = data_to_train(settings, display, cache=cache)
    device = pick_device(settings.training.device).type
    shape = stored_shape(manifest, settings.preprocessing)
    memory, available = _forecast(settings, shape, len(manifest.classes)), memory_of_device(device)
    return TrainingPlan(
        settings=settings,
        manifest=manifest,
        split=split,
        image_shape=shape,
        memory=memory,
        available=available,
        device=device,
        seconds=forecast_seconds(settings, manifest, split) if memory.total <= available else None,
    )


def data_to_train(settings: ExperimentConfig, display: Display, *, cache: Path | None = None) -> tuple[Manifest, Split]:
    """The data of a config and their split, after all checks that need no training.

    Args:
        settings: The config.
        display: Where progress, notes and warnings are shown.
        cache: Where prepared images are kept; by default in the cache.

    Raises:
        GyrusError: The data cannot be used.
    """
    manifest = scan_to_train(settings, display, cache=cache)
    require_classes(manifest, display)
    require_order(manifest, settings)
    require_evaluable(manifest, settings.evaluation)
    split = splits.split(manifest, settings.split, seed=settings.seed)
    require_two_classes(manifest, split, "The split")
    require_harmonisable(manifest, split, settings)
    return manifest, split


def require_classes(manifest: Manifest, display: Display = SILENT) -> None:
    """Refuse data that nothing can be learned from, and warn of very many classes or of few numbers.

    Args:
        manifest: The data.
        display: Where the warning is shown.

    Raises:
        DataError: There are fewer than two classes, or fewer than two different numbers.
    """
    if manifest.target.is_number:
        _require_numbers(manifest, display)
        return
    if len(manifest.classes) > MANY_CLASSES:
        each = len(manifest) / len(manifest.classes)
        show_warnings(
            display,
            [
                f"the data have {len(manifest.classes):,} classes of {round(each, 1):g} images on average. If they are "
                "subjects, name the labels in a table (--column label=NAME)"
            ],
        )
    if len(manifest.classes) > 1:
        return
    subjects = manifest.table["subject"].nunique()
    people = f" of {counted(subjects, 'subject')}" if subjects else ""
    found = f"'{manifest.classes[0]}' ({counted(len(manifest), 'image')}{people})" if manifest.classes else "none"
    raise DataError(
        f"The data have only one class, {found}; a classifier needs at least two. If the folders below "
        f"{manifest.root} are not the classes, give the folder that holds one folder per class, or a table with a "
        "label column (--column label=NAME). Classes may also have been merged (data.merge)."
    )


def require_order(manifest: Manifest, settings: ExperimentConfig, objectives: Sequence[str] = ()) -> None:
    """Refuse classes without an order where the config needs one.

    Args:
        manifest: The data.
        settings: The config.
        objectives: Further scores that are asked for.

    Raises:
        ConfigError: The loss or a monitored score is one of ordered classes, and these have no order.
    """
    training = settings.training
    monitors = {
        "training.monitor": training.monitor,
        "training.early_stopping.monitor": getattr(training.early_stopping, "monitor", None),
        "training.schedule.monitor": getattr(training.schedule, "monitor", None),
    }
    asked = {field: name for field, name in monitors.items() if name in ORDERED_MONITORS}
    if training.loss.name in ORDERED_LOSSES:
        asked["training.loss"] = training.loss.name
    asked |= {f"objective {name}": name for name in objectives if name in ORDERED_MONITORS}
    if asked and not manifest.target.is_ordered:
        listing = ", ".join(f"{field}={name}" for field, name in asked.items())
        raise ConfigError(
            f"{listing}: this is for ordered classes, and {list(manifest.classes)} have no order. State it, the lowest "
            "first: --ordered 'a<b<c' (data.ordered)."
        )


def _require_numbers(manifest: Manifest, display: Display) -> None:
    different = manifest.targets.nunique()
    name = manifest.target.name
    if different < 2:
        raise DataError(
            f"All {len(manifest)} images have the {name} {manifest.targets.iloc[0]:g}: there is nothing to learn. Name "
            "another column in data.target."
        )
    if different < FEW_NUMBERS:
        show_warnings(
            display,
            [
                f"the column {name} has only {different} different numbers. If they are classes or stages, name them "
                f"as labels (--column label={name}) instead of as a number"
            ],
        )


def require_two_classes(manifest: Manifest, split: Split, where: str) -> None:
    """Refuse a training or validation set with one class, or with one number.

    Args:
        manifest: The data.
        split: A split of the data.
        where: What has these sets, for the message.

    Raises:
        SplitError: A set has one class only.
    """
    labels = manifest.table.set_index("sample")["label"]
    unit: Literal["image", "subject"] = "image" if split.unit == "image" else "subject"
    sizes = class_sizes(manifest, unit)
    for subset, name in (("train", "training"), ("val", "validation")):
        found = labels[list(split.samples[subset])].unique()  # type: ignore[index]
        if len(found) < 2 and manifest.target.is_number:
            raise SplitError(
                f"{where} would have only the {manifest.target.name} {found[0]} in its {name} set; the data have "
                f"{sizes}. Add {unit}s, or change the fractions (split.val, split.test), the folds or the seed of the "
                "split."
            )
        if len(found) < 2:
            raise SplitError(
                f"{where} would have only class '{found[0]}' in its {name} set; the data have {sizes}. Each class "
                f"needs at least 3 {unit}s: one in each of the training, validation and test sets. Add {unit}s, leave "
                "the class out or merge it with another (data.merge), or change the fractions (split.val, split.test), "
                "the folds or the seed of the split."
            )


def require_memory(settings: ExperimentConfig, image_shape: Sequence[int], classes: int, images: int) -> None:
    """Refuse a training that needs more memory than there is.

    Args:
        settings: The config.
        image_shape: Shape of a preprocessed image: channels, then voxels along each axis.
        classes: Number of classes.
        images: Number of images, for the baselines.

    Raises:
        ConfigError: The memory does not suffice; the message says for what, and what to change.
    """
    if not settings.training.check_memory:
        return
    device, shape = pick_device(settings.training.device).type, tuple(image_shape)
    forecast = _forecast(settings, shape, classes)
    if not _fits(forecast.total, device):
        there, where = memory_text(memory_of_device(device)), "this machine" if device == "cpu" else "the GPU"
        raise ConfigError(
            f"This training needs {forecast.text()} of memory, and {there} are available on {where}. What to change:\n"
            + "\n".join(f"  - {advice}" for advice in _advice(settings, shape, classes, device))
            + "\nThe forecast is often too high by a third; to train anyway, add --set training.check_memory=false."
        )
    baselines = memory_of_baselines(images, math.prod(shape))
    if settings.evaluation.baselines and not _fits(baselines, "cpu"):
        raise ConfigError(
            f"The baselines on {images:,} images need about {memory_text(baselines)} of memory, and "
            f"{memory_text(available_memory())} are available. Leave them out with --set evaluation.baselines=false."
        )


def memory_of_device(device: str) -> int:
    """Bytes that are available on a device."""
    if device == "cuda":
        import torch

        return int(torch.cuda.mem_get_info()[0])
    return available_memory()


def _fits(needed: int, device: str) -> bool:
    return needed <= memory_of_device(device)


def _advice(settings: ExperimentConfig, shape: tuple[int, ...], classes: int, device: str) -> list[str]:
    """What would make a training fit, the best first."""
    advice = []
    batch_size = settings.training.batch_size
    smaller = batch_size
    while smaller > SMALLEST_BATCH:
        smaller = max(SMALLEST_BATCH, smaller // 2)
        training = settings.training.model_copy(update={"batch_size": smaller})
        needed = _forecast(settings.model_copy(update={"training": training}), shape, classes).total
        if _fits(needed, device):
            steps = settings.training.accumulate * math.ceil(batch_size / smaller)
            advice.append(
                f"a batch of {smaller} instead of {batch_size}: {memory_text(needed)} "
                f"(--set training.batch_size={smaller}; --set training.accumulate={steps} keeps a step per "
                f"{batch_size * settings.training.accumulate} images)"
            )
            break
    size = " x ".join(map(str, shape[1:]))
    volumes = len(shape) == 4
    advice.append(
        f"smaller images, now {size}: half of each length takes "
        f"{'an eighth' if volumes else 'a quarter'} of the memory for activations (preprocessing.steps"
        f"{', preprocessing.volume' if volumes else ''})"
    )
    if volumes:
        advice.append(
            "a network for small volumes (--recipe small-cnn3d), patches (data.patches), or slices as samples "
            "(data.slices)"
        )
    if device == "cuda":
        advice.append("half precision: --set training.precision=bf16-mixed")
    return advice


def _forecast(settings: ExperimentConfig, shape: tuple[int, ...], classes: int) -> MemoryForecast:
    """The forecast for a config; computed once for all folds and seeds, which differ in neither field."""
    determined = settings.model_dump_json(include={"model": True, "training": True, "data": {"patches"}})
    key = (determined, shape, classes)
    if key not in _FORECASTS:
        _FORECASTS[key] = _new_forecast(settings, shape, classes)
    return _FORECASTS[key]


_FORECASTS: dict[tuple[str, tuple[int, ...], int], MemoryForecast] = {}


def _new_forecast(settings: ExperimentConfig, shape: tuple[int, ...], classes: int) -> MemoryForecast:
    patches, model = settings.data.patches, settings.model
    if model.freezing.thaw:  # most weights are trained after the last change
        last = model.freezing.at_epoch(max(model.freezing.thaw))
        settings = settings.model_copy(update={"model": model.model_copy(update={"freezing": last})})
    return forecast_memory(
        lambda: build_model(settings, shape[0], classes, shape[1:]),
        settings.training,
        (shape[0], *(patches.size if patches else shape[1:])),
        predicts=patches is None,
        process=planned_processes(settings.training, pick_device(settings.training.device).type),
    )


def forecast_seconds(settings: ExperimentConfig, manifest: Manifest, split: Split) -> float:
    """Time of all epochs of a network, from a few steps on images of the training set, in a temporary folder.

    Args:
        settings: The config.
        manifest: The data.
        split: Their split.
    """
    device, shape = pick_device(settings.training.device).type, stored_shape(manifest, settings.preprocessing)
    model = build_model(settings, shape[0], len(manifest.classes), shape[1:])
    training = settings.training
    chosen = split.samples["train"][: training.batch_size]
    few = manifest.select(chosen)
    with temporary_folder() as cache:
        store = open_store(few, settings.preprocessing, cache=cache)
        only = Split(
            samples={"train": chosen, "val": (), "test": ()},
            subjects={"train": (), "val": (), "test": ()},
            unit=split.unit,
            method=split.method,
            seed=split.seed,
            manifest_digest=few.digest,
        )
        module = DataModule.from_split(few, only, store, settings)
        train = module.dataset("train", settings.augmentation, patches=settings.data.patches)
        step = time_of_step(model, train, training, device)
    validated = len(split.samples["val"]) / training.batch_size
    return training.epochs * step * (_steps_per_epoch(split, settings) + validated * FORWARD_SHARE)


def _steps_per_epoch(split: Split, settings: ExperimentConfig) -> int:
    patches = settings.data.patches
    images = len(split.samples["train"]) * (patches.per_volume if patches else 1)
    return math.ceil(images / settings.training.batch_size)
