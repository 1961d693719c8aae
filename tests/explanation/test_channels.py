from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from gyrus.evaluation.bootstrap import BootstrapConfig
from gyrus.explanation.channels import ChannelMaps, ChannelReport, channel_attributions, measure_channels, shares_of
from gyrus.explanation.method_input import MethodSettings
from gyrus.explanation.targets import ClassContrast


class SecondChannel(nn.Module):
    """A network that reads three parts of the second channel and one of the first."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        means = images.flatten(2).mean(2)
        score = 3 * means[:, 1] + means[:, 0]
        return torch.stack([-score, score], dim=1)


@pytest.mark.parametrize("spatial", [(6, 5), (4, 6, 5)])
def test_the_channel_that_decides_has_the_share_that_it_has(spatial, tmp_path):
    images = torch.ones(8, 3, *spatial)
    images[5:, 1] = 0  # missing
    contrast = ClassContrast(torch.ones(8, dtype=torch.int64))
    maps = channel_attributions(SecondChannel(), images, contrast, MethodSettings(steps=4))
    assert maps.shape == images.shape
    # Integrated gradients sum to the difference of the scores from the image without any channel.
    assert np.allclose(maps.reshape(8, -1).sum(1), [4] * 5 + [1] * 3, atol=1e-4)
    assert np.allclose(shares_of(maps)[:5], [0.25, 0.75, 0], atol=1e-5)

    bootstrap = BootstrapConfig(resamples=50)
    report = measure_channels(
        SecondChannel(), images, contrast, maps, np.arange(8), ("t1", "flair", "t2"),
        learned_without=False, bootstrap=bootstrap,
    )  # fmt: skip
    report.save(tmp_path / "channels.json")
    assert ChannelReport.load(tmp_path / "channels.json") == report
    first, second, third = report.channels
    assert (first.images, second.images, third.images) == (8, 5, 8)
    assert second.share.value == pytest.approx(0.75, abs=1e-5)
    probability = float(torch.sigmoid(torch.tensor(8.0)) - torch.sigmoid(torch.tensor(2.0)))
    assert second.decrease.value == pytest.approx(probability, abs=1e-6)
    assert third.decrease.value == 0
    assert "flair 75 %" in report.sentences[0]
    assert "not trained without channels" in report.sentences[1]
    both = ChannelMaps(("a", "b"), ("t1", "flair", "t2"), np.zeros((2, 3, *spatial), np.uint8), maps[:2])
    both.save(tmp_path / "channels.npz")
    assert np.array_equal(ChannelMaps.load(tmp_path / "channels.npz").maps, maps[:2])


def test_a_channel_that_no_image_has_is_undefined():
    images = torch.ones(2, 2, 3, 3)
    images[:, 0] = 0
    contrast = ClassContrast(torch.ones(2, dtype=torch.int64))
    report = measure_channels(
        SecondChannel(), images, contrast, np.zeros((2, 2, 3, 3), np.float32), np.arange(2), ("t1", "flair"),
        learned_without=True, bootstrap=BootstrapConfig(resamples=0),
    )  # fmt: skip
    assert report.channels[0].share.value is None
    assert report.channels[1].share.value == 0.5
