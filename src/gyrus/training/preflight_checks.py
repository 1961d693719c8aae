"""What is looked at before a training begins."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from gyrus.errors import ConfigError, DataError
from gyrus.inference.predict import pick_device
from gyrus.training.config import TrainingConfig
from gyrus.training.data_loader import PartDataset


def check_parts(train: PartDataset, val: PartDataset, classes: Sequence[str]) -> tuple[str, ...]:
    """Refuse parts that cannot be learnt from or chosen by. Returns a remark on each part that lacks a class.

    Raises:
        DataError: A part is empty, has an image without a label, or has one class only.
    """
    remarks = []
    for name, subset in (("training", train), ("validation", val)):
        targets = np.asarray(subset.targets)
        _refuse_useless(name, targets, classes)
        lacking = [label for index, label in enumerate(classes) if index not in targets]
        if lacking:
            remarks.append(f"The {name} part has no image of {', '.join(lacking)}; its scores leave them out.")
    return tuple(remarks)


def check_batch_norm(model: nn.Module, train: PartDataset, config: TrainingConfig) -> None:
    """Refuse batches of one image for a model with batch normalisation.

    Raises:
        ConfigError: Says what to change.
    """
    has_norm = any(isinstance(layer, _BatchNorm) for layer in model.modules())
    if has_norm and min(config.batch_size, len(train)) == 1:
        raise ConfigError("training.batch_size is 1, but the model has batch normalisation. Use 2 or more.")


def check_device(config: TrainingConfig) -> str:
    """The kind of device, chosen and checked: cpu, cuda or mps.

    Raises:
        ConfigError: There is no such device here, or it has no such precision.
    """
    device = pick_device(config.device).type
    if device == "cpu" and config.precision == "16-mixed":
        raise ConfigError("training.precision 16-mixed needs a GPU. On the CPU use bf16-mixed or 32-true.")
    return device


def _refuse_useless(name: str, targets: np.ndarray, classes: Sequence[str]) -> None:
    if not len(targets):
        raise DataError(f"The {name} part is empty. Change the shares of the split.")
    if targets.min() < 0 or targets.max() >= len(classes):
        raise DataError(f"The {name} part has images without a label among {list(classes)}. Leave them out.")
    if len(set(targets.tolist())) == 1:
        raise DataError(
            f"All {len(targets)} images of the {name} part are of class '{classes[targets[0]]}': "
            "nothing can be told apart. Give it more subjects, or use another split seed."
        )
