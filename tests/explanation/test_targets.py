from __future__ import annotations

import numpy as np
import pytest
import torch

from gyrus.errors import ConfigError, DataError
from gyrus.explanation.targets import ClassContrast, Target, parse_target

LOGITS = np.array([[3.0, 1.0, 2.0], [0.0, 5.0, 4.0]], np.float32)
CLASSES = ("CN", "Non-Demented", "AD")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("predicted", Target("predicted")),
        ("true", Target("true")),
        ("AD", Target("AD")),
        ("AD-CN", Target("AD", "CN")),
        ("Non-Demented", Target("Non-Demented")),
        ("AD-Non-Demented", Target("AD", "Non-Demented")),
        ("Non-Demented-AD", Target("Non-Demented", "AD")),
        ("predicted-true", Target("predicted", "true")),
    ],
)
def test_a_target_is_parsed(text: str, expected: Target) -> None:
    assert parse_target(text, CLASSES) == expected


@pytest.mark.parametrize("text", ["MCI", "AD-MCI", "ad", ""])
def test_an_unknown_target_lists_the_known_ones(text: str) -> None:
    with pytest.raises(ConfigError, match="predicted, true, CN, Non-Demented, AD, CN-Non-Demented"):
        parse_target(text, CLASSES)


def test_a_class_minus_itself_is_refused() -> None:
    with pytest.raises(ConfigError, match="from itself"):
        parse_target("AD-AD", CLASSES)


def test_each_image_gets_the_score_of_its_own_class() -> None:
    truths = np.array([2, 2])
    values = torch.from_numpy(LOGITS)
    assert Target("predicted").resolve(LOGITS, truths, CLASSES).scores(values).tolist() == [3.0, 5.0]
    assert Target("true").resolve(LOGITS, truths, CLASSES).scores(values).tolist() == [2.0, 4.0]
    assert Target("CN").resolve(LOGITS, truths, CLASSES).scores(values).tolist() == [3.0, 0.0]
    assert Target("predicted", "true").resolve(LOGITS, truths, CLASSES).scores(values).tolist() == [1.0, 1.0]


def test_the_true_class_needs_labels() -> None:
    with pytest.raises(DataError, match="not known for 1 of the 2 images"):
        Target("true").resolve(LOGITS, np.array([0, -1]), CLASSES)


def test_a_contrast_is_repeated_image_by_image() -> None:
    contrast = ClassContrast(torch.tensor([0, 2]), torch.tensor([1, 1])).repeat(3)
    assert contrast.plus.tolist() == [0, 0, 0, 2, 2, 2]
    assert contrast.select(slice(2, 4)).minus.tolist() == [1, 1]  # type: ignore[union-attr]
