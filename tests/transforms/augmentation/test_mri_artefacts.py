from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from gyrus.transforms.augmentation.mri_artefacts import RandomBiasField, RandomGhosting, RandomGibbs, RandomSpikes
from gyrus.transforms.augmentation.random_streams import Streams

SHAPES = [(24, 20), (8, 20, 15)]

each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def images_of(shape: tuple[int, ...], count: int = 3) -> torch.Tensor:
    """Far enough from 0 that no ripple crosses it, so that magnitudes are the values themselves."""
    return torch.from_numpy(np.random.default_rng(3).uniform(0.45, 0.55, (count, 1, *shape))).float()


@each_shape
def test_a_bias_field_is_the_exponential_of_a_polynomial_of_mean_0(shape):
    step = RandomBiasField(order=2, coefficient=0.4)
    images = images_of(shape)
    draw = step.draw(Streams.at(0, np.arange(3)), shape)
    logs = (step.apply(images, draw) / images).log()[:, 0].double().numpy()
    places = np.meshgrid(*(np.linspace(-1, 1, length) for length in shape), indexing="ij")
    powers = [power for power in product(range(3), repeat=len(shape)) if 0 < sum(power) <= 2]
    for number, coefficients in enumerate(draw["coefficients"]):
        terms = [c * np.prod([x**p for x, p in zip(places, power, strict=True)], axis=0)
                 for c, power in zip(coefficients, powers, strict=True)]  # fmt: skip
        expected = np.sum(terms, axis=0)
        np.testing.assert_allclose(logs[number], expected - expected.mean(), atol=1e-5)


@each_shape
@pytest.mark.parametrize("axes", ["in-plane", "all"])
def test_gibbs_keeps_low_frequencies_and_removes_high_ones(shape, axes):
    images = images_of(shape)
    kept = np.array([0.33, 0.52, 0.78])
    cut = RandomGibbs(axes=axes).apply(images, {"applied": np.ones(3, bool), "kept": kept})
    places = tuple(range(2, images.ndim))
    before, after = (np.fft.fftn(values.double().numpy(), axes=places) for values in (images, cut))
    grids = np.meshgrid(*(np.abs(np.fft.fftfreq(length)) for length in shape), indexing="ij")
    for number, fraction in enumerate(kept):
        inside = np.all(
            [grid <= fraction / 2 for grid in grids[(1 if axes == "in-plane" and len(shape) == 3 else 0) :]], axis=0
        )
        np.testing.assert_allclose(after[number, 0][inside], before[number, 0][inside], atol=1e-3)
        np.testing.assert_allclose(after[number, 0][~inside], 0, atol=1e-3)


def test_gibbs_rings_by_nine_percent_of_a_step():
    edge = torch.zeros(1, 1, 8, 512)
    edge[..., 128:384] = 1
    rung = RandomGibbs().apply(edge, {"applied": np.ones(1, bool), "kept": np.array([0.0625])})
    # The overshoot of a truncated Fourier series (Wilbraham and Gibbs): 8.95 % of the step.
    assert rung.max() == pytest.approx(1.0895, abs=0.001)
    assert rung.min() >= 0


@each_shape
def test_ghosts_are_copies_beside_the_head(shape):
    images = torch.zeros(1, 1, *shape)
    images[..., 8:12, 6:9] = 0.8
    length = shape[-1]
    draw = {
        "applied": np.ones(1, bool),
        "axis": np.array([len(shape) - 1]),
        "distance": np.array([5 / length]),
        "phase": np.array([0.0]),
        "intensity": np.array([0.2]),
    }
    expected = images + 0.2 * (images.roll(5, dims=-1) + images.roll(-5, dims=-1))
    torch.testing.assert_close(RandomGhosting().apply(images, draw), expected, atol=1e-5, rtol=0)
    opposite = RandomGhosting().apply(images, {**draw, "phase": np.array([np.pi])})
    torch.testing.assert_close(opposite, (2 * images - expected).abs(), atol=1e-5, rtol=0)


@each_shape
def test_ghosts_lie_along_the_axes_allowed(shape):
    axes = RandomGhosting().draw(Streams.at(0, np.arange(300)), shape)["axis"]
    assert set(axes) == {len(shape) - 2, len(shape) - 1}
    assert set(RandomGhosting(axes="all").draw(Streams.at(0, np.arange(300)), shape)["axis"]) == set(range(len(shape)))


@each_shape
@pytest.mark.parametrize("axes", ["in-plane", "all"])
def test_spikes_add_one_pair_of_points_to_k_space(shape, axes):
    images = images_of(shape)
    step = RandomSpikes(axes=axes, intensity=(0.2, 0.2))
    draw = step.draw(Streams.at(1, np.arange(3)), shape)
    places = tuple(range(2, images.ndim))
    added = np.fft.fftn((step.apply(images, draw) - images).double().numpy(), axes=places)
    for number in range(3):
        cycles = draw["cycles"][number, 0].astype(int)
        point = (*[0] * (len(shape) - len(cycles)), *cycles)
        height = 0.2 * images[number].mean().item() * np.prod(shape) / 2
        expected = np.zeros(shape, dtype=complex)
        phase = np.exp(1j * draw["phase"][number, 0])
        expected[point] += height * phase
        expected[tuple(-np.array(point))] += height * phase.conj()
        np.testing.assert_allclose(added[number, 0], expected, atol=2e-3 * height)
