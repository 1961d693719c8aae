"""Checks before a training starts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from gyrus.errors import ConfigError, DataError
from gyrus.inference.predict import pick_device
from gyrus.training.config import TrainingConfig
from gyrus.training.data_loader import BatchDataset


def check_subsets(train: BatchDataset, val: BatchDataset, classes: Sequence[str]) -> tuple[str, ...]:
    """Refuse a training or validation set that cannot be used. Returns a warning for each set that lacks a class.

    Raises:
        DataError: A set is empty, has an image without a label, or has one class only.
    """
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


def check_batch_norm(model: nn.Module, train: BatchDataset, config: TrainingConfig) -> None:
    """Refuse batches of one image for a model with batch normalisation.

    Raises:
        ConfigError: The batch size is 1; the message says what to change.
    """
    has_norm = any(isinstance(layer, _BatchNorm) for layer in model.modules())
    if has_norm and min(config.batch_size, len(train)) == 1:
        raise ConfigError("training.batch_size is 1, but the model has batch normalisation. Use 2 or more.")


def check_device(config: TrainingConfig) -> str:
    """The type of the device, selected and checked: cpu, cuda or mps.

    Raises:
        ConfigError: The device or the precision is not available.
    """
    device = pick_device(config.device).type
    if device == "cpu" and config.precision == "16-mixed":
        raise ConfigError("training.precision 16-mixed needs a GPU. On the CPU use bf16-mixed or 32-true.")
    return device
