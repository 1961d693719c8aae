from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats
from torchvision.transforms.v2 import functional as torchvision

from gyrus.transforms.augmentation.config import AugmentationConfig
from gyrus.transforms.augmentation.erasing import CoarseDropout, Erasing
from gyrus.transforms.augmentation.intensity import (
    Blur,
    Brightness,
    Contrast,
    Gamma,
    IntensityShift,
    Noise,
    Sharpness,
)
from gyrus.transforms.augmentation.randaugment import STRONGEST, RandAugment
from gyrus.transforms.augmentation.random_streams import Streams

SHAPES = [(24, 20), (8, 20, 16)]

each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def images_of(shape: tuple[int, ...], count: int = 3) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(3).uniform(0.2, 0.8, (count, 2, *shape))).float()


def applied(**values: list[float]) -> dict[str, np.ndarray]:
    """A hand-written draw; each list has one number an image."""
    rows = {name: np.asarray(numbers) for name, numbers in values.items()}
    return {"applied": np.ones(len(next(iter(rows.values()))), dtype=bool), **rows}


@each_shape
def test_gamma_is_a_power_and_agrees_with_torchvision(shape):
    images = images_of(shape)
    changed = Gamma().apply(images, applied(exponent=[0.5, 1.0, 2.0]))
    for image, result, exponent in zip(images, changed, (0.5, 1.0, 2.0), strict=True):
        torch.testing.assert_close(result, image**exponent)
        torch.testing.assert_close(result, torchvision.adjust_gamma(image[:, None], exponent)[:, 0])
    below = Gamma().apply(torch.full((1, 1, 4, 4), -0.1), applied(exponent=[0.9]))
    assert torch.equal(below, torch.zeros(1, 1, 4, 4))


def test_brightness_multiplies_then_adds_and_agrees_with_torchvision():
    images = images_of((20, 20))
    changed = Brightness().apply(images, applied(factor=[0.8, 1.0, 1.2], shift=[0.0, 0.1, 0.0]))
    torch.testing.assert_close(changed[1], images[1] + 0.1)
    for number, factor in ((0, 0.8), (2, 1.2)):
        torch.testing.assert_close(changed[number, :1], torchvision.adjust_brightness(images[number, :1], factor))


def test_contrast_keeps_the_mean_and_agrees_with_torchvision():
    images = images_of((20, 20))
    changed = Contrast().apply(images, applied(factor=[0.5, 1.0, 1.2]))
    torch.testing.assert_close(changed.mean(dim=(2, 3)), images.mean(dim=(2, 3)))
    for number, factor in ((0, 0.5), (2, 1.2)):
        torch.testing.assert_close(changed[number, :1], torchvision.adjust_contrast(images[number, :1], factor))


@each_shape
def test_a_shift_is_one_normal_number_an_image(shape):
    step = IntensityShift(std=0.02)
    images = images_of(shape)
    added = (step.apply(images, step.draw(Streams.at(0, np.arange(3)), shape)) - images).flatten(1)
    torch.testing.assert_close(added, added[:, :1].expand_as(added), atol=1e-6, rtol=0)
    shifts = step.draw(Streams.at(0, np.arange(4000)), shape)["shift"]
    assert stats.kstest(shifts / 0.02, "norm").pvalue > 0.01


def test_noise_has_the_std_asked_for_and_is_normal_and_independent():
    images = torch.full((2, 1, 128, 128), 0.5)
    noise = Noise().apply(images, {**applied(std=[0.02, 0.1]), "seed": np.array([4, 5])}) - images
    np.testing.assert_allclose(noise.std(dim=(1, 2, 3)), [0.02, 0.1], rtol=0.02)
    assert stats.kstest(noise[0].flatten().numpy() / 0.02, "norm").pvalue > 0.01
    assert abs(np.corrcoef(noise[0].flatten(), noise[1].flatten())[0, 1]) < 0.03


def test_rician_noise_lifts_the_background_by_rayleighs_mean():
    noisy = Noise(distribution="rician").apply(
        torch.zeros(1, 1, 256, 256), {**applied(std=[0.05]), "seed": np.array([1])}
    )
    assert noisy.min() >= 0
    assert noisy.mean() == pytest.approx(0.05 * np.sqrt(np.pi / 2), rel=0.02)


@each_shape
@pytest.mark.parametrize("axes", ["in-plane", "all"])
def test_blur_agrees_with_scipy(shape, axes):
    images = images_of(shape)
    sigma = [0.4, 1.0, 1.5]
    blurred = Blur(sigma=(0, 1.5), axes=axes).apply(images, applied(sigma=sigma))
    for image, result, width in zip(images, blurred, sigma, strict=True):
        widths = [width] * len(shape)
        if len(shape) == 3 and axes == "in-plane":
            widths[0] = 0
        expected = ndimage.gaussian_filter(image.numpy(), [0, *widths], mode="nearest", radius=[0, *[6] * len(shape)])
        np.testing.assert_allclose(result, expected, atol=1e-5)


def test_a_blur_of_three_taps_agrees_with_torchvision():
    images = images_of((20, 20), 1)
    expected = torchvision.gaussian_blur(images, [3, 3], [0.7, 0.7])
    blurred = Blur(taps=3).apply(images, applied(sigma=[0.7]))
    torch.testing.assert_close(blurred[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1])


