"""Perturbation methods against Captum, MONAI and pytorch-grad-cam, on the same network and images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from captum import attr
from monai import visualize
from torch import nn

from gyrus.explanation import perturbation_methods as perturbation
from gyrus.explanation.method_input import MethodInput, MethodSettings, erased
from gyrus.explanation.targets import ClassContrast
from tests.support.networks import CONVOLUTIONS, Network, images
from tests.support.reference_maps import CLASSES, Unpooled, close, raw

pytest.importorskip("pytorch_grad_cam")


both = pytest.mark.parametrize("dims", [2, 3])


def test_ablation_cam_is_that_of_pytorch_grad_cam() -> None:
    network = Network(2).eval()
    assert min(network(images(2)).min().tolist(), 1) > 0
    ours = raw(network, 2, "ablation-cam")
    from pytorch_grad_cam import AblationCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    with AblationCAM(network, [network.relu]) as method, torch.no_grad():
        method.activations_and_grads(images(2))
        activations = method.activations_and_grads.activations[0].numpy()
        targets = [ClassifierOutputTarget(number) for number in CLASSES]
        layer = network.relu
        close(ours, np.maximum(method.get_cam_image(images(2), layer, targets, activations, None, False), 0))


def test_score_cam_is_that_of_pytorch_grad_cam() -> None:
    from pytorch_grad_cam import ScoreCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    network = Unpooled(2).eval()
    ours = raw(network, 2, "score-cam")
    targets = [ClassifierOutputTarget(number) for number in CLASSES]
    with ScoreCAM(network, [network.relu]) as method, torch.no_grad():
        method.activations_and_grads(images(2))
        activations = method.activations_and_grads.activations[0].numpy()
        close(ours, np.maximum(method.get_cam_image(images(2), network.relu, targets, activations, None, False), 0))


@both
def test_occlusion_is_that_of_captum(dims: int) -> None:
    network = Network(dims).eval()
    batch = images(dims)
    empty = erased(batch)
    window = tuple(max(2, round(length / 4)) for length in batch.shape[2:])
    theirs = attr.Occlusion(network).attribute(
        batch, (2, *window), (2, *(max(1, round(width / 2)) for width in window)), empty, torch.tensor(CLASSES)
    )
    close(raw(network, dims, "occlusion", window=0.25), theirs.detach()[:, 0])


@both
@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence for multidimensional indexing:UserWarning")
def test_occlusion_is_that_of_monai(dims: int) -> None:
    """MONAI gives the remaining logit; windows that tile the image leave nothing to average. It covers all
    channels with one value, so that there is one channel here."""
    size = (16,) * dims
    torch.manual_seed(0)
    network = nn.Sequential(CONVOLUTIONS[dims](1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 16**dims, 3))
    image = torch.randn(1, 1, *size)
    inputs = MethodInput(
        network, image, ClassContrast(torch.tensor([1])), None, MethodSettings(eraser="black", window=0.25, stride=1.0)
    )
    ours = perturbation.occlusion(inputs)[0]
    method = visualize.OcclusionSensitivity(
        network, mask_size=4, mode=float(image.min()), overlap=0.0, activate=False, verbose=False
    )
    left, _ = method(image)
    with torch.no_grad():
        close(ours, network(image)[0, 1] - left[0, 1])
