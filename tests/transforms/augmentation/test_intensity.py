from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage, stats
from torchvision.transforms.v2 import functional as torchvision

from gyrus.transforms.augmentation.intensity import (
    RandomBlur,
    RandomBrightness,
    RandomContrast,
    RandomGamma,
    RandomIntensityShift,
    RandomNoise,
    RandomSharpness,
)
from gyrus.transforms.augmentation.random_streams import Streams

SHAPES = [(24, 20), (8, 20, 16)]


each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def images_of(shape: tuple[int, ...], count: int = 3) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(3).uniform(0.2, 0.8, (count, 2, *shape))).float()


def applied(**values: list[float]) -> dict[str, np.ndarray]:
    """A hand-written draw; each list has one number per image."""
    rows = {name: np.asarray(numbers) for name, numbers in values.items()}
    return {"applied": np.ones(len(next(iter(rows.values()))), dtype=bool), **rows}


@each_shape
def test_gamma_is_a_power_and_agrees_with_torchvision(shape):
    images = images_of(shape)
    changed = RandomGamma().apply(images, applied(exponent=[0.5, 1.0, 2.0]))
    for image, result, exponent in zip(images, changed, (0.5, 1.0, 2.0), strict=True):
        torch.testing.assert_close(result, image**exponent)
        torch.testing.assert_close(result, torchvision.adjust_gamma(image[:, None], exponent)[:, 0])
    below = RandomGamma().apply(torch.full((1, 1, 4, 4), -0.1), applied(exponent=[0.9]))
    assert torch.equal(below, torch.zeros(1, 1, 4, 4))


def test_brightness_multiplies_then_adds_and_agrees_with_torchvision():
    images = images_of((20, 20))
    changed = RandomBrightness().apply(images, applied(factor=[0.8, 1.0, 1.2], shift=[0.0, 0.1, 0.0]))
    torch.testing.assert_close(changed[1], images[1] + 0.1)
    for number, factor in ((0, 0.8), (2, 1.2)):
        torch.testing.assert_close(changed[number, :1], torchvision.adjust_brightness(images[number, :1], factor))


def test_contrast_keeps_the_mean_and_agrees_with_torchvision():
    images = images_of((20, 20))
    changed = RandomContrast().apply(images, applied(factor=[0.5, 1.0, 1.2]))
    torch.testing.assert_close(changed.mean(dim=(2, 3)), images.mean(dim=(2, 3)))
    for number, factor in ((0, 0.5), (2, 1.2)):
        torch.testing.assert_close(changed[number, :1], torchvision.adjust_contrast(images[number, :1], factor))


@each_shape
def test_a_shift_is_one_normal_number_per_image(shape):
    step = RandomIntensityShift(std=0.02)
    images = images_of(shape)
    added = (step.apply(images, step.draw(Streams.at(0, np.arange(3)), shape)) - images).flatten(1)
    torch.testing.assert_close(added, added[:, :1].expand_as(added), atol=1e-6, rtol=0)
    shifts = step.draw(Streams.at(0, np.arange(4000)), shape)["shift"]
    assert stats.kstest(shifts / 0.02, "norm").pvalue > 0.01


def test_noise_is_normal_independent_and_has_the_requested_std():
    images = torch.full((2, 1, 128, 128), 0.5)
    noise = RandomNoise().apply(images, {**applied(std=[0.02, 0.1]), "seed": np.array([4, 5])}) - images
    np.testing.assert_allclose(noise.std(dim=(1, 2, 3)), [0.02, 0.1], rtol=0.02)
    assert stats.kstest(noise[0].flatten().numpy() / 0.02, "norm").pvalue > 0.01
    assert abs(np.corrcoef(noise[0].flatten(), noise[1].flatten())[0, 1]) < 0.03


def test_rician_noise_raises_the_background_by_the_rayleigh_mean():
    noisy = RandomNoise(distribution="rician").apply(
        torch.zeros(1, 1, 256, 256), {**applied(std=[0.05]), "seed": np.array([1])}
    )
    assert noisy.min() >= 0
    assert noisy.mean() == pytest.approx(0.05 * np.sqrt(np.pi / 2), rel=0.02)


@each_shape
@pytest.mark.parametrize("axes", ["in-plane", "all"])
def test_blur_agrees_with_scipy(shape, axes):
    images = images_of(shape)
    sigma = [0.4, 1.0, 1.5]
    blurred = RandomBlur(sigma=(0, 1.5), axes=axes).apply(images, applied(sigma=sigma))
    for image, result, width in zip(images, blurred, sigma, strict=True):
        widths = [width] * len(shape)
        if len(shape) == 3 and axes == "in-plane":
            widths[0] = 0
        expected = ndimage.gaussian_filter(image.numpy(), [0, *widths], mode="nearest", radius=[0, *[6] * len(shape)])
        np.testing.assert_allclose(result, expected, atol=1e-5)


def test_a_blur_of_three_taps_agrees_with_torchvision():
    images = images_of((20, 20), 1)
    expected = torchvision.gaussian_blur(images, [3, 3], [0.7, 0.7])
    blurred = RandomBlur(taps=3).apply(images, applied(sigma=[0.7]))
    torch.testing.assert_close(blurred[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1])


def test_sharpness_agrees_with_torchvision_and_works_slice_by_slice():
    volume = images_of((5, 20, 20), 1) * 0.5 + 0.25
    for factor in (0.0, 0.5, 1.1, 1.5):
        sharpened = RandomSharpness().apply(volume, applied(factor=[factor]))
        for number in range(5):
            expected = torchvision.adjust_sharpness(volume[0, :1, number], factor)
            inside = np.s_[0, :1, number, 1:-1, 1:-1]
            torch.testing.assert_close(sharpened[inside], expected[:, 1:-1, 1:-1], atol=1e-5, rtol=0)
