"""Maps from changing something and asking again: parts of the image, or channels of a layer."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from gyrus.explanation.attribution import Question
from gyrus.explanation.class_activation_maps import weighed
from gyrus.explanation.gradient_methods import asked_logits
from gyrus.explanation.layers import capture, replaced

INTERPOLATION = {2: "bilinear", 3: "trilinear"}


def occlusion(question: Question) -> Tensor:
    """How much of the logit is lost where a square is erased, averaged over the squares on a pixel.

    Zeiler and Fergus 2014, https://arxiv.org/abs/1311.2901, by Captum.
    """
    from captum.attr import Occlusion

    settings, contrast, images = question.settings, question.contrast, question.images
    window = tuple(min(length, max(2, round(settings.window * length))) for length in question.spatial)
    stride = tuple(max(1, round(settings.stride * width)) for width in window)
    channels = images.shape[1]
    with torch.no_grad():
        values = Occlusion(asked_logits(question.model)).attribute(
            images,
            sliding_window_shapes=(channels, *window),
            strides=(channels, *stride),
            baselines=question.erased,
            additional_forward_args=(contrast.plus, contrast.minus),
            perturbations_per_eval=max(1, settings.batch // len(images)),
        )
    return values.float().sum(1) / channels


def rise(question: Question) -> Tensor:
    """The mean of random masks, weighed by the probability that is left when only they are seen.

    The least value of each map, which every pixel has whatever it shows, is taken off; see :func:`mean_masks`.
    """
    maps = mean_masks(question)
    return maps - maps.flatten(1).amin(1).reshape(-1, *(1,) * len(question.spatial))


def mean_masks(question: Question) -> Tensor:
    """Petsiuk et al. 2018, https://arxiv.org/abs/1806.07421, equation 6; what is masked is erased."""
    settings = question.settings
    nothing = question.erased
    total = torch.zeros(len(question.images), *question.spatial, device=question.images.device)
    for masks in _random_masks(question):
        for number, image in enumerate(question.images):
            seen = image * masks + nothing[number] * (1 - masks)
            probabilities = _logits(question, seen).softmax(1)
            asked = question.contrast.select(slice(number, number + 1)).repeated(len(masks)).of(probabilities)
            total[number] += torch.einsum("n,n...->...", asked, masks[:, 0])
    return total / (settings.masks * settings.visible)


def score_cam(question: Question) -> Tensor:
    """Channels weighed by the logit that is left when the image is seen through them.

    Wang et al. 2020, https://arxiv.org/abs/1910.01279: a channel, brought to the size of the image and to 0..1, is
    multiplied with it; the weights are the softmax of the logits.
    """
    activations = _activations(question)
    weights = [_seen_through(question, number, channels) for number, channels in enumerate(activations)]
    return weighed(activations, _as_weights(torch.stack(weights).softmax(1), activations)).relu()


def ablation_cam(question: Question) -> Tensor:
    """Channels weighed by the share of the logit that is lost without them.

    Desai and Ramaswamy 2020, doi 10.1109/WACV45572.2020.9093360. The loss is divided by the size of the logit, not by
    the logit: else the map of a class whose logit is negative would show what speaks against it.
    """
    activations = _activations(question)
    with torch.no_grad():
        whole = question.contrast.of(question.model(question.images))
    left = torch.stack([_left_without(question, number, activations) for number in range(len(activations))])
    weights = (whole[:, None] - left) / whole.abs().clamp_min(1e-7)[:, None]
    return weighed(activations, _as_weights(weights, activations)).relu()


def to_size(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    """Maps (B, *grid) or channels (B, C, *grid) brought to another size, linearly."""
    if tuple(maps.shape[-len(size) :]) == size:
        return maps
    batch = maps if maps.ndim == len(size) + 2 else maps[:, None]
    resized = functional.interpolate(batch, size=size, mode=INTERPOLATION[len(size)], align_corners=False)
    return resized if maps.ndim == len(size) + 2 else resized[:, 0]


def _logits(question: Question, images: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([question.model(part) for part in images.split(question.settings.batch)])


def _activations(question: Question) -> Tensor:
    with torch.no_grad(), capture(question.model, question.named_layer) as captured:
        question.model(question.images)
    return captured.output


def _seen_through(question: Question, number: int, channels: Tensor) -> Tensor:
    """The logit (C,) of an image seen through each of the channels (C, *grid) of a layer."""
    asked = question.contrast.select(slice(number, number + 1))
    scores = []
    for part in channels.split(question.settings.batch):
        masks = to_size(part, question.spatial)
        flat = masks.flatten(1)
        low, high = (edge.reshape(-1, *(1,) * len(question.spatial)) for edge in (flat.amin(1), flat.amax(1)))
        masks = (masks - low) / (high - low + 1e-8)
        with torch.no_grad():
            logits = question.model(question.images[number] * masks[:, None])
        scores.append(asked.repeated(len(part)).of(logits))
    return torch.cat(scores)


def _left_without(question: Question, number: int, activations: Tensor) -> Tensor:
    """The logit (C,) of an image when each channel of the layer in turn is set to 0."""
    asked = question.contrast.select(slice(number, number + 1))
    own = activations[number]
    scores = []
    for channels in torch.arange(len(own), device=own.device).split(question.settings.batch):
        without = own.repeat(len(channels), *(1,) * own.ndim)
        without[torch.arange(len(channels)), channels] = 0
        images = question.images[number].expand(len(channels), *question.images.shape[1:])
        with torch.no_grad(), replaced(question.model, question.named_layer, without):
            scores.append(asked.repeated(len(channels)).of(question.model(images)))
    return torch.cat(scores)


def _as_weights(weights: Tensor, activations: Tensor) -> Tensor:
    return weights.reshape(*weights.shape, *(1,) * (activations.ndim - 2))


def _random_masks(question: Question) -> Iterator[Tensor]:
    """Smooth masks (n, 1, *spatial) in 0..1, the same for all images: coarse cells, enlarged and shifted by chance."""
    settings, spatial = question.settings, question.spatial
    generator = torch.Generator().manual_seed(settings.seed)
    cells = [min(settings.cells, length) for length in spatial]
    width = [-(-length // count) for length, count in zip(spatial, cells, strict=True)]
    large = tuple((count + 1) * step for count, step in zip(cells, width, strict=True))
    for start in range(0, settings.masks, settings.batch):
        number = min(settings.batch, settings.masks - start)
        shown = torch.rand(number, 1, *(count + 1 for count in cells), generator=generator) < settings.visible
        enlarged = to_size(shown.float(), large)
        shifts = torch.stack([torch.randint(step, (number,), generator=generator) for step in width], dim=1)
        cut = [_window(mask, shift.tolist(), spatial) for mask, shift in zip(enlarged, shifts, strict=True)]
        yield torch.stack(cut).to(question.images)


def _window(mask: Tensor, start: list[int], size: tuple[int, ...]) -> Tensor:
    """A window of a mask (1, *spatial), of that size, from ``start`` on."""
    for axis, (at, length) in enumerate(zip(start, size, strict=True), start=1):
        mask = mask.narrow(axis, at, length)
    return mask
