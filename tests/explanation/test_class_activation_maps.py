"""Class activation maps against Captum, MONAI and pytorch-grad-cam, on the same network and images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from captum import attr
from monai import visualize
from torch import Tensor, nn

from gyrus.explanation import class_activation_maps as cam
from gyrus.explanation.methods import compute_heat_maps
from tests.support.networks import Network, about, images
from tests.support.reference_maps import CLASSES, LAYER, Unpooled, close, each, method_input, raw

pytest.importorskip("pytorch_grad_cam")


both = pytest.mark.parametrize("dims", [2, 3])


def of_grad_cam(name: str, network: nn.Module, dims: int) -> np.ndarray:
    """The map of pytorch-grad-cam before it is scaled to 0..1 and resized; negative values become 0, as there."""
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    targets = [ClassifierOutputTarget(number) for number in CLASSES]
    batch = images(dims)
    with getattr(pytorch_grad_cam, name)(network, [network.get_submodule(LAYER)]) as method:
        outputs = method.activations_and_grads(batch)
        sum(target(output) for target, output in zip(targets, outputs, strict=True)).backward()
        activations = method.activations_and_grads.activations[0].detach().numpy()
        grads = method.activations_and_grads.gradients[0].detach().numpy()
        layer = network.get_submodule(LAYER)
        return np.maximum(method.get_cam_image(batch, layer, targets, activations, grads, False), 0)


GRAD_CAM = {
    "grad-cam": "GradCAM",
    "grad-cam++": "GradCAMPlusPlus",
    "hires-cam": "HiResCAM",
    "layer-cam": "LayerCAM",
    "xgrad-cam": "XGradCAM",
}


@both
@pytest.mark.parametrize("method", GRAD_CAM)
def test_activation_maps_are_those_of_pytorch_grad_cam(method: str, dims: int) -> None:
    network = Network(dims).eval()
    with torch.no_grad():
        network.dense.last.weight *= 1e4  # that library adds 1e-6 to the denominator of Grad-CAM++
    close(raw(network, dims, method), of_grad_cam(GRAD_CAM[method], network, dims))


@both
def test_eigen_cam_is_that_of_pytorch_grad_cam(dims: int) -> None:
    from pytorch_grad_cam.utils.svd_on_activations import get_2d_projection_with_sign_correction

    network = Network(dims).eval()
    with torch.no_grad():
        activations = network.relu(network.convolution(network.first(images(dims)))).numpy()
    close(raw(network, dims, "eigen-cam"), np.maximum(get_2d_projection_with_sign_correction(activations), 0))


@both
def test_grad_cam_is_that_of_captum(dims: int) -> None:
    network = Network(dims).eval()
    theirs = attr.LayerGradCam(network, network.relu).attribute(
        images(dims).requires_grad_(), torch.tensor(CLASSES), relu_attributions=True
    )
    close(raw(network, dims, "grad-cam"), theirs[:, 0].detach())


@both
def test_grad_cam_is_that_of_monai_at_the_size_of_the_image(dims: int) -> None:
    network = Network(dims).eval()
    ours = compute_heat_maps(network, images(dims), about(*CLASSES), "grad-cam", layer=LAYER)
    method = visualize.GradCAM(network, LAYER, postprocessing=lambda values: values)  # never takes its hooks away
    close(ours, np.stack([method(one, class_idx=wanted).detach()[0, 0] for one, wanted in each(dims)]))


@both
def test_grad_cam_plus_plus_is_that_of_monai_where_gradients_do_not_vary(dims: int) -> None:
    """MONAI sums activations times cubes of gradients, where the paper sums the activations; both are the same if a
    channel has one gradient, as before global pooling. It multiplies by the exponential of the logit, here of 0, and
    adds a small number to the denominator, which large gradients outweigh."""
    for number, (image, wanted) in enumerate(each(dims)):
        network = Unpooled(dims).eval()
        with torch.no_grad():
            network.dense.weight *= 1e4
            network.dense.bias -= network(image)[0]
        ours = compute_heat_maps(network, images(dims), about(*CLASSES), "grad-cam++", layer=LAYER)
        method = visualize.GradCAMpp(network, LAYER, postprocessing=lambda values: values)
        close(ours[number], method(image, class_idx=wanted).detach()[0, 0])


def test_the_rules_are_pure_functions_of_activations_and_gradients() -> None:
    network = Network(2).eval()
    activations, found = cam.activations_and_gradients(method_input(network, 2))
    rules: list[Callable[[Tensor, Tensor], Tensor]] = [cam.grad_cam, cam.hires_cam, cam.layer_cam, cam.xgrad_cam]
    for rule in rules:
        torch.testing.assert_close(rule(activations, 2 * found), 2 * rule(activations, found))
