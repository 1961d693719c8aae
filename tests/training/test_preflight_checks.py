"""Mistakes that are found before a training starts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gyrus.errors import ConfigError, DataError
from tests.support.toy import ToyDataset
from tests.support.toy_training import changed, rows, train


def one_class(subset: ToyDataset) -> ToyDataset:
    subset.targets = np.full_like(subset.targets, 1)
    return subset


@pytest.mark.parametrize(
    ("problem", "error", "message"),
    [
        ({"val": ToyDataset(0, seed=1)}, DataError, "validation set is empty"),
        ({"train": ToyDataset(0, seed=1)}, DataError, "training set is empty"),
        (
            {"val": one_class(ToyDataset(9, seed=1))},
            DataError,
            "All 9 images of the validation set are of class 'mild'",
        ),
        ({"classes": ("none", "mild")}, DataError, "without a label"),
        ({"config": changed(batch_size=1)}, ConfigError, "batch normalisation"),
        ({"config": changed(precision="16-mixed")}, ConfigError, "needs a GPU"),
    ],
)
def test_unusable_data_and_settings_are_refused(tmp_path, problem, error, message):
    with pytest.raises(error, match=message):
        train(tmp_path, **problem)
    assert list(tmp_path.iterdir()) == []


def test_absent_device_is_refused(tmp_path):
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    absent = next(name for name, present in available.items() if not present)
    with pytest.raises(ConfigError, match=f"no device '{absent}'"):
        train(tmp_path, changed(device=absent))


def test_lacking_classes_are_named(tmp_path):
    val = ToyDataset(20, seed=2, classes=2)
    fitted, _ = train(tmp_path, val=val)
    assert fitted.warnings == ("The validation set has no image of severe; its scores exclude these classes.",)
    assert {row["val_f1_severe"] for row in rows(tmp_path)} == {""}
