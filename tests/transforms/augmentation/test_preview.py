from __future__ import annotations

import numpy as np
import pytest
import torch

from gyrus.errors import DataError
from gyrus.synthetic.phantom import generate
from gyrus.transforms.augmentation.config import AUGMENTATIONS, AugmentationConfig
from gyrus.transforms.augmentation.geometry import RandomFlip, RandomRotation
from gyrus.transforms.augmentation.intensity import RandomGamma, RandomNoise
from gyrus.transforms.augmentation.preview import preview


@pytest.fixture(scope="module")
def volumes() -> np.ndarray:
    return generate(subjects=2, slices=6, classes=2, size=32, seed=1).volumes[:, None] / np.float32(255)


def pictures(figure) -> list[np.ndarray]:
    return [np.asarray(axes.images[0].get_array()) for axes in figure.axes]


def words(figure) -> list[str]:
    return [text.get_text() for text in figure.texts]


def test_every_step_has_a_row_and_a_caution_if_needed(volumes):
    figure = preview(volumes[:, :, 3])
    texts = words(figure)
    assert {"flip, left-right", "flip, up-down", *AUGMENTATIONS} - set(texts) == {"flip"}
    flagged = sum(bool(step.may_change_meaning) for step in AUGMENTATIONS.values())
    assert texts.count("may change meaning") == flagged + 1
    # The original and three strengths, but a flip has no strength.
    assert len(figure.axes) == 4 * (len(AUGMENTATIONS) + 1) - 2 * 2


def test_panels_show_the_original_and_rising_strength(volumes):
    image = volumes[:1, :, 3]
    original, low, middle, high = pictures(preview(image, [RandomGamma(exponent=(1, 2))]))
    np.testing.assert_array_equal(original, image[0, 0])
    for panel, exponent in ((low, 4 / 3), (middle, 5 / 3), (high, 2)):
        np.testing.assert_allclose(panel, image[0, 0] ** exponent, atol=1e-5)


def test_a_flip_is_shown_once_and_a_config_row_by_row(volumes):
    config = AugmentationConfig(steps=(RandomFlip(axis="up-down"), RandomRotation(degrees=9)))
    figure = preview(volumes[:1, :, 3], config)
    panels = pictures(figure)
    assert len(panels) == 2 + 4
    np.testing.assert_array_equal(panels[1], panels[0][::-1])
    assert "9°" in " ".join(words(figure))


def test_a_volume_is_shown_by_its_three_middle_planes(volumes):
    volume = volumes[0, 0]
    panel = pictures(preview(volumes[:1], [RandomNoise()]))[0]
    assert panel.shape == (32, 96)
    np.testing.assert_array_equal(panel[:, :32], volume[3])
    np.testing.assert_array_equal(panel[13:19, 32:64], volume[::-1, 16])
    np.testing.assert_array_equal(panel[13:19, 64:], volume[::-1, :, 16])


def test_the_sheet_depends_on_the_seed(volumes):
    sheets = [pictures(preview(volumes[:1, :, 3], [RandomRotation(), RandomNoise()], seed=seed)) for seed in (0, 0, 1)]
    for first, again in zip(*sheets[:2], strict=True):
        np.testing.assert_array_equal(first, again)
    assert (sheets[0][-1] != sheets[2][-1]).any()


def test_a_sheet_can_be_saved(tmp_path):
    preview(torch.rand(1, 3, 16, 16), [RandomNoise()]).savefig(tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").stat().st_size > 1000


def test_invalid_images_are_refused(volumes):
    for images in (volumes[0, 0, 0], (volumes * 255).astype(np.uint8)):
        with pytest.raises(DataError, match=r"needs floating-point images in 0\.\.1 of shape"):
            preview(images)
    with pytest.raises(DataError, match="no steps to preview"):
        preview(volumes, AugmentationConfig())
