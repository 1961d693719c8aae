"""Attribution from the gradient of the class score with respect to the image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from gyrus.errors import ConfigError
from gyrus.explanation.method_input import MethodInput
from gyrus.explanation.targets import ClassContrast


def input_gradients(inputs: MethodInput) -> Tensor:
    """The gradient of the class score with respect to each pixel, (B, C, *spatial)."""
    with torch.enable_grad():
        images = inputs.images.detach().clone().requires_grad_()
        scores = inputs.contrast.scores(inputs.model(images))
        (gradients,) = torch.autograd.grad(scores.sum(), images)
    return gradients


def input_times_gradient(inputs: MethodInput) -> Tensor:
    """Pixel value times gradient, summed over channels. Shrikumar et al. 2016, https://arxiv.org/abs/1605.01713."""
    return (inputs.images * input_gradients(inputs)).sum(1)


def integrated_gradients(inputs: MethodInput) -> Tensor:
    """Gradients along the path from the erased image to the image; they sum to the difference of the class scores.

    Sundararajan et al. 2017, https://arxiv.org/abs/1703.01365, by Captum.
    """
    from captum.attr import IntegratedGradients

    contrast = inputs.contrast
    values = IntegratedGradients(score_function(inputs.model)).attribute(
        inputs.images.detach().clone().requires_grad_(),
        baselines=inputs.erased,
        additional_forward_args=(contrast.plus, contrast.minus),
        n_steps=inputs.settings.steps,
        internal_batch_size=max(inputs.settings.batch, len(inputs.images)),
    )
    return values.detach().float().sum(1)


def smooth_grad(inputs: MethodInput) -> Tensor:
    """Absolute value of the mean gradient of noisy copies, maximum over channels.

    Smilkov et al. 2017, https://arxiv.org/abs/1706.03825. All images get the same noise, so that a map does not
    depend on the other images of the batch.
    """
    settings = inputs.settings
    flat = inputs.images.flatten(1)
    width = settings.noise * (flat.amax(1) - flat.amin(1)).reshape(-1, *(1,) * (inputs.images.ndim - 1))
    generator = torch.Generator().manual_seed(settings.seed)
    total = torch.zeros_like(inputs.images)
    for _ in range(settings.samples):
        noise = torch.randn(inputs.images.shape[1:], generator=generator).to(inputs.images)
        noisy = MethodInput(inputs.model, inputs.images + width * noise, inputs.contrast)
        total += input_gradients(noisy)
    return (total / settings.samples).abs().amax(1)


def guided_backpropagation(inputs: MethodInput) -> Tensor:
    """Absolute value of the guided gradient, maximum over channels; see :func:`guided_gradients`."""
    return guided_gradients(inputs).abs().amax(1)


def guided_gradients(inputs: MethodInput) -> Tensor:
    """Gradients that pass a ReLU only where both the gradient and its input are positive, (B, C, *spatial).

    Springenberg et al. 2015, https://arxiv.org/abs/1412.6806. ReLU functions count as well as ReLU modules.

    Raises:
        ConfigError: The network has no ReLU, so the method is not defined.
    """
    with _GuidedReLUs() as guided:
        gradients = input_gradients(inputs)
    if not guided.count:
        raise ConfigError(
            "Guided backpropagation is defined only for networks with ReLU, and this network has none. Use another "
            "method, for example integrated-gradients or smooth-grad."
        )
    return gradients


def score_function(model: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor, Tensor | None], Tensor]:
    """The network in the form that Captum needs: from images and classes to one score per image."""

    def forward(images: Tensor, plus: Tensor, minus: Tensor | None) -> Tensor:
        return ClassContrast(plus, minus).scores(model(images))

    return forward


class _GuidedReLU(torch.autograd.Function):
    """A ReLU, up to its ceiling, that passes only positive gradients."""

    @staticmethod
    def forward(context: Any, values: Tensor, ceiling: float) -> Tensor:
        context.save_for_backward((values > 0) & (values < ceiling))
        return values.clamp(0.0, ceiling)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (open_gates,) = context.saved_tensors
        return gradients[0].relu() * open_gates, None


_CEILINGS: Mapping[Any, float] = {
    **dict.fromkeys(
        (torch.relu, torch.relu_, functional.relu, functional.relu_, Tensor.relu, Tensor.relu_), float("inf")
    ),
    functional.relu6: 6.0,
}


@dataclass
class _GuidedReLUs(TorchFunctionMode):
    """Inside this context, every ReLU is guided."""

    count: int = 0

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_function__(self, function: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function not in _CEILINGS:
            return function(*args, **(kwargs or {}))
        self.count += 1
        values = args[0] if args else kwargs["input"]
        return _GuidedReLU.apply(values, _CEILINGS[function])
