"""Every method against Captum, MONAI and pytorch-grad-cam, on the same network and images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from captum import attr
from monai import visualize
from torch import Tensor, nn

from gyrus.explanation import class_activation_maps as cam
from gyrus.explanation import gradient_methods as gradients
from gyrus.explanation import perturbation_methods as perturbation
from gyrus.explanation.attribution import MethodSettings, Question
from gyrus.explanation.layers import still
from gyrus.explanation.methods import METHODS, explain
from gyrus.explanation.occlusion_fill import erased
from gyrus.explanation.targets import ClassContrast
from tests.support.networks import CONVOLUTIONS, Network, about, images

pytest.importorskip("pytorch_grad_cam")

both = pytest.mark.parametrize("dims", [2, 3])
CLASSES = (0, 2, 1)
LAYER = "relu"


def close(ours: Any, theirs: Any) -> None:
    """Equal to 1e-5 of the largest value."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape
    assert np.abs(theirs).max() > 0
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())


def question(network: nn.Module, dims: int, **settings: Any) -> Question:
    return Question(network.eval(), images(dims), about(*CLASSES), LAYER, MethodSettings(**settings))


def each(dims: int) -> list[tuple[Tensor, int]]:
    """Images (1, C, *spatial), and the class that each is asked about."""
    return list(zip(images(dims).split(1), CLASSES, strict=True))


def raw(network: nn.Module, dims: int, method: str, **settings: Any) -> np.ndarray:
    """A method's own map, before it is brought to the size of the image."""
    with still(network):
        return METHODS[method].compute(question(network, dims, **settings)).numpy()


def of_grad_cam(name: str, network: nn.Module, dims: int) -> np.ndarray:
    """The map of pytorch-grad-cam before it is scaled to 0..1 and resized; negative values cut, as there."""
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


