"""Stochastic depth."""

from __future__ import annotations

import pytest
import torch

from gyrus.errors import ConfigError
from gyrus.models.layers import DropPath, set_drop_path_rate


def test_drop_path_drops_images_and_preserves_the_mean() -> None:
    torch.manual_seed(0)
    out = DropPath(0.25).train()(torch.ones(20_000, 2, 2))
    assert sorted(set(out.flatten(1).amax(1).tolist())) == pytest.approx([0, 4 / 3])
    assert torch.equal(out.flatten(1).amax(1), out.flatten(1).amin(1))
    assert out.mean().item() == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_impossible_rates_are_refused(rate: float) -> None:
    with pytest.raises(ConfigError, match=r"\[0, 1\)"):
        set_drop_path_rate(DropPath(), rate)


def test_a_network_without_stochastic_depth_is_refused() -> None:
    with pytest.raises(ConfigError, match="no stochastic depth"):
        set_drop_path_rate(torch.nn.Linear(2, 2), 0.1)
