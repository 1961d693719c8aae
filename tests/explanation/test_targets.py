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
def test_a_target_is_read(text: str, expected: Target) -> None:
    assert parse_target(text, CLASSES) == expected


@pytest.mark.parametrize("text", ["MCI", "AD-MCI", "ad", ""])
def test_a_wrong_target_gets_the_list(text: str) -> None:
    with pytest.raises(ConfigError, match="predicted, true, CN, Non-Demented, AD, CN-Non-Demented"):
        parse_target(text, CLASSES)


def test_a_class_against_itself_is_refused() -> None:
    with pytest.raises(ConfigError, match="against itself"):
        parse_target("AD-AD", CLASSES)


def test_each_image_is_asked_about_its_own_class() -> None:
    truths = np.array([2, 2])
    values = torch.from_numpy(LOGITS)
    assert Target("predicted").resolve(LOGITS, truths, CLASSES).of(values).tolist() == [3.0, 5.0]
    assert Target("true").resolve(LOGITS, truths, CLASSES).of(values).tolist() == [2.0, 4.0]
    assert Target("CN").resolve(LOGITS, truths, CLASSES).of(values).tolist() == [3.0, 0.0]
    assert Target("predicted", "true").resolve(LOGITS, truths, CLASSES).of(values).tolist() == [1.0, 1.0]


def test_the_true_class_of_unlabelled_images_cannot_be_asked_about() -> None:
    with pytest.raises(DataError, match="of 1 of the 2 images is not known"):
        Target("true").resolve(LOGITS, np.array([0, -1]), CLASSES)


def test_a_repeated_question_is_the_same_question() -> None:
    contrast = ClassContrast(torch.tensor([0, 2]), torch.tensor([1, 1])).repeated(3)
    assert contrast.plus.tolist() == [0, 0, 0, 2, 2, 2]
    assert contrast.select(slice(2, 4)).minus.tolist() == [1, 1]  # type: ignore[union-attr]
