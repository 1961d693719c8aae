"""Similarity, weight randomisation, stability and agreement of heat maps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gyrus.explanation.deletion_insertion import edge_maps
from gyrus.explanation.methods import compute_heat_maps
from gyrus.explanation.occlusion import random_maps
from gyrus.explanation.randomisation_and_stability import (
    agreement,
    agreement_between_models,
    network_parts,
    randomise_weights,
    shift,
    similarity,
    stability,
)
from tests.support.networks import Network, about, images
from tests.support.phantoms import TrainedOnHeads


def test_similarity_is_that_of_ranks() -> None:
    one = np.array([[[0.1, 0.2], [0.3, 0.4]]])
    assert similarity(one, one**3) == pytest.approx(1.0)
    assert similarity(one, -one) == pytest.approx(1.0)
    assert similarity(one, 1 - one) == pytest.approx(-1.0)
    assert similarity(one, np.zeros_like(one)) == 0.0


def test_randomised_weights_leave_the_original_network_unchanged() -> None:
    network = Network(2).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    batch, contrast = images(2), about(0, 1, 2)
    seen: list[nn.Module] = []

    def maps_of(model: nn.Module, given: Tensor) -> np.ndarray:
        seen.append(model)
        return compute_heat_maps(model, given, contrast, "input-x-gradient")

    cascade = randomise_weights(network, batch, maps_of(network, batch), maps_of)
    assert cascade.parts == ("dense.last", "dense.hidden", "convolution", "first.norm", "first.convolution")
    assert len(cascade.similarities) == len(cascade.parts)
    assert cascade.whole < 0.6
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    for name, value in seen[-1].named_parameters():
        sizes, sizes_before = (weights.abs().flatten().sort().values for weights in (value, before[name]))
        torch.testing.assert_close(sizes, sizes_before)
    assert not torch.equal(seen[-1].convolution.weight, network.convolution.weight)  # type: ignore[union-attr]


def test_the_parts_of_a_classifier_hold_all_weights(brain_network: TrainedOnHeads) -> None:
    model, _ = brain_network
    parts = network_parts(model)
    assert [name for name, _ in parts] == ["head", "stage 2", "stage 1"]
    held = {id(weights) for _, part in parts for weights in part.parameters()}
    assert held == {id(weights) for weights in model.parameters()}


def test_a_map_that_moves_with_the_image_is_stable_and_a_random_one_is_not() -> None:
    batch = images(2)
    steady = stability(Network(2), batch, edge_maps(batch), lambda _, given: edge_maps(given))
    assert steady.shift > 0.9
    assert steady.noise > 0.9
    chance = random_maps(len(batch), tuple(batch.shape[2:]), 0)
    seeds = iter(range(1, 9))
    loose = stability(
        Network(2), batch, chance, lambda _, given: random_maps(len(given), chance.shape[1:], next(seeds))
    )
    assert abs(loose.noise) < 0.5
    assert abs(loose.shift) < 0.5


def test_a_shift_repeats_the_edge() -> None:
    batch = torch.arange(6.0).reshape(1, 1, 2, 3)
    assert shift(batch, [0, 1])[0, 0].tolist() == [[0, 0, 1], [3, 3, 4]]
    assert shift(batch, [-1, 0])[0, 0].tolist() == [[3, 4, 5], [3, 4, 5]]


def test_agreement_of_each_pair_of_methods() -> None:
    maps = {"a": random_maps(3, (8, 8), 0), "b": random_maps(3, (8, 8), 1)}
    table = agreement(maps | {"c": maps["a"] * 2})
    np.testing.assert_allclose(np.diag(table), 1)
    np.testing.assert_allclose(table, table.T)
    assert table[0, 2] == pytest.approx(1.0)
    assert abs(table[0, 1]) < 0.9
    assert agreement_between_models([maps["a"], maps["a"], maps["a"]]) == pytest.approx(1.0)
