"""Attribution from perturbations: of regions of the image, or of channels of a layer."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from gyrus.explanation.class_activation_maps import weighted_sum
from gyrus.explanation.gradient_methods import score_function
from gyrus.explanation.layers import capture, replace_output
from gyrus.explanation.method_input import MethodInput
from gyrus.explanation.occlusion import occlusion_passes as passes_of

INTERPOLATION = {2: "bilinear", 3: "trilinear"}


def occlusion(inputs: MethodInput) -> Tensor:
    """Decrease of the class score when a square is erased, averaged over the squares that cover a pixel.

    Zeiler and Fergus 2014, https://arxiv.org/abs/1311.2901, by Captum.
    """
    from captum.attr import Occlusion

    contrast, images = inputs.contrast, inputs.images
    channels = images.shape[1]
    with torch.no_grad():
        values = Occlusion(score_function(inputs.predict)).attribute(
            images,
            sliding_window_shapes=(channels, *inputs.window),
            strides=(channels, *inputs.step),
            baselines=inputs.erased,
            additional_forward_args=(contrast.plus, contrast.minus),
            perturbations_per_eval=max(1, inputs.at_once // len(images)),
        )
    return values.float().sum(1) / channels


def occlusion_passes(inputs: MethodInput) -> int:
    """Passes of the network for one map: one per square, and one of the whole image."""
    return passes_of(inputs.spatial, inputs.window, inputs.step)


def rise(inputs: MethodInput) -> Tensor:
    """The mean of random masks, weighted by the probability of the class when only they are visible.

    The minimum of each map, an offset that all pixels share, is subtracted; see :func:`mean_masks`.
    """
    maps = mean_masks(inputs)
    return maps - maps.flatten(1).amin(1).reshape(-1, *(1,) * len(inputs.spatial))


def rise_passes(inputs: MethodInput) -> int:
    """Passes of the network for one map: one per mask."""
    return inputs.settings.masks


def mean_masks(inputs: MethodInput) -> Tensor:
    """Petsiuk et al. 2018, https://arxiv.org/abs/1806.07421, equation 6; masked content is erased."""
    settings = inputs.settings
    empty = inputs.erased
    total = torch.zeros(len(inputs.images), *inputs.spatial, device=inputs.images.device)
    for masks in _random_masks(inputs):
        for number, image in enumerate(inputs.images):
            logits = inputs.predict(image * masks + empty[number] * (1 - masks))
            scores = inputs.contrast.select(slice(number, number + 1)).repeat(len(masks)).scores(logits.softmax(1))
            total[number] += torch.einsum("n,n...->...", scores, masks[:, 0])
    return total / (settings.masks * settings.visible)


def score_cam(inputs: MethodInput) -> Tensor:
    """Channels weighted by the class score of the image masked with them.

    Wang et al. 2020, https://arxiv.org/abs/1910.01279: each channel is resized to the image, scaled to 0..1 and
    multiplied with it; the weights are the softmax of the class scores.
    """
    activations = _activations(inputs)
    weights = [_scores_masked(inputs, number, channels) for number, channels in enumerate(activations)]
    return weighted_sum(activations, _as_weights(torch.stack(weights).softmax(1), activations)).relu()


def channel_passes(inputs: MethodInput) -> int:
    """Passes of the network for one map: one per channel of the layer."""
    return int(_activations(inputs).shape[1])


def ablation_cam(inputs: MethodInput) -> Tensor:
    """Channels weighted by the relative decrease of the class score without them.

    Desai and Ramaswamy 2020, doi 10.1109/WACV45572.2020.9093360. The decrease is divided by the absolute
    score: otherwise the map of a class with a negative score would show the evidence against it.
    """
    activations = _activations(inputs)
    with torch.no_grad():
        complete = inputs.contrast.scores(inputs.model(inputs.images))
    without = torch.stack([_scores_without(inputs, number, activations) for number in range(len(activations))])
    weights = (complete[:, None] - without) / complete.abs().clamp_min(1e-7)[:, None]
    return weighted_sum(activations, _as_weights(weights, activations)).relu()


