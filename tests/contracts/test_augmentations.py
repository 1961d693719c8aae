"""What every random step promises, in 2D and 3D."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from gyrus.configuration import parse
from gyrus.errors import ConfigError
from gyrus.transforms.augmentation.config import AUGMENTATIONS, AnyAugmentation, AugmentationConfig
from gyrus.transforms.augmentation.geometry import (
    RandomAffine,
    RandomFlip,
    RandomResizedCrop,
    RandomRotation,
    RandomScale,
    RandomShear,
    RandomTranslation,
)
from gyrus.transforms.augmentation.intensity import RandomBlur, RandomNoise
from gyrus.transforms.augmentation.random_step import RandomStep
from gyrus.transforms.augmentation.random_streams import Streams

VARIANTS: dict[str, RandomStep] = {
    "flip-any": RandomFlip(axis="any"),
    "flip-up-down": RandomFlip(axis="up-down"),
    "rotation-all": RandomRotation(axes="all", degrees=60),
    "translation-all": RandomTranslation(axes="all"),
    "scale-all": RandomScale(axes="all"),
    "shear-all": RandomShear(axes="all"),
    "affine-all": RandomAffine(axes="all", shear=10, probability=0.5),
    "resized-crop-all": RandomResizedCrop(axes="all", share=(0.08, 1)),
    "noise-rician": RandomNoise(distribution="rician"),
    "blur-all": RandomBlur(axes="all", taps=3),
    **{
        f"{name}-all": TypeAdapter(AnyAugmentation).validate_python({"step": name, "axes": "all"})
        for name in ("gibbs", "ghosting", "spikes")
    },
}
STEPS = {**{name: step() for name, step in AUGMENTATIONS.items()}, **VARIANTS}
SHAPES = {"2d": (24, 20), "3d": (6, 14, 12)}

each_step = pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
each_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


def heads(shape: tuple[int, ...], count: int = 6) -> torch.Tensor:
    """Bright ellipsoids with texture on dark gray, in 0..1, two channels."""
    axes = np.meshgrid(*(np.linspace(-1.3, 1.3, length) for length in shape), indexing="ij")
    inside = sum(axis**2 for axis in axes) < 1
    texture = np.random.default_rng(5).uniform(0.3, 0.9, (count, 2, *shape))
    return torch.from_numpy(np.where(inside, texture, 0.1)).float()


@each_step
@each_shape
def test_keeps_shape_and_type_and_leaves_its_argument_alone(step, shape):
    images = heads(shape)
    before = images.clone()
    changed = step.apply(images, step.draw(Streams.at(0, np.arange(6)), shape))
    assert changed.shape == images.shape
    assert changed.dtype == torch.float32
    assert changed.isfinite().all()
    assert torch.equal(images, before)


@each_step
@each_shape
def test_full_strength_changes_every_image(step, shape):
    images = heads(shape)
    changed = step.apply(images, step.draw(Streams.at(0, np.arange(6)), shape, 1.0))
    if not getattr(step, "operations", None):
        assert ((changed - images).abs().flatten(1).amax(1) > 1e-3).all()


@each_step
@each_shape
def test_strength_0_is_the_identity(step, shape):
    images = heads(shape)
    changed = step.apply(images, step.draw(Streams.at(1, np.arange(6)), shape, 0.0))
    torch.testing.assert_close(changed, images, atol=1e-6, rtol=0)


@each_step
@each_shape
def test_probability_0_is_the_identity_and_a_half_changes_some(step, shape):
    images = heads(shape, 2).repeat(32, 1, *[1] * len(shape))
    never = step.model_copy(update={"probability": 0.0})
    assert torch.equal(never.apply(images, never.draw(Streams.at(1, np.arange(64)), shape)), images)
    sometimes = step.model_copy(update={"probability": 0.5})
    applied = sometimes.draw(Streams.at(1, np.arange(64)), shape)["applied"]
    changed = sometimes.apply(images, sometimes.draw(Streams.at(1, np.arange(64)), shape))
    assert 16 <= applied.sum() <= 48
    assert torch.equal(changed[~applied], images[~applied])


@each_step
@each_shape
def test_same_draw_same_image_whatever_the_global_random_state(step, shape):
    images = heads(shape)
    draw = step.draw(Streams.at(2, np.arange(6)), shape)
    torch.manual_seed(0)
    first = step.apply(images, draw)
    torch.manual_seed(1)
    assert torch.equal(first, step.apply(images, draw))


@each_step
@each_shape
def test_an_image_does_not_depend_on_the_others_of_its_batch(step, shape):
    images = heads(shape)
    together = step.draw(Streams.at(3, np.arange(6)), shape)
    changed = step.apply(images, together)
    for number in (4, 1):
        alone = step.draw(Streams.at(3, np.array([number])), shape)
        for name, values in alone.items():
            np.testing.assert_array_equal(values[0], together[name][number])
        torch.testing.assert_close(step.apply(images[[number]], alone)[0], changed[number], atol=1e-6, rtol=0)


@each_step
def test_a_step_saved_and_loaded_is_the_same(step):
    assert TypeAdapter(AnyAugmentation).validate_python(json.loads(step.model_dump_json())) == step


@each_step
@each_shape
def test_channels_are_moved_and_scaled_alike(step, shape):
    gray = heads(shape)[:, :1].repeat(1, 2, *[1] * len(shape))
    changed = step.apply(gray, step.draw(Streams.at(4, np.arange(6)), shape))
    if step.step not in ("noise", "randaugment"):
        torch.testing.assert_close(changed[:, 0], changed[:, 1])


def test_every_step_is_in_the_table_under_its_own_name():
    assert {name: step().step for name, step in AUGMENTATIONS.items()} == {name: name for name in AUGMENTATIONS}


def test_the_steps_that_may_change_meaning_say_so():
    flagged = {name for name, step in AUGMENTATIONS.items() if step.may_change_meaning}
    assert flagged == {"flip", "scale", "shear", "affine", "resized-crop", "erasing", "coarse-dropout", "randaugment"}
    assert AugmentationConfig(steps=(RandomRotation(), RandomFlip())).cautions() == (
        f"flip: {RandomFlip.may_change_meaning}",
    )


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"step": "rotaton"}, "steps.0: there is no 'rotaton'. Did you mean 'rotation'"),
        ({"step": "rotation", "degree": 5}, "steps.0.degree: there is no such field. Did you mean 'degrees'"),
        ({"step": "rotation", "degrees": -5}, "greater than or equal to 0"),
        ({"step": "gamma", "exponent": [2, 1]}, "the lower end must come first, got 2.0 and 1.0"),
        ({"step": "gamma", "exponent": [0, 1]}, "greater than 0"),
        ({"step": "noise", "std": [0, float("inf")]}, "finite"),
        ({"step": "blur", "taps": 4}, "must be odd"),
        ({"step": "flip", "probability": 1.5}, "less than or equal to 1"),
        ({"step": "coarse-dropout", "holes": [9, 8]}, "the lower end must come first, got 9 and 8"),
        ({"step": "randaugment", "operations": []}, "at least 1 item"),
    ],
)
def test_mistakes_in_a_config_are_told(step, message):
    with pytest.raises(ConfigError) as told:
        parse(AugmentationConfig, {"steps": [step]}, where="The config")
    assert message in str(told.value)


def test_float64_images_stay_float64():
    images = heads((16, 16)).double()
    for step in STEPS.values():
        changed = step.apply(images, step.draw(Streams.at(0, np.arange(6)), (16, 16)))
        assert changed.dtype == torch.float64, step.step


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
@each_shape
def test_a_gpu_gives_the_same_images_without_a_wait(shape):
    """Also where products of matrices are rounded to TF32, as during training."""
    images = heads(shape)
    there = images.cuda()
    precision = torch.get_float32_matmul_precision()
    for name, step in STEPS.items():
        draw = step.draw(Streams.at(2, np.arange(6)), shape)
        step.apply(there, draw)  # the first call may wait: libraries are loaded, and memory is requested
        torch.set_float32_matmul_precision("high")
        try:
            torch.cuda.set_sync_debug_mode("error")
            on_gpu = step.apply(there, draw)
        finally:
            torch.cuda.set_sync_debug_mode("default")
            torch.set_float32_matmul_precision(precision)
        assert on_gpu.is_cuda
        torch.testing.assert_close(on_gpu.cpu(), step.apply(images, draw), atol=1e-4, rtol=0, msg=name)
