from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from gyrus.training.config import Mixing, MixingSchedule, MixingStrength
from gyrus.training.mixup import Mix, draw_mix, mix_images, strength

SYSTEM_B = Mixing(first_epoch=6, schedule=MixingSchedule())


def draws(mixing: MixingStrength, size, count: int = 400) -> list[Mix | None]:
    return [draw_mix(mixing, size, np.random.default_rng([7, number])) for number in range(count)]


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [
        (1, None),
        (5, None),
        (6, (1.0, 0.8, 1.0)),
        (200, (1.0, 0.8, 1.0)),
        (201, (0.995, 0.7936, 0.993)),
        (250, (0.75, 0.48, 0.65)),
        (300, (0.5, 0.16, 0.3)),
        (301, (0.2, 0.2, 0.3)),
        (319, (0.2, 0.2, 0.3)),
        (320, None),
        (400, None),
    ],
)
def test_schedule_of_adni_2d_convnext(epoch, expected):
    now = strength(SYSTEM_B, epoch, 400)
    if expected is None:
        assert now.probability == 0
    else:
        assert (now.probability, now.mixup_alpha, now.cutmix_alpha) == pytest.approx(expected)


def test_without_a_schedule_the_strength_stays():
    mixing = Mixing(probability=0.4, mixup_alpha=0.2)
    assert {strength(mixing, epoch, 9) for epoch in range(1, 10)} == {mixing}
    assert strength(None, 1, 9).probability == 0


def test_probability_is_the_fraction_of_mixed_batches():
    mixed = [mix for mix in draws(MixingStrength(probability=0.3), (4, 1, 8, 8)) if mix is not None]
    assert stats.binomtest(len(mixed), 400, 0.3).pvalue > 1e-3
    assert stats.binomtest(sum(mix.box is None for mix in mixed), len(mixed), 0.5).pvalue > 1e-3


def test_an_alpha_of_zero_turns_a_kind_off():
    assert all(mix.box is None for mix in draws(MixingStrength(cutmix_alpha=0), (4, 1, 8, 8)))
    assert all(mix.box is not None for mix in draws(MixingStrength(mixup_alpha=0), (4, 1, 8, 8)))
    assert set(draws(MixingStrength(mixup_alpha=0, cutmix_alpha=0), (4, 1, 8, 8))) == {None}


def test_fractions_of_mixup_follow_the_beta_distribution():
    fractions = [mix.fraction for mix in draws(MixingStrength(mixup_alpha=0.4, cutmix_alpha=0), (4, 1, 8, 8))]
    assert stats.kstest(fractions, stats.beta(0.4, 0.4).cdf).pvalue > 1e-3


def test_mixup_is_the_convex_sum():
    images = torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    mixed = mix_images(images, Mix(order=(2, 0, 1), fraction=0.3))
    for number, other in enumerate((2, 0, 1)):
        torch.testing.assert_close(mixed[number], 0.3 * images[number] + 0.7 * images[other])


@given(st.sampled_from([(9, 7), (16, 16), (5, 6, 7)]), st.integers(0, 10_000))
def test_cutmix_pastes_a_box_and_its_fraction_is_what_is_left(spatial, seed):
    mix = draw_mix(MixingStrength(mixup_alpha=0), (2, 1, *spatial), np.random.default_rng(seed))
    images = torch.stack([torch.zeros(1, *spatial), torch.ones(1, *spatial)])
    before = images.clone()
    mixed = mix_images(images, Mix((1, 0), mix.fraction, mix.box))
    assert torch.equal(images, before)
    assert mixed[0].mean().item() == pytest.approx(1 - mix.fraction, abs=1e-6)
    assert torch.equal(mixed[1], 1 - mixed[0])
    assert 0 <= mix.fraction <= 1
    inside = mixed[0][(0, *(slice(start, end) for start, end in mix.box))]
    assert inside.numel() == 0 or inside.min() == 1


@pytest.mark.parametrize(("spatial", "side"), [((64, 64), 45), ((64, 64, 64), 50)])
def test_half_of_the_voxels_is_a_box_of_their_root(spatial, side):
    """A large alpha draws 1/2; half of a square has a side of 64 / sqrt(2), half of a cube 64 / 2^(1/3)."""
    boxes = [mix.box for mix in draws(MixingStrength(mixup_alpha=0, cutmix_alpha=1e9), (2, 1, *spatial), 500)]
    sides = np.array([[end - start for start, end in box] for box in boxes])
    assert sides.max() == side
    centres = np.array([[(start + end) / 2 for start, end in box] for box in boxes])
    whole = sides == side
    assert stats.kstest(centres[whole], stats.uniform(side / 2, 64 - side).cdf).pvalue > 1e-3
