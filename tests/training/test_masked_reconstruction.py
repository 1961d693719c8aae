"""Hidden blocks, their reconstruction and its error."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from gyrus.errors import ConfigError
from gyrus.models.classifier import Backbone, Signature
from gyrus.training.masked_reconstruction import MaskedReconstruction, Masking


class Pooled(Backbone):
    """Means over blocks of 4 pixels along each axis, one channel."""

    num_channels = num_features = 1
    smallest = (4, 4)

    def __init__(self, dims: int) -> None:
        super().__init__()
        self.pooling = {2: nn.AvgPool2d, 3: nn.AvgPool3d}[dims](4)

    def forward(self, images: Tensor) -> Tensor:
        return self.pooling(images.mean(1, keepdim=True))

    def stages(self) -> tuple[nn.Module, ...]:
        return (self.pooling,)


def network(size: tuple[int, ...], **masking: object) -> MaskedReconstruction:
    torch.manual_seed(0)
    signature = Signature(2, size, 2)
    return MaskedReconstruction(Pooled(len(size)), signature, Masking.model_validate(masking), seed=5)


@pytest.mark.parametrize(("size", "block"), [((16, 12), (2, 3)), ((10, 9), (4, 4)), ((8, 12, 16), (2, 4, 4))])
def test_the_wanted_fraction_of_blocks_is_hidden(size, block):
    model = network(size, hidden=0.5, block=block)
    hidden = model.hidden(torch.zeros(3, 2, *size))
    assert hidden.shape == (3, 1, *size)
    total = 1
    for length, one in zip(size, block, strict=True):
        total *= -(-length // one)
    corners = hidden[(slice(None), 0, *(slice(None, None, one) for one in block))]
    assert corners.flatten(1).sum(1).tolist() == [round(total / 2)] * 3
    for axis, one in enumerate(block, 2):  # each block is hidden as a whole
        corners_of_axis = hidden.index_select(axis, torch.arange(hidden.shape[axis]) // one * one)
        assert torch.equal(corners_of_axis, hidden)


def test_blocks_change_while_training_and_stay_the_same_otherwise():
    model, images = network((16, 16)), torch.zeros(4, 2, 16, 16)
    assert not torch.equal(model.hidden(images), model.hidden(images))
    torch.manual_seed(1)
    first = model.hidden(images)
    torch.manual_seed(1)
    assert torch.equal(model.hidden(images), first)
    model.eval()
    assert torch.equal(model.hidden(images), model.hidden(images))


@pytest.mark.parametrize("size", [(16, 16), (10, 13), (8, 12, 9)])
def test_the_network_sees_nothing_of_hidden_pixels(size):
    model = network(size).eval()
    images, others = torch.randn(2, 2, *size), torch.randn(2, 2, *size)
    hidden = model.hidden(images)
    mixed = torch.where(hidden, others, images)
    found = model.reconstruct(images, hidden)
    assert found.shape == images.shape
    assert torch.equal(found, model.reconstruct(mixed, hidden))
    for number, mask in enumerate(hidden.expand_as(images)):
        expected = (found - images)[number][mask].abs().mean()
        torch.testing.assert_close(model(images)[number, 0], expected)
        torch.testing.assert_close(model.error_of_mean(images)[number, 0], images[number][mask].abs().mean())


def test_each_position_reconstructs_its_own_pixels():
    """The decoder copies the mean of a block: a change of one block stays in it."""
    model = network((8, 12), hidden=0.5, block=(4, 4)).eval()
    nn.init.ones_(model.decoder.weight)
    nn.init.zeros_(model.decoder.bias)
    images = torch.arange(6.0).view(1, 1, 2, 3).repeat_interleave(4, 2).repeat_interleave(4, 3).expand(1, 2, 8, 12)
    nothing = torch.zeros(1, 1, 8, 12, dtype=torch.bool)
    assert torch.equal(model.reconstruct(images, nothing), images)


def test_images_are_learnt():
    torch.manual_seed(0)
    model = network((16, 16), hidden=0.5)
    images = torch.randn(16, 1, 1, 1).expand(16, 2, 16, 16) + 0.1 * torch.randn(16, 2, 16, 16)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(150):
        optimiser.zero_grad()
        model(images).mean().backward()
        optimiser.step()
    model.eval()
    assert model(images).mean() < 0.6 * model.error_of_mean(images).mean()


def test_blocks_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="have 3 axes, and the images \\(16 x 16\\) 2"):
        network((16, 16), block=(4, 4, 4))
    with pytest.raises(ConfigError, match="Blocks of 16 x 16 cover images of 16 x 16"):
        network((16, 16), block=(16, 16))
    coarse = Pooled(2)
    coarse.pooling = nn.AvgPool2d(128)
    with pytest.raises(ConfigError, match="feature map of this model has 1 x 1 positions for images of 128 x 128"):
        MaskedReconstruction(coarse, Signature(1, (128, 128), 2), Masking())