class Unpooled(nn.Module):
    """A map as fine as the image, so that nothing is resized: pytorch-grad-cam aligns corners there, and we do not."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution = CONVOLUTIONS[dims](2, 5, 3, padding=1)
        self.relu = nn.ReLU()
        self.dense = nn.Linear(5, 3)

    def forward(self, batch: Tensor) -> Tensor:
        return self.dense(self.relu(self.convolution(batch)).flatten(2).mean(-1))


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
def test_grad_cam_is_that_of_captum(dims: int) -> None:
    network = Network(dims).eval()
    theirs = attr.LayerGradCam(network, network.relu).attribute(
        images(dims).requires_grad_(), torch.tensor(CLASSES), relu_attributions=True
    )
    close(raw(network, dims, "grad-cam"), theirs[:, 0].detach())


@both
def test_grad_cam_is_that_of_monai_at_the_size_of_the_image(dims: int) -> None:
    network = Network(dims).eval()
    ours = explain(network, images(dims), about(*CLASSES), "grad-cam", layer=LAYER)
    method = visualize.GradCAM(network, LAYER, postprocessing=lambda values: values)  # never takes its hooks away
    close(ours, np.stack([method(one, class_idx=wanted).detach()[0, 0] for one, wanted in each(dims)]))


@both
def test_grad_cam_plus_plus_is_that_of_monai_where_gradients_do_not_vary(dims: int) -> None:
    """MONAI sums activations times cubes of gradients, where the paper sums the activations; both are the same if a
    channel has one gradient, as before a mean over space. It multiplies by the exponential of the logit, here of 0, and
    adds a small number to the denominator, which large gradients outweigh."""
    for number, (image, wanted) in enumerate(each(dims)):
        network = Unpooled(dims).eval()
        with torch.no_grad():
            network.dense.weight *= 1e4
            network.dense.bias -= network(image)[0]
        ours = explain(network, images(dims), about(*CLASSES), "grad-cam++", layer=LAYER)
        method = visualize.GradCAMpp(network, LAYER, postprocessing=lambda values: values)
        close(ours[number], method(image, class_idx=wanted).detach()[0, 0])


@both
def test_guided_gradients_are_those_of_captum_and_of_monai(dims: int) -> None:
    network = Network(dims).eval()
    ours = gradients.guided_gradients(question(network, dims))
    with pytest.warns(UserWarning, match="Setting backward hooks on ReLU"):
        theirs = attr.GuidedBackprop(network).attribute(images(dims).requires_grad_(), torch.tensor(CLASSES))
    close(ours, theirs)
    method = visualize.GuidedBackpropGrad(network)
    close(ours, np.stack([method(one, index=wanted)[0] for one, wanted in each(dims)]))


def test_guided_gradients_are_those_of_pytorch_grad_cam() -> None:
    from pytorch_grad_cam import GuidedBackpropReLUModel

    network = Network(2).eval()
    ours = gradients.guided_gradients(question(network, 2))
    theirs = [GuidedBackpropReLUModel(network)(one, wanted).transpose(2, 0, 1) for one, wanted in each(2)]
    close(ours, np.stack(theirs))


@both
def test_input_times_gradient_is_that_of_captum(dims: int) -> None:
    network = Network(dims).eval()
    theirs = attr.InputXGradient(network).attribute(images(dims).requires_grad_(), torch.tensor(CLASSES))
    close(raw(network, dims, "input-x-gradient"), theirs.detach().sum(1))


@both
def test_integrated_gradients_are_those_of_captum(dims: int) -> None:
    network = Network(dims).eval()
    batch = images(dims)
    nothing = erased(batch)
    theirs = attr.IntegratedGradients(network).attribute(
        batch.requires_grad_(), nothing, torch.tensor(CLASSES), n_steps=7
    )
    close(raw(network, dims, "integrated-gradients", steps=7), theirs.detach().sum(1))


@both
def test_smooth_grad_is_that_of_captum_with_the_same_noise(dims: int, monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network(dims).eval()
    ours = raw(network, dims, "smooth-grad", samples=5, noise=0.2, seed=4)
    batch = images(dims)
    generator = torch.Generator().manual_seed(4)
    noise = torch.stack([torch.randn(batch.shape[1:], generator=generator) for _ in range(5)])
    monkeypatch.setattr(torch, "normal", lambda _, widths: noise * widths)
    for number, wanted in enumerate(CLASSES):
        image = batch[number : number + 1]
        tunnel = attr.NoiseTunnel(attr.Saliency(network))
        width = 0.2 * float(image.max() - image.min())
        theirs = tunnel.attribute(image.clone().requires_grad_(), nt_samples=5, stdevs=width, target=wanted, abs=False)
        close(ours[number], theirs.detach()[0].abs().amax(0))


@both
def test_smooth_grad_of_no_noise_is_the_gradient_of_monai(dims: int) -> None:
    network = Network(dims).eval()
    ours = raw(network, dims, "smooth-grad", samples=1, noise=1e-9)
    method = visualize.VanillaGrad(network)
    close(ours, np.stack([method(one, index=wanted)[0].abs().amax(0) for one, wanted in each(dims)]))


@both
def test_occlusion_is_that_of_captum(dims: int) -> None:
    network = Network(dims).eval()
    batch = images(dims)
    nothing = erased(batch)
    window = tuple(max(2, round(length / 4)) for length in batch.shape[2:])
    theirs = attr.Occlusion(network).attribute(
        batch, (2, *window), (2, *(max(1, round(width / 2)) for width in window)), nothing, torch.tensor(CLASSES)
    )
    close(raw(network, dims, "occlusion", window=0.25), theirs.detach()[:, 0])


@both
@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence for multidimensional indexing:UserWarning")
def test_occlusion_is_that_of_monai(dims: int) -> None:
    """MONAI gives what is left of the logit; windows that tile the image leave nothing to average. It covers all
    channels with one value, so that there is one channel here."""
    size = (16,) * dims
    torch.manual_seed(0)
    network = nn.Sequential(CONVOLUTIONS[dims](1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 16**dims, 3))
    image = torch.randn(1, 1, *size)
    asked = Question(
        network, image, ClassContrast(torch.tensor([1])), None, MethodSettings(eraser="black", window=0.25, stride=1.0)
    )
    ours = perturbation.occlusion(asked)[0]
    method = visualize.OcclusionSensitivity(
        network, mask_size=4, mode=float(image.min()), overlap=0.0, activate=False, verbose=False
    )
    left, _ = method(image)
    with torch.no_grad():
        close(ours, network(image)[0, 1] - left[0, 1])


def test_the_rules_are_pure_functions_of_activations_and_gradients() -> None:
    network = Network(2).eval()
    activations, found = cam.activations_and_gradients(question(network, 2))
    rules: list[Callable[[Tensor, Tensor], Tensor]] = [cam.grad_cam, cam.hires_cam, cam.layer_cam, cam.xgrad_cam]
    for rule in rules:
        torch.testing.assert_close(rule(activations, 2 * found), 2 * rule(activations, found))
