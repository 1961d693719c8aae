"""Class activation maps: sums of a layer's channels, weighed by how the answer depends on them.

Each is a function of activations and gradients (B, C, *grid) and gives maps (B, *grid). Negative values speak against
the class and are cut, as in the papers.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gyrus.explanation.attribution import Method, Question
from gyrus.explanation.layers import capture

Rule = Callable[[Tensor, Tensor], Tensor]


def by_gradients(rule: Rule) -> Method:
    """The method that a rule of activations and gradients makes, in one pass forth and half a pass back."""

    def compute(question: Question) -> Tensor:
        activations, gradients = activations_and_gradients(question)
        return rule(activations, gradients).relu()

    return compute


def activations_and_gradients(question: Question) -> tuple[Tensor, Tensor]:
    """What comes out of the layer, and how the logits asked about change with it; (B, C, *grid) each."""
    with torch.enable_grad(), capture(question.model, question.named_layer) as captured:
        asked = question.contrast.of(question.model(question.images))
        (gradients,) = torch.autograd.grad(asked.sum(), captured.output)
    return captured.output.detach(), gradients


def grad_cam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Channels weighed by their mean gradient. Selvaraju et al. 2017, https://arxiv.org/abs/1610.02391."""
    return weighed(activations, _spatial_mean(gradients))


def grad_cam_plus_plus(activations: Tensor, gradients: Tensor) -> Tensor:
    """Only what speaks for the class counts, small spots as much as large ones.

    Chattopadhyay et al. 2018, https://arxiv.org/abs/1710.11063, equation 19, for the exponential of the logit. Nothing
    is added to the denominator: gradients behind a mean over space are so small that it would outweigh them.
    """
    denominators = 2 + _spatial_sum(activations) * gradients
    shares = torch.where((gradients != 0) & (denominators != 0), 1 / denominators, 0)
    return weighed(activations, _spatial_sum(shares * gradients.relu()))


def hires_cam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Each cell weighed by its own gradient. Draelos and Carin 2020, https://arxiv.org/abs/2011.08891."""
    return (activations * gradients).sum(1)


def layer_cam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Each cell weighed by its own gradient where that is positive. Jiang et al. 2021, doi 10.1109/TIP.2021.3089943."""
    return (activations * gradients.relu()).sum(1)


def xgrad_cam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Gradients averaged by what is active. Fu et al. 2020, https://arxiv.org/abs/2008.02312."""
    return weighed(activations, _spatial_sum(gradients * activations) / (_spatial_sum(activations) + 1e-7))


def eigen_cam(question: Question) -> Tensor:
    """The first principal component of the activations, whatever the class.

    Muhammad and Yeasin 2020, https://arxiv.org/abs/2008.00299. Which end of it is hot is not given by the algebra: the
    end that reaches farther is (Chung and Ying 2025, https://doi.org/10.3390/app15137562, equation 13).
    """
    with torch.no_grad(), capture(question.model, question.named_layer) as captured:
        question.model(question.images)
    cells = captured.output.flatten(2).mT
    centred = cells - cells.mean(1, keepdim=True)
    _, _, directions = torch.linalg.svd(centred, full_matrices=False)
    projected = (centred @ directions[:, :1].mT)[..., 0]
    turned = -projected.amin(1) > projected.amax(1)
    projected = torch.where(turned[:, None], -projected, projected)
    return projected.reshape(-1, *captured.output.shape[2:]).relu()


def weighed(activations: Tensor, weights: Tensor) -> Tensor:
    """The weighed sum of the channels, (B, *grid); weights (B, C, 1...)."""
    return (activations * weights).sum(1)


def _spatial_mean(values: Tensor) -> Tensor:
    return values.mean(dim=tuple(range(2, values.ndim)), keepdim=True)


def _spatial_sum(values: Tensor) -> Tensor:
    return values.sum(dim=tuple(range(2, values.ndim)), keepdim=True)
