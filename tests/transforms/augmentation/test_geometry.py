from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torchvision.transforms.v2 import functional as torchvision

from gyrus.transforms.augmentation.config import AugmentationConfig
from gyrus.transforms.augmentation.geometry import (
    GeometricStep,
    RandomAffine,
    RandomFlip,
    RandomResizedCrop,
    RandomRotation,
    RandomScale,
    RandomShear,
    RandomTranslation,
    resample,
)
from gyrus.transforms.augmentation.random_streams import Streams

SHAPES = [(20, 16), (17, 20), (8, 20, 16), (9, 12, 15)]

each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def images_of(shape: tuple[int, ...], count: int = 4) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(3).uniform(0, 1, (count, 2, *shape))).float()


def applied(count: int, **values: object) -> dict[str, np.ndarray]:
    """A hand-written draw of ``count`` like images."""
    rows = {name: np.repeat(np.asarray(value)[None], count, axis=0) for name, value in values.items()}
    return {"applied": np.ones(count, dtype=bool), **rows}


@pytest.mark.parametrize(
    "step",
    [
        RandomRotation(axes="all", degrees=40),
        RandomTranslation(axes="all", share=0.3),
        RandomScale(axes="all", factor=(0.6, 1.5)),
        RandomShear(axes="all", degrees=20),
        RandomAffine(degrees=30, shear=10),
        RandomAffine(axes="all", degrees=30, shear=10),
        RandomResizedCrop(axes="all", share=(0.2, 1)),
    ],
    ids=lambda step: f"{step.step}-{step.axes}",
)
@each_shape
def test_agrees_with_scipy_on_the_same_matrices(step: GeometricStep, shape):
    images = images_of(shape)
    draw = step.draw(Streams.at(0, np.arange(4)), shape)
    moved = step.apply(images, draw)
    centre = (np.array(shape) - 1) / 2
    for image, matrix, result in zip(images, step.matrices(draw, shape), moved, strict=True):
        linear, shift = matrix[:-1, :-1], matrix[:-1, -1]
        offset = centre + shift - linear @ centre
        for channel, got in zip(image, result, strict=True):
            expected = ndimage.affine_transform(channel, linear, offset, order=1, mode="grid-constant", prefilter=False)
            np.testing.assert_allclose(got, expected, atol=2e-5)


@each_shape
def test_a_flip_is_torch_flip(shape):
    images = images_of(shape)
    for axis, dimension in (("left-right", -1), ("up-down", -2)):
        step = RandomFlip(axis=axis, probability=1)
        assert torch.equal(step.apply(images, step.draw(Streams.at(0, np.arange(4)), shape)), images.flip(dimension))
    step = RandomFlip(axis="any", probability=1)
    flipped = step.apply(images, step.draw(Streams.at(0, np.arange(4)), shape))
    for image, result in zip(images, flipped, strict=True):
        assert sum(torch.equal(result, image.flip(1 + axis)) for axis in range(len(shape))) == 1


def test_all_axes_of_a_volume_are_flipped_equally_often():
    drawn = RandomFlip(axis="any").draw(Streams.at(0, np.arange(3000)), (4, 4, 4))["flipped"]
    np.testing.assert_array_equal(drawn.sum(axis=1), 1)
    np.testing.assert_allclose(drawn.mean(axis=0), 1 / 3, atol=0.03)


@pytest.mark.parametrize("shape", [(20, 20), (6, 20, 20)], ids=str)
@pytest.mark.parametrize("quarters", [1, 2, -1])
def test_rotation_by_right_angles_is_rot90_anticlockwise(shape, quarters):
    images = images_of(shape)
    rotated = RandomRotation().apply(images, applied(4, degrees=[90.0 * quarters]))
    expected = torch.rot90(images, quarters, dims=(-2, -1))
    torch.testing.assert_close(rotated, expected, atol=1e-5, rtol=0)


def test_a_volume_is_rotated_about_each_axis():
    volume = torch.zeros(1, 1, 9, 9, 9)
    volume[0, 0, 4, 4, 7] = 1
    by_plane = {0: (4, 4, 7), 1: (1, 4, 4), 2: (4, 1, 4)}
    for plane, place in by_plane.items():
        rotated = RandomRotation(axes="all").apply(volume, applied(1, degrees=np.eye(3)[plane] * 90))
        assert rotated[(0, 0, *place)] == pytest.approx(1, abs=1e-4)


@each_shape
def test_translation_by_whole_voxels_is_exact(shape):
    images = images_of(shape)
    moved = RandomTranslation().apply(images, applied(4, translation=[3 / shape[-2], -2 / shape[-1]]))
    expected = torch.zeros_like(images)
    expected[..., 3:, :-2] = images[..., :-3, 2:]
    torch.testing.assert_close(moved, expected, atol=2e-6, rtol=0)


def test_affine_agrees_with_torchvision():
    image = images_of((32, 32), 1)
    draw = applied(1, degrees=[20.0], translation=[2 / 32, -3 / 32], factor=1.2, shear=[0.0])
    expected = torchvision.affine(
        image,
        angle=-20,
        translate=[-3, 2],
        scale=1.2,
        shear=[0, 0],
        interpolation=torchvision.InterpolationMode.BILINEAR,
    )
    torch.testing.assert_close(RandomAffine().apply(image, draw), expected, atol=1e-4, rtol=0)


def test_scale_enlarges_and_shear_shifts_columns_by_the_row():
    image = torch.zeros(1, 1, 21, 21)
    image[0, 0, 10, 14] = image[0, 0, 14, 10] = 1
    enlarged = RandomScale().apply(image, applied(1, factor=2.0))
    assert enlarged[0, 0, 10, 18] == pytest.approx(1, abs=1e-5)
    sheared = RandomShear().apply(image, applied(1, shear=[45.0]))
    assert sheared[0, 0, 14, 14] == pytest.approx(1, abs=1e-5)
    assert sheared[0, 0, 10, 14] == pytest.approx(1, abs=1e-5)


