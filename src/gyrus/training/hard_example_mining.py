"""Hard example mining: train on the images of each batch with the largest loss (Shrivastava et al. 2016)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gyrus.training.config import HardExamples
from gyrus.training.global_batch import WholeBatch


def hardest(losses: Tensor, mining: HardExamples) -> Tensor:
    """Positions of the images with the largest loss, at least one.

    Args:
        losses: float (B,), one per image.
        mining: Its ``share`` is the fraction of the batch to select.
    """
    return losses.topk(max(1, int(mining.share * len(losses)))).indices


def second_pass(
    network: Callable[[Tensor], Tensor],
    model: nn.Module,
    images: Tensor,
    losses_of: Callable[[Tensor, Tensor | slice], Tensor],
    mining: HardExamples,
    batch: WholeBatch,
) -> tuple[Tensor, Tensor, Tensor, WholeBatch]:
    """Select images by one forward pass without gradient, and pass the selected images through the network again.

    The selected images are normalised among themselves. Only the first pass updates the batch norms' statistics.

    Args:
        network: The model, possibly compiled.
        model: The model itself, for its batch norms.
        images: float32 (B, C, *spatial).
        losses_of: From logits and the positions that they belong to, to the loss of each image.
        mining: The settings.
        batch: How the images are divided among processes.

    Returns:
        The losses of the selected images with gradient, their positions, the logits (B, K) of the first pass, and the
        batch of the selected images.
    """
    with torch.no_grad(), batch.computing():
        logits = network(images)
    hard = hardest(batch.gathered(losses_of(logits, slice(None))), mining)
    selected, smaller = batch.selected(hard)
    with _frozen_statistics(model, single=len(hard) == 1), smaller.computing():
        losses = losses_of(network(images[selected]), selected)
    return losses, selected, logits, smaller


@contextmanager
def _frozen_statistics(model: nn.Module, *, single: bool) -> Iterator[None]:
    """Keep batch norms from updating their running statistics within the block.

    Args:
        model: The model with the batch norms.
        single: The batch has one image, which has no batch statistics: normalise with the running statistics.
    """
    norms = [layer for layer in model.modules() if isinstance(layer, _BatchNorm)]
    before = [(norm.training, norm.track_running_stats) for norm in norms]
    for norm in norms:
        if single:
            norm.eval()
        elif norm.training:
            norm.track_running_stats = False
    try:
        yield
    finally:
        for norm, (training, tracks) in zip(norms, before, strict=True):
            norm.train(training)
            norm.track_running_stats = tracks