def to_size(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    """Maps (B, *grid) or channels (B, C, *grid), resized linearly."""
    if tuple(maps.shape[-len(size) :]) == size:
        return maps
    batch = maps if maps.ndim == len(size) + 2 else maps[:, None]
    resized = functional.interpolate(batch, size=size, mode=INTERPOLATION[len(size)], align_corners=False)
    return resized if maps.ndim == len(size) + 2 else resized[:, 0]


def _activations(inputs: MethodInput) -> Tensor:
    with torch.no_grad(), capture(inputs.model, inputs.required_layer) as captured:
        inputs.model(inputs.images)
    return captured.output


def _scores_masked(inputs: MethodInput, number: int, channels: Tensor) -> Tensor:
    """The class score (C,) of an image masked with each of the channels (C, *grid) of a layer."""
    contrast = inputs.contrast.select(slice(number, number + 1))
    scores = []
    for chunk in channels.split(inputs.settings.batch):
        masks = to_size(chunk, inputs.spatial)
        flat = masks.flatten(1)
        low, high = (edge.reshape(-1, *(1,) * len(inputs.spatial)) for edge in (flat.amin(1), flat.amax(1)))
        masks = (masks - low) / (high - low + 1e-8)
        logits = inputs.predict(inputs.images[number] * masks[:, None])
        scores.append(contrast.repeat(len(chunk)).scores(logits))
    return torch.cat(scores)


def _scores_without(inputs: MethodInput, number: int, activations: Tensor) -> Tensor:
    """The class score (C,) of an image with each channel of the layer in turn set to 0."""
    contrast = inputs.contrast.select(slice(number, number + 1))
    own = activations[number]
    scores = []
    for channels in torch.arange(len(own), device=own.device).split(inputs.settings.batch):
        without = own.repeat(len(channels), *(1,) * own.ndim)
        without[torch.arange(len(channels)), channels] = 0
        images = inputs.images[number].expand(len(channels), *inputs.images.shape[1:])
        with torch.no_grad(), replace_output(inputs.model, inputs.required_layer, without):
            scores.append(contrast.repeat(len(channels)).scores(inputs.model(images)))
        inputs.advance(len(channels))
    return torch.cat(scores)


def _as_weights(weights: Tensor, activations: Tensor) -> Tensor:
    return weights.reshape(*weights.shape, *(1,) * (activations.ndim - 2))


def _random_masks(inputs: MethodInput) -> Iterator[Tensor]:
    """Smooth masks (n, 1, *spatial) in 0..1, the same for all images: coarse cells, enlarged and randomly shifted."""
    settings, spatial = inputs.settings, inputs.spatial
    generator = torch.Generator().manual_seed(settings.seed)
    cells = [min(settings.cells, length) for length in spatial]
    width = [-(-length // count) for length, count in zip(spatial, cells, strict=True)]
    large = tuple((count + 1) * step for count, step in zip(cells, width, strict=True))
    for start in range(0, settings.masks, settings.batch):
        number = min(settings.batch, settings.masks - start)
        visible = torch.rand(number, 1, *(count + 1 for count in cells), generator=generator) < settings.visible
        enlarged = to_size(visible.float(), large)
        shifts = torch.stack([torch.randint(step, (number,), generator=generator) for step in width], dim=1)
        cut = [_window(mask, shift.tolist(), spatial) for mask, shift in zip(enlarged, shifts, strict=True)]
        yield torch.stack(cut).to(inputs.images)


def _window(mask: Tensor, start: list[int], size: tuple[int, ...]) -> Tensor:
    """A window of a mask (1, *spatial) that begins at ``start``."""
    for axis, (at, length) in enumerate(zip(start, size, strict=True), start=1):
        mask = mask.narrow(axis, at, length)
    return mask