def test_a_whole_voxel_crop_agrees_with_torchvision():
    image = images_of((32, 24), 1)
    draw = applied(1, sides=[0.5, 0.5], corner=[4 / 32, 6 / 24])
    expected = torchvision.resized_crop(image, 4, 6, 16, 12, [32, 24], antialias=False)
    cropped = RandomResizedCrop().apply(image, draw)
    # Outside the crop torchvision repeats its border, Gyrus sees the neighbouring voxels.
    torch.testing.assert_close(cropped[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1], atol=1e-5, rtol=0)


@settings(deadline=None)
@given(
    low=st.floats(0.05, 1),
    high=st.floats(0.05, 1),
    stretch=st.floats(1, 3),
    three=st.booleans(),
    seed=st.integers(0, 99),
)
def test_crops_lie_within_the_image(low, high, stretch, three, seed):
    step = RandomResizedCrop(share=(min(low, high), max(low, high)), ratio=(1 / stretch, stretch), axes="all")
    draw = step.draw(Streams.at(seed, np.arange(50)), (10, 12, 14) if three else (12, 14))
    assert (draw["corner"] >= 0).all()
    assert (draw["corner"] + draw["sides"] <= 1 + 1e-9).all()
    assert (draw["sides"].prod(axis=1) <= step.share[1] + 1e-9).all()


@pytest.mark.parametrize("shape", [(64, 64), (20, 64, 64)], ids=str)
def test_crops_have_the_requested_areas_and_ratios(shape):
    step = RandomResizedCrop(share=(0.3, 0.5), ratio=(0.8, 1.25), axes="all")
    sides = step.draw(Streams.at(0, np.arange(2000)), shape)["sides"]
    fraction, ratio = sides.prod(axis=1), sides[:, -2] / sides[:, -1]
    assert fraction.min() >= 0.3
    assert fraction.max() <= 0.5
    assert fraction.mean() == pytest.approx(0.4, abs=0.01)
    assert ratio.min() >= 0.8
    assert ratio.max() <= 1.25
    assert np.log(ratio).mean() == pytest.approx(0, abs=0.02)


def test_in_plane_steps_move_all_slices_alike():
    volumes = images_of((6, 12, 12))
    chain = AugmentationConfig(
        steps=(RandomResizedCrop(), RandomFlip(), RandomRotation(), RandomAffine(shear=5)), clamp=False
    )
    draws = chain.draw(Streams.at(0, np.arange(4)), (6, 12, 12))
    whole = chain.apply(volumes, draws)
    by_slice = torch.stack([chain.apply(volumes[:, :, number], draws_2d(draws)) for number in range(6)], dim=2)
    torch.testing.assert_close(whole, by_slice, atol=1e-5, rtol=0)


def draws_2d(draws):
    """A draw for volumes, for single slices; in plane, only flips name all axes."""
    return [{**draw, "flipped": draw["flipped"][:, 1:]} if "flipped" in draw else draw for draw in draws]


@each_shape
def test_several_steps_share_one_interpolation_and_agree_with_separate_steps(shape):
    grids = np.meshgrid(*(np.linspace(-2, 2, length) for length in shape), indexing="ij")
    smooth = torch.from_numpy(np.exp(-sum(grid**2 for grid in grids) * 2)).float().expand(4, 1, *shape).contiguous()
    steps = (RandomFlip(), RandomTranslation(share=0.05), RandomRotation(axes="all"), RandomScale(axes="all"))
    chain = AugmentationConfig(steps=steps, clamp=False)
    draws = chain.draw(Streams.at(1, np.arange(4)), shape)
    one_by_one = smooth
    for step, draw in zip(steps, draws, strict=True):
        one_by_one = step.apply(one_by_one, draw)
    # Each further interpolation smooths a little, so they cannot agree exactly.
    torch.testing.assert_close(chain.apply(smooth, draws), one_by_one, atol=0.08, rtol=0)
    assert (chain.apply(smooth, draws) - smooth).abs().max() > 0.2


@settings(max_examples=30, deadline=None)
@given(degrees=st.floats(-180, 180), factor=st.floats(0.5, 2), shift=st.floats(-0.2, 0.2))
def test_a_transform_and_its_inverse_give_the_identity(degrees, factor, shift):
    draw = applied(1, degrees=[degrees], factor=factor, translation=[shift, -shift], shear=[10.0])
    matrix = RandomAffine().matrices(draw, (20, 20))
    back = np.linalg.inv(matrix)
    np.testing.assert_allclose(matrix @ back, np.eye(3)[None], atol=1e-9)
    np.testing.assert_allclose(np.linalg.det(matrix[:, :2, :2]), factor**-2, rtol=1e-9)


def test_a_mixed_batch_keeps_its_order():
    volumes = images_of((5, 8, 8), 5)
    matrices = np.stack([np.eye(4)] * 5)
    matrices[1, 2, 2] = -1
    matrices[2, 1, 3] = 0.5
    matrices[3, 0, 3] = 0.5
    together = resample(volumes, matrices)
    assert torch.equal(together[0], volumes[0])
    assert torch.equal(together[1], volumes[1].flip(-1 - 0))
    for number in range(5):
        assert torch.equal(together[number], resample(volumes[[number]], matrices[[number]])[0])
    half_up = torch.nn.functional.pad(volumes[3], (0, 0, 0, 0, 0, 1))
    torch.testing.assert_close(together[3], (half_up[:, 1:] + half_up[:, :-1]) / 2, atol=1e-5, rtol=0)
