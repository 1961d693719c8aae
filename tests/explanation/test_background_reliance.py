"""Brain and background exchanged, on a network that relies on a corner and one that relies on the brain."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from gyrus.explanation.background_reliance import swap_backgrounds
from gyrus.explanation.methods import predict_logits
from tests.support.networks import images
from tests.support.phantoms import Heads, TrainedOnHeads


def accuracy(model: nn.Module, heads: Heads) -> float:
    return float((predict_logits(model, heads.images).argmax(1) == heads.labels.numpy()).mean())


def test_a_network_that_relies_on_the_background_is_detected(shortcut_network: TrainedOnHeads) -> None:
    model, heads = shortcut_network
    assert accuracy(model, heads) == 1.0
    found = swap_backgrounds(model, heads.images, heads.brains)
    assert found is not None
    assert found.outside_changed > 0.9
    assert found.brain_changed < 0.1
    assert found.outside_fraction > 0.75


def test_a_network_that_relies_on_the_brain_is_not_flagged(brain_network: TrainedOnHeads) -> None:
    model, heads = brain_network
    assert accuracy(model, heads) > 0.75
    found = swap_backgrounds(model, heads.images, heads.brains)
    assert found is not None
    assert found.outside_changed == 0.0
    assert found.outside_fraction < 0.1


def test_reliance_is_undetermined_if_all_predictions_are_equal() -> None:
    class Constant(nn.Module):
        def forward(self, batch: Tensor) -> Tensor:
            return torch.tensor([[1.0, 0.0]]).expand(len(batch), 2)

    assert swap_backgrounds(Constant(), images(2), np.ones((3, 20, 24), bool)) is None