def test_sharpness_agrees_with_torchvision_and_works_slice_by_slice():
    volume = images_of((5, 20, 20), 1) * 0.5 + 0.25
    for factor in (0.0, 0.5, 1.1, 1.5):
        sharpened = Sharpness().apply(volume, applied(factor=[factor]))
        for number in range(5):
            expected = torchvision.adjust_sharpness(volume[0, :1, number], factor)
            inside = np.s_[0, :1, number, 1:-1, 1:-1]
            torch.testing.assert_close(sharpened[inside], expected[:, 1:-1, 1:-1], atol=1e-5, rtol=0)


@each_shape
@pytest.mark.parametrize("step", [Erasing(probability=1, value=0.9), CoarseDropout(probability=1, value=0.9)])
def test_the_drawn_boxes_are_painted_and_nothing_else(step, shape):
    images = images_of(shape)
    draw = step.draw(Streams.at(0, np.arange(3)), shape)
    erased = step.apply(images, draw)
    for number in range(3):
        inside = np.zeros(shape, dtype=bool)
        for start, stop in zip(draw["starts"][number], draw["stops"][number], strict=True):
            inside[tuple(map(slice, start, stop))] = True
        assert inside.any()
        assert (erased[number][:, inside] == np.float32(0.9)).all()
        assert torch.equal(erased[number][:, ~inside], images[number][:, ~inside])


@settings(deadline=None)
@given(low=st.floats(0, 1), high=st.floats(0, 1), stretch=st.floats(1, 5), three=st.booleans(), seed=st.integers(0, 99))
def test_boxes_lie_within_the_image(low, high, stretch, three, seed):
    shape = (7, 12, 14) if three else (12, 14)
    share = min(low, high), max(low, high)
    for step in (Erasing(share=share, ratio=(1 / stretch, stretch)), CoarseDropout(side=share)):
        draw = step.draw(Streams.at(seed, np.arange(30)), shape)
        assert (draw["starts"] >= 0).all()
        assert (draw["starts"] <= draw["stops"]).all()
        assert (draw["stops"] <= shape).all()


def test_erasing_takes_the_share_asked_for_and_dropout_the_number_of_holes():
    draw = Erasing(share=(0.1, 0.2), ratio=(0.5, 2)).draw(Streams.at(0, np.arange(2000)), (200, 200))
    share = (draw["stops"] - draw["starts"]).prod(axis=-1)[:, 0] / 200**2
    assert share.min() > 0.095
    assert share.max() < 0.21
    assert share.mean() == pytest.approx(0.15, abs=0.005)
    draw = CoarseDropout(holes=(3, 6)).draw(Streams.at(0, np.arange(2000)), (200, 200))
    holes = (draw["stops"] > draw["starts"]).all(axis=-1).sum(axis=1)
    assert set(holes) == {3, 4, 5, 6}


@each_shape
def test_randaugment_applies_the_operations_that_it_drew(shape):
    step = RandAugment(operations_per_image=3, magnitude=15)
    images = images_of(shape)
    draw = step.draw(Streams.at(7, np.arange(3)), shape)
    augmented = step.apply(images, draw)
    for number in range(3):
        expected = images[[number]]
        for operation, key in zip(draw["operation"][number], draw["key"][number], strict=True):
            name = step.operations[operation]
            if name != "identity":
                amounts = STRONGEST[name].draw(Streams(key[None]), shape, 0.5)
                expected = STRONGEST[name].apply(expected, amounts)
        torch.testing.assert_close(augmented[number], expected[0], atol=1e-6, rtol=0)


def test_randaugment_draws_every_operation_about_as_often_and_only_those_asked_for():
    counts = np.bincount(RandAugment().draw(Streams.at(0, np.arange(5000)), (8, 8))["operation"].ravel())
    assert len(counts) == len(RandAugment().operations)
    assert stats.chisquare(counts).pvalue > 0.01
    only = RandAugment(operations=("identity",))
    images = images_of((8, 8))
    assert torch.equal(only.apply(images, only.draw(Streams.at(0, np.arange(3)), (8, 8))), images)


@pytest.mark.parametrize("strength", [0.25, 1.0])
def test_a_strength_goes_to_an_end_of_the_range(strength):
    streams = Streams.at(0, np.arange(200))
    both = Gamma(exponent=(0.5, 3)).draw(streams, (8, 8), strength)["exponent"]
    assert set(both.round(6)) == {round(1 - 0.5 * strength, 6), round(1 + 2 * strength, 6)}
    one = Noise(std=(0.1, 0.4)).draw(streams, (8, 8), strength)["std"]
    np.testing.assert_allclose(one, 0.4 * strength)


def test_values_are_limited_to_0_and_1_at_the_end_only_and_only_if_wished():
    images = torch.full((1, 1, 4, 4), 0.6)
    steps = ({"step": "brightness", "factor": [2, 2]}, {"step": "brightness", "factor": [0.75, 0.75]})
    for clamp, first in ((True, 1.0), (False, 1.2)):
        one = AugmentationConfig.model_validate({"clamp": clamp, "steps": steps[:1]})
        two = AugmentationConfig.model_validate({"clamp": clamp, "steps": steps})
        streams = Streams.at(0)
        assert one.apply(images, one.draw(streams, (4, 4))).max() == pytest.approx(first)
        assert two.apply(images, two.draw(streams, (4, 4))).max() == pytest.approx(0.9)
