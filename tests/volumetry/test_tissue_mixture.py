from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gyrus.errors import DataError
from gyrus.synthetic.phantom import generate
from gyrus.volumetry.tissue_mixture import TissueMixture, foreground_counts, tissue_fractions


def brain(seed: int, *, mixed: float = 0.25, noise: float = 6.0, size: int = 60_000) -> tuple[np.ndarray, np.ndarray]:
    """Gray values of voxels, and the true fractions of their tissues (N, 3)."""
    generator = np.random.default_rng(seed)
    pure = generator.dirichlet([8, 20, 16])
    parts = np.eye(3)[generator.choice(3, size, p=pure)]
    share, places = generator.random(size), generator.random(size) < mixed
    first = generator.integers(0, 2, size)
    between = np.zeros((size, 3))
    between[np.arange(size), first], between[np.arange(size), first + 1] = share, 1 - share
    parts[places] = between[places]
    return parts @ [40, 110, 160] + noise * generator.standard_normal(size), parts


@pytest.mark.parametrize("seed", range(4))
def test_known_fractions_are_found(seed: int) -> None:
    values, parts = brain(seed)
    mixture = TissueMixture.fit(values)
    found = mixture.fractions(values)
    np.testing.assert_allclose(found.mean(axis=1), parts.mean(axis=0), atol=0.02)
    np.testing.assert_allclose(mixture.means, [40, 110, 160], atol=3)
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-4)


def test_partial_volumes_are_better_than_the_nearest_tissue() -> None:
    values, parts = brain(9, mixed=0.6)
    found = TissueMixture.fit(values).fractions(values)
    nearest = np.eye(3)[np.abs(values[:, None] - [40, 110, 160]).argmin(axis=1)]
    assert np.abs(found.T - parts).mean() < 0.6 * np.abs(nearest - parts).mean()


@given(st.floats(0.05, 40), st.floats(-500, 500))
def test_fractions_do_not_depend_on_the_scale_of_gray_values(scale: float, shift: float) -> None:
    values = brain(2, size=6000)[0]
    before = TissueMixture.fit(values).fractions(values).mean(axis=1)
    changed = values * scale + shift
    after = TissueMixture.fit(changed).fractions(changed).mean(axis=1)
    np.testing.assert_allclose(after, before, atol=0.01)


def test_darker_than_fluid_is_fluid_and_brighter_than_white_matter_is_white_matter() -> None:
    values = brain(3)[0]
    fractions = TissueMixture.fit(values).fractions(np.array([-1e6, 0.0, 300.0, 1e6]))
    np.testing.assert_allclose(fractions[0, :2], 1, atol=0.05)
    np.testing.assert_allclose(fractions[2, 2:], 1, atol=0.05)


def test_a_histogram_gives_what_the_pixels_give() -> None:
    pixels = np.clip(np.rint(brain(4)[0]), 13, 255).astype(np.uint8)
    found = TissueMixture.fit(pixels).fractions(pixels).mean(axis=1)
    np.testing.assert_allclose(tissue_fractions(foreground_counts(pixels)), found, atol=0.01)


def test_the_background_is_not_counted() -> None:
    pixels = np.array([[0, 5, 12, 13, 255, 255]], np.uint8)
    counts = foreground_counts(pixels)
    assert counts.sum() == 3
    assert counts[13] == 1


def test_the_fluid_of_phantoms_rises_with_atrophy() -> None:
    made = generate(subjects=24, slices=6, classes=2, size=96, seed=5, age_effect=0.0)
    fluid = np.array([tissue_fractions(foreground_counts(volume))[0] for volume in made.volumes])
    assert fluid[made.labels == 1].mean() > fluid[made.labels == 0].mean() + 0.02


@pytest.mark.parametrize("values", [np.zeros(50), np.repeat([1.0, 2.0], 50), np.empty(0)])
def test_values_without_three_tissues_are_refused(values: np.ndarray) -> None:
    with pytest.raises(DataError, match="three different gray values"):
        TissueMixture.fit(values)
