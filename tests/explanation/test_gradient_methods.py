"""Gradient methods against Captum, MONAI and pytorch-grad-cam, on the same network and images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from captum import attr
from monai import visualize

from gyrus.explanation import gradient_methods as gradients
from gyrus.explanation.method_input import erased
from tests.support.networks import Network, images
from tests.support.reference_maps import CLASSES, close, each, method_input, raw

pytest.importorskip("pytorch_grad_cam")


both = pytest.mark.parametrize("dims", [2, 3])


@both
def test_guided_gradients_are_those_of_captum_and_of_monai(dims: int) -> None:
    network = Network(dims).eval()
    ours = gradients.guided_gradients(method_input(network, dims))
    with pytest.warns(UserWarning, match="Setting backward hooks on ReLU"):
        theirs = attr.GuidedBackprop(network).attribute(images(dims).requires_grad_(), torch.tensor(CLASSES))
    close(ours, theirs)
    method = visualize.GuidedBackpropGrad(network)
    close(ours, np.stack([method(one, index=wanted)[0] for one, wanted in each(dims)]))


def test_guided_gradients_are_those_of_pytorch_grad_cam() -> None:
    from pytorch_grad_cam import GuidedBackpropReLUModel

    network = Network(2).eval()
    ours = gradients.guided_gradients(method_input(network, 2))
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
    empty = erased(batch)
    theirs = attr.IntegratedGradients(network).attribute(
        batch.requires_grad_(), empty, torch.tensor(CLASSES), n_steps=7
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
