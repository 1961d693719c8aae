"""The attribution methods, by name, and heat maps of any network: :func:`compute_heat_maps`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from gyrus.explanation import class_activation_maps as cam
from gyrus.explanation import gradient_methods as gradients
from gyrus.explanation import perturbation_methods as perturbation
from gyrus.explanation.layers import choose_layer, evaluation_mode
from gyrus.explanation.method_input import Method, MethodInput, MethodSettings, logits_of
from gyrus.explanation.targets import ClassContrast
from gyrus.inference.engines import Engine, images_at_once
from gyrus.registry import look_up

EngineChoice = Callable[[nn.Module, Tensor, int], Engine | None]
"""From a network, images and a number of passes to the engine that runs them, or None for the network itself."""


@dataclass(frozen=True)
class MethodSpec:
    """An entry of :data:`METHODS`.

    Attributes:
        compute: The method.
        title: Its name in text.
        summary: What it computes, in one line.
        source: Paper.
        needs_layer: Whether it uses a layer.
        is_signed: Whether negative values are evidence against the class.
        depends_on_class: Whether the map depends on the class at all.
        passes: Passes of the network for one map without gradients, where there are many; None for other methods.
        any_engine: Whether an engine that gives logits only can run them.
        of_numbers: Whether it is defined for a predicted number, which has no probability.
    """

    compute: Method
    title: str
    summary: str
    source: str
    needs_layer: bool = False
    is_signed: bool = False
    depends_on_class: bool = True
    passes: Callable[[MethodInput], int] | None = None
    any_engine: bool = False
    of_numbers: bool = True


def _cam(rule: cam.Rule, title: str, summary: str, source: str) -> MethodSpec:
    return MethodSpec(cam.by_gradients(rule), title, summary, source, needs_layer=True)


METHODS: dict[str, MethodSpec] = {
    "grad-cam": _cam(cam.grad_cam, "Grad-CAM", "channels weighted by their mean gradient", "Selvaraju et al. 2017"),
    "grad-cam++": _cam(
        cam.grad_cam_plus_plus,
        "Grad-CAM++",
        "positive gradients only; small regions count as much as large ones",
        "Chattopadhyay et al. 2018",
    ),
    "hires-cam": _cam(cam.hires_cam, "HiResCAM", "each cell weighted by its gradient", "Draelos and Carin 2020"),
    "contributions": MethodSpec(
        cam.by_gradients(cam.hires_cam, signed=True),
        "Contributions",
        "HiResCAM with the evidence against the class; of a linear model on voxels, weight times feature",
        "Draelos and Carin 2020",
        needs_layer=True,
        is_signed=True,
    ),
    "layer-cam": _cam(cam.layer_cam, "LayerCAM", "each cell weighted by its positive gradient", "Jiang et al. 2021"),
    "xgrad-cam": _cam(cam.xgrad_cam, "XGrad-CAM", "gradients averaged with activations as weights", "Fu et al. 2020"),
    "eigen-cam": MethodSpec(
        cam.eigen_cam,
        "Eigen-CAM",
        "first principal component of the layer; independent of the class",
        "Muhammad and Yeasin 2020",
        needs_layer=True,
        depends_on_class=False,
    ),
    "score-cam": MethodSpec(
        perturbation.score_cam,
        "Score-CAM",
        "channels weighted by the class score of the image masked with them",
        "Wang et al. 2020",
        needs_layer=True,
        of_numbers=False,
        passes=perturbation.channel_passes,
        any_engine=True,
    ),
    "ablation-cam": MethodSpec(
        perturbation.ablation_cam,
        "Ablation-CAM",
        "channels weighted by the decrease of the class score without them",
        "Desai and Ramaswamy 2020",
        needs_layer=True,
        passes=perturbation.channel_passes,
    ),
    "integrated-gradients": MethodSpec(
        gradients.integrated_gradients,
        "Integrated gradients",
        "gradients along the path from the erased image",
        "Sundararajan et al. 2017",
        is_signed=True,
    ),
    "smooth-grad": MethodSpec(
        gradients.smooth_grad,
        "SmoothGrad",
        "absolute mean gradient of noisy copies",
        "Smilkov et al. 2017",
    ),
    "guided-backpropagation": MethodSpec(
        gradients.guided_backpropagation,
        "Guided backpropagation",
        "gradients that pass a ReLU only where they are positive",
        "Springenberg et al. 2015",
    ),
    "input-x-gradient": MethodSpec(
        gradients.input_times_gradient,
        "Input x gradient",
        "pixel value times gradient",
        "Shrikumar et al. 2016",
        is_signed=True,
    ),
    "occlusion": MethodSpec(
        perturbation.occlusion,
        "Occlusion",
        "decrease of the class score when a square is erased",
        "Zeiler and Fergus 2014",
        is_signed=True,
        passes=perturbation.occlusion_passes,
        any_engine=True,
    ),
    "rise": MethodSpec(
        perturbation.rise,
        "RISE",
        "random masks weighted by the class probability",
        "Petsiuk et al. 2018",
        of_numbers=False,
        passes=perturbation.rise_passes,
        any_engine=True,
    ),
}


def compute_heat_maps(
    model: nn.Module,
    images: Tensor,
    contrast: ClassContrast,
    method: str = "grad-cam",
    *,
    layer: str | None = None,
    settings: MethodSettings = MethodSettings(),  # noqa: B008
    progress: Callable[[int, int], None] | None = None,
    choose: EngineChoice | None = None,
) -> np.ndarray:
    """Heat maps of images, on the network's pixel grid.

    Args:
        model: Any network that gives logits (B, K), from Gyrus or not. It is left unchanged, without hooks.
        images: float32 (B, C, *spatial), normalised; two or three spatial axes.
        contrast: The class that each map is about.
        method: A name in :data:`METHODS`.
        layer: A name in ``model.named_modules()``; by default that of
            :func:`gyrus.explanation.layers.choose_layer`.
        settings: Numerical settings.
        progress: Called with the number of finished passes of the network and of all: those of ``spec.passes``, or one
            per image.
        choose: Chooses what runs the network where logits alone are needed; by default the network itself.

    Returns:
        float32 (B, *spatial).

    Raises:
        ConfigError: There is no such method or layer, or the method is not defined for this network.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 14 * 14, 2))
        >>> compute_heat_maps(model, torch.rand(3, 1, 16, 16), ClassContrast(torch.tensor([0, 1, 1])), layer="1").shape
        (3, 16, 16)
    """
    spec = look_up(method, METHODS, "method")
    device = next(iter(model.parameters()), images).device
    done = 0
    maps = []

    def advance(passes: int) -> None:
        nonlocal done
        done += passes
        if progress:
            progress(min(done, total), total)

    with evaluation_mode(model):
        chosen = choose_layer(model, images[:1].to(device), layer) if spec.needs_layer else None
        first = MethodInput(model, images[:1].to(device), contrast.select(slice(1)).to(device), chosen, settings)
        passes = spec.passes(first) if spec.passes else 1
        total = passes * len(images)
        engine = choose(model, images, total) if choose and spec.any_engine else None
        for start in range(0, len(images), first.at_once):
            rows = slice(start, start + first.at_once)
            inputs = MethodInput(
                model,
                images[rows].to(device),
                contrast.select(rows).to(device),
                chosen,
                settings,
                engine,
                advance if spec.passes else lambda _: None,
            )
            computed = perturbation.to_size(spec.compute(inputs), inputs.spatial)
            maps.append(computed.detach().float().cpu().numpy())
            if not spec.passes:
                advance(len(inputs.images))
    return np.concatenate(maps)


def predict_logits(
    model: nn.Module | Engine, images: Tensor, batch: int = 64, advance: Callable[[int], None] = lambda _: None
) -> np.ndarray:
    """The logits of images, float32 (N, K), in evaluation mode.

    Args:
        model: Gives logits (B, K).
        images: float32 (N, C, *spatial).
        batch: Images per forward pass, fewer of large volumes.
        advance: Called with the number of images of each pass.
    """
    logits = []
    with evaluation_mode(model) if isinstance(model, nn.Module) else nullcontext():
        for chunk in images.split(images_at_once(images.shape[1:], batch)):
            logits.append(logits_of(model, chunk).float().cpu())
            advance(len(chunk))
    return torch.cat(logits).numpy()


def predict_probabilities(
    model: nn.Module | Engine, images: Tensor, batch: int = 64, advance: Callable[[int], None] = lambda _: None
) -> Tensor:
    """The class probabilities of images, float64 (N, K); the arguments are those of :func:`predict_logits`."""
    return torch.from_numpy(predict_logits(model, images, batch, advance)).softmax(1).double()
