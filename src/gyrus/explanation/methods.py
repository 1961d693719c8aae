"""The methods, by name, and the one function that asks them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from gyrus.explanation import class_activation_maps as cam
from gyrus.explanation import gradient_methods as gradients
from gyrus.explanation import perturbation_methods as perturbation
from gyrus.explanation.attribution import MethodSettings, MethodSpec, Question
from gyrus.explanation.layers import choose_layer, require_layer, still
from gyrus.explanation.targets import ClassContrast
from gyrus.registry import look_up


def _cam(rule: cam.Rule, title: str, summary: str, source: str) -> MethodSpec:
    return MethodSpec(cam.by_gradients(rule), title, summary, source, needs_layer=True)


METHODS: dict[str, MethodSpec] = {
    "grad-cam": _cam(cam.grad_cam, "Grad-CAM", "channels weighed by their mean gradient", "Selvaraju et al. 2017"),
    "grad-cam++": _cam(
        cam.grad_cam_plus_plus,
        "Grad-CAM++",
        "positive gradients only, small spots as much as large ones",
        "Chattopadhyay et al. 2018",
    ),
    "hires-cam": _cam(cam.hires_cam, "HiResCAM", "each cell weighed by its own gradient", "Draelos and Carin 2020"),
    "layer-cam": _cam(cam.layer_cam, "LayerCAM", "each cell weighed by its own positive gradient", "Jiang et al. 2021"),
    "xgrad-cam": _cam(cam.xgrad_cam, "XGrad-CAM", "gradients averaged by what is active", "Fu et al. 2020"),
    "eigen-cam": MethodSpec(
        cam.eigen_cam,
        "Eigen-CAM",
        "first principal component of the layer, whatever the class",
        "Muhammad and Yeasin 2020",
        needs_layer=True,
        asks_class=False,
    ),
    "score-cam": MethodSpec(
        perturbation.score_cam,
        "Score-CAM",
        "channels weighed by what is left when only they are seen",
        "Wang et al. 2020",
        needs_layer=True,
    ),
    "ablation-cam": MethodSpec(
        perturbation.ablation_cam,
        "Ablation-CAM",
        "channels weighed by what is lost without them",
        "Desai and Ramaswamy 2020",
        needs_layer=True,
    ),
    "integrated-gradients": MethodSpec(
        gradients.integrated_gradients,
        "Integrated gradients",
        "gradients along the way from the erased image",
        "Sundararajan et al. 2017",
        is_signed=True,
    ),
    "smooth-grad": MethodSpec(
        gradients.smooth_grad, "SmoothGrad", "size of the mean gradient of noisy copies", "Smilkov et al. 2017"
    ),
    "guided-backpropagation": MethodSpec(
        gradients.guided_backpropagation,
        "Guided backpropagation",
        "gradients that pass a ReLU only where positive",
        "Springenberg et al. 2015",
    ),
    "input-x-gradient": MethodSpec(
        gradients.input_times_gradient,
        "Input x gradient",
        "pixel times its gradient",
        "Shrikumar et al. 2016",
        is_signed=True,
    ),
    "occlusion": MethodSpec(
        perturbation.occlusion,
        "Occlusion",
        "what is lost where a square is erased",
        "Zeiler and Fergus 2014",
        is_signed=True,
    ),
    "rise": MethodSpec(
        perturbation.rise, "RISE", "random masks weighed by what is left of the probability", "Petsiuk et al. 2018"
    ),
}


def explain(
    model: nn.Module,
    images: Tensor,
    contrast: ClassContrast,
    method: str = "grad-cam",
    *,
    layer: str | None = None,
    settings: MethodSettings = MethodSettings(),  # noqa: B008
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Heat maps of images, in the network's own pixels.

    Args:
        model: Any network that gives logits (B, K), of the zoo or not. Afterwards it is as it was, without hooks.
        images: float32 (B, C, *spatial), normalised; two or three spatial axes.
        contrast: What is asked about each image.
        method: A name in :data:`METHODS`.
        layer: A name in ``model.named_modules()``; by default the one that :func:`pick_layer` finds.
        settings: The numbers that methods leave open.
        progress: Called with the number of images done and of all.

    Returns:
        float32 (B, *spatial).

    Raises:
        ConfigError: There is no such method or layer, or the method is not defined for such a network.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 14 * 14, 2))
        >>> explain(model, torch.rand(3, 1, 16, 16), ClassContrast(torch.tensor([0, 1, 1])), layer="1").shape
        (3, 16, 16)
    """
    spec = look_up(method, METHODS, "method")
    device = next(iter(model.parameters()), images).device
    maps = []
    with still(model):
        chosen = pick_layer(model, images[:1].to(device), layer) if spec.needs_layer else None
        for start in range(0, len(images), settings.batch):
            part = slice(start, start + settings.batch)
            question = Question(model, images[part].to(device), contrast.select(part).to(device), chosen, settings)
            found = perturbation.to_size(spec.compute(question), question.spatial)
            maps.append(found.detach().float().cpu().numpy())
            if progress:
                progress(min(start + settings.batch, len(images)), len(images))
    return np.concatenate(maps)


def pick_layer(model: nn.Module, image: Tensor, name: str | None = None) -> str:
    """The layer of that name, or where none is named the deepest whose map is fine enough to point to something.

    Args:
        model: Any network, in evaluation mode.
        image: One image (1, C, *spatial).
        name: Of a module.

    Raises:
        ConfigError: There is no such layer, or it gives no map.
    """
    return choose_layer(model, image) if name is None else require_layer(model, name, image)


def logits_of(model: nn.Module, images: Tensor, batch: int = 64) -> np.ndarray:
    """What a network says of images, float32 (N, K); it is in evaluation mode meanwhile."""
    device = next(iter(model.parameters()), images).device
    with still(model), torch.no_grad():
        return torch.cat([model(part.to(device)).float().cpu() for part in images.split(batch)]).numpy()
