"""A network for patches answers about whole images: the mean over the grid, whoever else is asked about."""

from __future__ import annotations

import pytest
import torch

from gyrus.datasets.patches import PatchConfig, patch_index
from gyrus.errors import ConfigError, DataError
from gyrus.explanation.layers import choose_layer
from gyrus.inference.patchwise import PatchwiseClassifier
from gyrus.models.build import build
from gyrus.models.config import ModelConfig

SIZES = {"2d": ((16, 16), (40, 28)), "3d": ((8, 12, 12), (12, 20, 18))}
BODY = 0.3


@pytest.fixture(params=SIZES)
def model(request: pytest.FixtureRequest) -> PatchwiseClassifier:
    patch, whole = SIZES[request.param]
    torch.manual_seed(0)
    config = ModelConfig(name="baseline-cnn-dropout")
    network = build(config, in_channels=1, num_classes=3, image_size=patch)
    return PatchwiseClassifier(network, whole, PatchConfig(size=patch)).eval()


def images_for(model: PatchwiseClassifier, count: int = 3) -> torch.Tensor:
    size = (count, 1, *model.signature.image_size)
    return BODY + torch.rand(size, generator=torch.Generator().manual_seed(1))


def own_mean(model: PatchwiseClassifier, image: torch.Tensor, corners: list[tuple[int, ...]]) -> torch.Tensor:
    patches = torch.stack([image[patch_index(corner, model.patches.size)] for corner in corners])
    return model.forward_head(model.forward_features(patches)).mean(0)


def test_an_answer_is_the_mean_logit_of_the_patches(model):
    images = images_for(model)
    corners = model.patches.corners(model.signature.image_size)
    assert len(corners) > 4
    with torch.no_grad():
        expected = torch.stack([own_mean(model, image, corners) for image in images])
        torch.testing.assert_close(model(images), expected, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(model.head.classify(model.embedding(images)), model(images))


def test_an_answer_does_not_depend_on_its_company(model):
    images = images_for(model)
    with torch.no_grad():
        together = model(images)
        torch.testing.assert_close(together[[1]], model(images[[1]]), atol=1e-6, rtol=0)
        torch.testing.assert_close(together[[2, 0]], model(images[[2, 0]]), atol=1e-6, rtol=0)


def test_patches_in_the_air_do_not_count_at_any_brightness(model):
    images = images_for(model, 1)
    images[..., : model.patches.size[-2], :] = 0  # rows of air, as deep as a patch
    corners = [corner for corner in model.patches.corners(model.signature.image_size) if corner[-2] > 0]
    bright = [
        corner for corner in corners if images[0][patch_index(corner, model.patches.size)].mean() >= images.mean() / 2
    ]
    with torch.no_grad():
        torch.testing.assert_close(model(images)[0], own_mean(model, images[0], bright), atol=1e-5, rtol=1e-4)
        shifted = images - 0.7
        torch.testing.assert_close(model(shifted)[0], own_mean(model, shifted[0], bright), atol=1e-5, rtol=1e-4)


def test_a_patch_itself_goes_straight_through(model):
    patches = torch.rand(4, 1, *model.patches.size)
    with torch.no_grad():
        torch.testing.assert_close(model(patches), model.forward_head(model.forward_features(patches)))


def test_weights_keep_the_names_of_the_network(model):
    network = build(
        ModelConfig(name="baseline-cnn-dropout"), in_channels=1, num_classes=3, image_size=model.patches.size
    )
    assert set(model.state_dict()) == set(network.state_dict())
    network.load_state_dict(model.state_dict())


def test_every_pixel_of_the_body_can_matter(model):
    images = images_for(model, 1).requires_grad_()
    model(images)[0, 0].backward()
    assert images.grad is not None
    touched = (images.grad != 0).float().mean()
    assert touched > 0.5
    for corner in (images.grad[0, 0].flatten()[:200], images.grad[0, 0].flatten()[-200:]):
        assert corner.abs().max() > 0


def test_images_and_patches_that_do_not_fit_are_refused(model):
    with pytest.raises(DataError, match="at least as large as its patches"):
        model(torch.rand(1, 1, *(length - 1 for length in model.patches.size)))
    with pytest.raises(DataError, match="batch, channels"):
        model(torch.rand(1, 1, 40))
    with pytest.raises(ConfigError, match="does not fit"):
        PatchwiseClassifier(model, tuple(length - 1 for length in model.patches.size), model.patches)


def test_class_activation_maps_are_refused_with_a_way_out(model):
    with pytest.raises(ConfigError, match="integrated-gradients, occlusion"):
        choose_layer(model, images_for(model, 1))
