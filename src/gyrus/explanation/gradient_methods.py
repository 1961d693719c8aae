"""Maps from the gradient with respect to the image itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from gyrus.errors import ConfigError
from gyrus.explanation.attribution import Question
from gyrus.explanation.targets import ClassContrast


def input_gradients(question: Question) -> Tensor:
    """How the logits asked about change with each pixel, (B, C, *spatial)."""
    with torch.enable_grad():
        images = question.images.detach().clone().requires_grad_()
        asked = question.contrast.of(question.model(images))
        (gradients,) = torch.autograd.grad(asked.sum(), images)
    return gradients


def input_times_gradient(question: Question) -> Tensor:
    """Pixel times its gradient, summed over channels. Shrikumar et al. 2016, https://arxiv.org/abs/1605.01713."""
    return (question.images * input_gradients(question)).sum(1)


def integrated_gradients(question: Question) -> Tensor:
    """Gradients along the way from the erased image to the image; they sum up to what the logit gained on it.

    Sundararajan et al. 2017, https://arxiv.org/abs/1703.01365, by Captum.
    """
    from captum.attr import IntegratedGradients

    forward, contrast = asked_logits(question.model), question.contrast
    values = IntegratedGradients(forward).attribute(
        question.images.detach().clone().requires_grad_(),
        baselines=question.erased,
        additional_forward_args=(contrast.plus, contrast.minus),
        n_steps=question.settings.steps,
        internal_batch_size=max(question.settings.batch, len(question.images)),
    )
    return values.detach().float().sum(1)


def smooth_grad(question: Question) -> Tensor:
    """The size of the mean gradient of noisy copies, the largest of the channels.

    Smilkov et al. 2017, https://arxiv.org/abs/1706.03825. All images get the same noise, so that a map does not
    depend on its company.
    """
    settings = question.settings
    flat = question.images.flatten(1)
    width = settings.noise * (flat.amax(1) - flat.amin(1)).reshape(-1, *(1,) * (question.images.ndim - 1))
    generator = torch.Generator().manual_seed(settings.seed)
    total = torch.zeros_like(question.images)
    for _ in range(settings.samples):
        noise = torch.randn(question.images.shape[1:], generator=generator).to(question.images)
        noisy = Question(question.model, question.images + width * noise, question.contrast)
        total += input_gradients(noisy)
    return (total / settings.samples).abs().amax(1)


def guided_backpropagation(question: Question) -> Tensor:
    """The size of the guided gradient, the largest of the channels; see :func:`guided_gradients`."""
    return guided_gradients(question).abs().amax(1)


def guided_gradients(question: Question) -> Tensor:
    """Gradients that pass a ReLU only where both they and its input are positive, (B, C, *spatial).

    Springenberg et al. 2015, https://arxiv.org/abs/1412.6806. Also a ReLU that is no module is found.

    Raises:
        ConfigError: The network has no ReLU, for which alone the method is defined.
    """
    with _GuidedReLUs() as guided:
        gradients = input_gradients(question)
    if not guided.count:
        raise ConfigError(
            "Guided backpropagation is defined for networks with ReLU, and this one has none. Use another method, for "
            "example integrated-gradients or smooth-grad."
        )
    return gradients


def asked_logits(model: nn.Module) -> Callable[[Tensor, Tensor, Tensor | None], Tensor]:
    """The network as Captum takes it: from images and the classes asked about to one number an image."""

    def forward(images: Tensor, plus: Tensor, minus: Tensor | None) -> Tensor:
        return ClassContrast(plus, minus).of(model(images))

    return forward


class _GuidedReLU(torch.autograd.Function):
    """A ReLU, up to a ceiling where it has one, that lets only positive gradients through."""

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
    """While it is entered, every ReLU is a guided one."""

    count: int = 0

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_function__(self, function: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function not in _CEILINGS:
            return function(*args, **(kwargs or {}))
        self.count += 1
        values = args[0] if args else kwargs["input"]
        return _GuidedReLU.apply(values, _CEILINGS[function])
