"""Class activation maps: sums of a layer's channels, weighted by how the class score depends on them.

Each rule maps activations and gradients (B, C, *grid) to maps (B, *grid). Negative values are evidence against the
class and become 0, as in the papers.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gyrus.explanation.layers import capture
from gyrus.explanation.method_input import Method, MethodInput

Rule = Callable[[Tensor, Tensor], Tensor]


def by_gradients(rule: Rule, *, signed: bool = False) -> Method:
    """The method of a rule: one forward pass, and a backward pass down to the layer.

    Args:
        rule: The rule.
        signed: Keep evidence against the class.
    """

    def compute(inputs: MethodInput) -> Tensor:
        maps = rule(*activations_and_gradients(inputs))
        return maps if signed else maps.relu()

    return compute


def activations_and_gradients(inputs: MethodInput) -> tuple[Tensor, Tensor]:
    """The output of the layer, and the gradient of the class score with respect to it; (B, C, *grid) each."""
    with torch.enable_grad(), capture(inputs.model, inputs.required_layer) as captured:
        scores = inputs.contrast.scores(inputs.model(inputs.images))
        (gradients,) = torch.autograd.grad(scores.sum(), captured.output)
    return captured.output.detach(), gradients


def grad_cam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Channels weighted by their mean gradient. Selvaraju et al. 2017, https://arxiv.org/abs/1610.02391."""
    return weighted_sum(activations, gradients.mean(dim=tuple(range(2, gradients.ndim)), keepdim=True))


def grad_cam_plus_plus(activations: Tensor, gradients: Tensor) -> Tensor:
    """Positive gradients only; small regions count as much as large ones.

    Chattopadhyay et al. 2018, https://arxiv.org/abs/1710.11063, equation 19, for the exponential of the logit. Nothing
    is added to the denominator: gradients after global pooling are so small that it would outweigh them.
    """
    denominators = 2 + _spatial_sum(activations) * gradients
    coefficients = torch.where((gradients != 0) & (denominators != 0), 1 / denominators, 0)
    return weighted_sum(activations, _spatial_sum(coefficients * gradients.relu()))


def hires_cam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Each cell weighted by its own gradient. Draelos and Carin 2020, https://arxiv.org/abs/2011.08891."""
    return (activations * gradients).sum(1)


def layer_cam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Each cell weighted by its own positive gradient. Jiang et al. 2021, doi 10.1109/TIP.2021.3089943."""
    return (activations * gradients.relu()).sum(1)


def xgrad_cam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Gradients averaged with the activations as weights. Fu et al. 2020, https://arxiv.org/abs/2008.02312."""
    return weighted_sum(activations, _spatial_sum(gradients * activations) / (_spatial_sum(activations) + 1e-7))


def eigen_cam(inputs: MethodInput) -> Tensor:
    """The first principal component of the activations; it does not depend on the class.

    Muhammad and Yeasin 2020, https://arxiv.org/abs/2008.00299. Its sign is arbitrary: the end of larger extent
    becomes positive (Chung and Ying 2025, https://doi.org/10.3390/app15137562, equation 13).
    """
    with torch.no_grad(), capture(inputs.model, inputs.required_layer) as captured:
        inputs.model(inputs.images)
    cells = captured.output.flatten(2).mT
    centred = cells - cells.mean(1, keepdim=True)
    _, _, directions = torch.linalg.svd(centred, full_matrices=False)
    projected = (centred @ directions[:, :1].mT)[..., 0]
    flipped = -projected.amin(1) > projected.amax(1)
    projected = torch.where(flipped[:, None], -projected, projected)
    return projected.reshape(-1, *captured.output.shape[2:]).relu()


def weighted_sum(activations: Tensor, weights: Tensor) -> Tensor:
    """The weighted sum of the channels, (B, *grid); weights (B, C, 1...)."""
    return (activations * weights).sum(1)


def _spatial_sum(values: Tensor) -> Tensor:
    return values.sum(dim=tuple(range(2, values.ndim)), keepdim=True)
