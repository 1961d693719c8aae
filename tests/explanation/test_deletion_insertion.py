"""Deletion and insertion on a network whose relevant pixels are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gyrus.explanation.deletion_insertion import deletion_insertion
from tests.support.networks import about


class Summing(nn.Module):
    """The logit of class 1 is the brightness of the upper half."""

    def forward(self, batch: Tensor) -> Tensor:
        brightness = batch[:, :, : batch.shape[2] // 2].flatten(1).mean(1)
        return torch.stack([torch.zeros_like(brightness), 8 * (brightness - 1.3)], dim=1)


@pytest.mark.parametrize("spatial", [(16, 16), (8, 8, 8)])
def test_a_faithful_map_gains_and_its_negative_loses(spatial: tuple[int, ...]) -> None:
    batch = torch.rand(3, 1, *spatial, generator=torch.Generator().manual_seed(0))
    batch[:, :, : spatial[0] // 2] += 1
    truth = np.zeros((3, *spatial), np.float32)
    truth[:, : spatial[0] // 2] = 1
    curves = deletion_insertion(Summing(), batch, about(1, 1, 1), truth)
    assert curves.gain.min() > 0.03
    assert deletion_insertion(Summing(), batch, about(1, 1, 1), -truth).gain.max() < -0.03
    nothing = deletion_insertion(Summing(), batch, about(1, 1, 1), np.zeros_like(truth))
    np.testing.assert_allclose(nothing.gain, 0, atol=0.03)
    np.testing.assert_allclose(curves.deletion[:, 0], curves.insertion[:, -1])
    np.testing.assert_allclose(curves.deletion[:, -1], curves.insertion[:, 0])
