"""Facts of stored files that distinguish scans: each reacts to what it is named for."""

from __future__ import annotations

import numpy as np
import pytest

from gyrus.inference.acquisition_facts import measure_facts


def head(shape: tuple[int, ...] = (40, 48, 44)) -> np.ndarray:
    """A bright ellipsoid, wider in front than behind, with a dim background."""
    grid = np.meshgrid(*(np.linspace(-1, 1, length) for length in shape), indexing="ij")
    radius = np.sqrt(sum((axis / 0.7) ** 2 for axis in grid))
    values = np.where(radius < 1, 100 + 30 * grid[-1], 2.0)
    return (values + np.random.default_rng(0).normal(0, 2, shape)).astype(np.float32)


def changed(before: dict[str, float], after: dict[str, float], least: float = 0.1) -> set[str]:
    return {name for name in before if abs(after[name] - before[name]) > least}


def test_spacing_and_noise_and_coverage_are_seen_by_the_facts_of_that_name():
    plain = measure_facts(head(), (2.0, 2.0, 2.0))
    finer = measure_facts(head(), (1.0, 2.0, 2.0))
    assert changed(plain, finer) >= {"spacing, axis 1", "extent, axis 1", "head size", "length of the head, axis 1"}
    assert finer["spacing, axis 1"] - plain["spacing, axis 1"] == pytest.approx(np.log(0.5))
    noisy = measure_facts(head() + np.random.default_rng(1).normal(0, 20, head().shape), (2.0, 2.0, 2.0))
    assert noisy["noise"] - plain["noise"] > 1
    cut = measure_facts(head()[:, :, :24], (2.0, 2.0, 2.0))
    assert cut["head at the last end, axis 3"] > 0.3 > plain["head at the last end, axis 3"]


def test_a_head_upside_down_has_its_mass_on_the_other_side():
    values = np.zeros((20, 20, 20), np.float32)
    values[4:16, 4:16, 2:6] = 100  # a broad base and a narrow top
    values[8:12, 8:12, 6:18] = 100
    upright, turned = measure_facts(values, (1, 1, 1)), measure_facts(values[:, :, ::-1], (1, 1, 1))
    assert upright["centre of mass, axis 3"] < 0.4
    assert turned["centre of mass, axis 3"] > 0.6


@pytest.mark.parametrize("shape", [(1, 1), (8, 8), (3, 4, 5), (1, 1, 1)])
@pytest.mark.parametrize("value", [0.0, -7.0, 1e30])
def test_tiny_and_constant_images_have_finite_facts(shape, value):
    facts = measure_facts(np.full(shape, value, np.float32), (1.0,) * len(shape) if len(shape) == 3 else None)
    assert np.isfinite(list(facts.values())).all()


def test_images_without_spacing_have_no_lengths_in_mm():
    names = measure_facts(head((30, 40))).keys()
    assert not any("spacing" in name or "extent" in name for name in names)
