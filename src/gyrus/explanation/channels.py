"""How much of a prediction comes from each channel: its share of the attribution, and what changes without it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from gyrus.evaluation.bootstrap import BootstrapConfig, estimate_mean
from gyrus.evaluation.result import Estimate
from gyrus.explanation.gradient_methods import score_function
from gyrus.explanation.layers import evaluation_mode
from gyrus.explanation.method_input import MethodSettings
from gyrus.explanation.methods import predict_probabilities
from gyrus.explanation.targets import ClassContrast
from gyrus.files import atomic_path, open_arrays, reading
from gyrus.inference.engines import Engine, images_at_once
from gyrus.serialisation import Saved


@dataclass(frozen=True)
class ChannelImportance:
    """The importance of one channel over some images.

    Attributes:
        channel: Its name.
        images: Number of images that have it.
        share: Mean share of the attribution, 0 to 1: absolute integrated gradients from the empty image, summed over
            the channel and divided by the sum over all channels.
        decrease: Mean decrease of the probability of the explained class when the channel is removed.
        changed: Fraction of the predicted classes that change without it.
    """

    channel: str
    images: int
    share: Estimate
    decrease: Estimate
    changed: Estimate


@dataclass(frozen=True, eq=False)
class ChannelMaps:
    """The attribution of each channel of some images.

    Attributes:
        samples: Names of the N images.
        channels: Names of the C channels.
        pixels: uint8 (N, C, *spatial), on the network's grid.
        maps: float32 (N, C, *spatial).
    """

    samples: tuple[str, ...]
    channels: tuple[str, ...]
    pixels: npt.NDArray[np.uint8]
    maps: npt.NDArray[np.float32]

    def save(self, path: Path) -> None:
        """Write as .npz."""
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(
                file,
                samples=np.array(self.samples),
                channels=np.array(self.channels),
                pixels=self.pixels,
                maps=self.maps,
            )

    @classmethod
    def load(cls, path: Path) -> ChannelMaps:
        """Read what :meth:`save` wrote.

        Raises:
            DataError: The file is missing or damaged.
        """
        with reading(path, "maps by channel saved by Gyrus"), open_arrays(path) as saved:
            samples, channels = (tuple(map(str, saved[name])) for name in ("samples", "channels"))
            return cls(samples, channels, saved["pixels"], saved["maps"])


@dataclass(frozen=True)
class ChannelReport(Saved):
    """The importance of the channels of a classifier.

    Attributes:
        channels: One entry per channel, in order.
        subjects: Number of subjects whose images were measured; they are what intervals resample.
        learned_without: Whether channels were dropped in training. Otherwise the network has never seen an image
            without one, and what it answers then says less.
    """

    SCHEMA = "gyrus.channels/1"

    channels: tuple[ChannelImportance, ...]
    subjects: int
    learned_without: bool

    @property
    def sentences(self) -> tuple[str, ...]:
        """The result, in words."""
        shares = ", ".join(f"{one.channel} {one.share.percent()}" for one in self.channels)
        lost = ", ".join(f"{one.channel} {one.decrease.text(2)}" for one in self.channels)
        doubt = "" if self.learned_without else " (the network was not trained without channels, so this says less)"
        return (
            f"Share of the attribution by channel: {shares}.",
            f"Decrease of the probability without a channel: {lost}{doubt}.",
        )


def channel_attributions(
    model: nn.Module,
    images: Tensor,
    contrast: ClassContrast,
    settings: MethodSettings,
    advance: Callable[[int], None] = lambda _: None,
) -> npt.NDArray[np.float32]:
    """Integrated gradients of each channel, from the image without any channel; float32 (N, C, *spatial).

    They sum to the difference of the class scores (Sundararajan et al. 2017, https://arxiv.org/abs/1703.01365).

    Args:
        model: Gives logits (B, K).
        images: float32 (N, C, *spatial), normalised; a missing channel is 0.
        contrast: The class of each image.
        settings: Number of steps.
        advance: Called with the number of images that are done.
    """
    from captum.attr import IntegratedGradients

    device = next(iter(model.parameters()), images).device
    method = IntegratedGradients(score_function(model))
    found = []
    with evaluation_mode(model):
        step = images_at_once(images.shape[1:], settings.batch)
        for start in range(0, len(images), step):
            rows = slice(start, start + step)
            one, batch = contrast.select(rows).to(device), images[rows].to(device)
            values = method.attribute(
                batch.detach().clone().requires_grad_(),
                baselines=torch.zeros_like(batch),
                additional_forward_args=(one.plus, one.minus),
                n_steps=settings.steps,
                internal_batch_size=max(step, len(batch)),
            )
            found.append(values.detach().float().cpu().numpy())
            advance(len(batch))
    return np.concatenate(found)


def shares_of(attributions: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """The share of each channel in the absolute attribution of each image (N, C); equal shares where all are 0."""
    sums = np.abs(attributions.astype(np.float64)).reshape(*attributions.shape[:2], -1).sum(axis=2)
    total = sums.sum(axis=1, keepdims=True)
    return np.where(total > 0, sums / np.where(total > 0, total, 1), 1 / sums.shape[1])


def measure_channels(
    model: nn.Module | Engine,
    images: Tensor,
    contrast: ClassContrast,
    attributions: npt.NDArray[np.float32],
    subjects: npt.NDArray[np.int64],
    channels: Sequence[str],
    *,
    learned_without: bool,
    bootstrap: BootstrapConfig,
    advance: Callable[[int], None] = lambda _: None,
) -> ChannelReport:
    """Measure the importance of each channel.

    Args:
        model: Gives logits (B, K).
        images: float32 (N, C, *spatial), normalised.
        contrast: The class of each image.
        attributions: From :func:`channel_attributions`.
        subjects: int64 (N,), what intervals resample.
        channels: The C names.
        learned_without: Whether channels were dropped in training.
        bootstrap: How intervals are computed.
        advance: Called with the number of images of each pass of the network.
    """
    shares = shares_of(attributions)
    present = images.flatten(2).ne(0).any(dim=2).cpu().numpy()
    whole = predict_probabilities(model, images, advance=advance).numpy()
    explained = contrast.plus.cpu().numpy()
    rows = np.arange(len(images))
    found = []
    for number, name in enumerate(channels):
        has = present[:, number]
        if not has.any():
            undefined = Estimate(None, note="no image has this channel")
            found.append(ChannelImportance(name, 0, undefined, undefined, undefined))
            continue
        without = images.clone()
        without[:, number] = 0
        left = predict_probabilities(model, without, advance=advance).numpy()
        decrease = whole[rows, explained] - left[rows, explained]
        changed = (whole.argmax(1) != left.argmax(1)).astype(np.float64)
        groups = np.unique(subjects[has], return_inverse=True)[1]
        share, lost, other = (
            estimate_mean(values[has], groups, bootstrap) for values in (shares[:, number], decrease, changed)
        )
        found.append(ChannelImportance(name, int(has.sum()), share, lost, other))
    return ChannelReport(tuple(found), len(np.unique(subjects)), learned_without)
