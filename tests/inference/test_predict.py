"""Test-time augmentation: reproducible, and independent of the other images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import softmax
from torch import nn

from gyrus.datasets.store import Store
from gyrus.datasets.torch_dataset import PixelDataset
from gyrus.inference.predict import keys_from_digests, predict_logits, predict_with_tta, tta_augmentation
from gyrus.transforms.augmentation.config import AugmentationConfig
from gyrus.transforms.augmentation.geometry import RandomFlip, RandomRotation
from gyrus.transforms.normalisation import IntensityScaling, Normalisation, image_statistics

COUNT = 6
ALWAYS_FLIPPED = AugmentationConfig(steps=(RandomFlip(probability=1.0),))
TURNED = AugmentationConfig(steps=(RandomRotation(degrees=30),))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder: Path = tmp_path_factory.mktemp("store")
    pixels = np.random.default_rng(0).integers(0, 256, size=(COUNT, 1, 16, 16), dtype=np.uint8)
    np.save(folder / "pixels.npy", pixels)
    np.save(folder / "statistics.npy", np.stack([image_statistics(image, IntensityScaling()) for image in pixels]))
    return Store(folder)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(256, 3))


def answers(
    model: nn.Module, store: Store, rows: list[int], steps: AugmentationConfig, *, copies: int, seed: int = 0
) -> np.ndarray:
    keys = keys_from_digests([f"{row:x}{'0' * 63}" for row in rows])
    normalisation = Normalisation.fit(IntensityScaling(), store.statistics)
    arguments = store, np.array(rows), np.zeros(len(rows), np.int64), normalisation
    altered = PixelDataset(*arguments, augmentation=steps, seed=seed, keys=keys)
    return predict_with_tta(model, PixelDataset(*arguments), altered, copies=copies)


def test_the_answer_is_the_mean_probability_of_the_image_and_its_copies(model, store):
    normalisation = Normalisation.fit(IntensityScaling(), store.statistics)
    plain = PixelDataset(store, np.arange(COUNT), np.zeros(COUNT, np.int64), normalisation)
    images = plain.__getitems__(list(range(COUNT))).images
    with torch.inference_mode():
        straight, mirrored = (model(each).softmax(1).numpy() for each in (images, images.flip(3)))
    said = answers(model, store, list(range(COUNT)), ALWAYS_FLIPPED, copies=3)
    np.testing.assert_allclose(softmax(said, axis=1), (straight + 3 * mirrored) / 4, atol=1e-5)
    np.testing.assert_array_equal(
        answers(model, store, list(range(COUNT)), ALWAYS_FLIPPED, copies=0), predict_logits(model, plain)
    )


def test_an_answer_depends_on_image_seed_and_number_of_copies_only(model, store):
    every = answers(model, store, list(range(COUNT)), TURNED, copies=2)
    np.testing.assert_array_equal(every, answers(model, store, list(range(COUNT)), TURNED, copies=2))
    np.testing.assert_allclose(answers(model, store, [4, 1], TURNED, copies=2), every[[4, 1]], atol=1e-6)
    for other in ({"copies": 3}, {"copies": 2, "seed": 1}):
        assert np.abs(answers(model, store, list(range(COUNT)), TURNED, **other) - every).max() > 1e-3


def test_copies_are_augmented_as_in_training_or_a_little():
    assert tta_augmentation(TURNED) == TURNED
    assert [step.step for step in tta_augmentation(AugmentationConfig()).steps] == ["flip", "translation"]
