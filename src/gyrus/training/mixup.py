"""MixUp (Zhang et al. 2018) and CutMix (Yun et al. 2019): random parameters and their application."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gyrus.training.config import Mixing, MixingSchedule, MixingStrength
from gyrus.transforms.augmentation.random_step import on_device

OFF = MixingStrength(probability=0.0)


@dataclass(frozen=True)
class Mix:
    """How a batch is mixed with itself.

    Attributes:
        order: Image ``order[i]`` is mixed into image i.
        fraction: Weight of image i and its label.
        box: CutMix: first and last (exclusive) voxel of the pasted box along each axis. MixUp: None.
    """

    order: tuple[int, ...]
    fraction: float
    box: tuple[tuple[int, int], ...] | None = None

    def partners(self, device: torch.device) -> Tensor:
        """``order``, int64 (B,), on a device."""
        return on_device(torch.tensor(self.order), device)


def strength(mixing: Mixing | None, epoch: int, epochs: int) -> MixingStrength:
    """The strength of mixing in an epoch.

    Args:
        mixing: The settings.
        epoch: Counted from 1.
        epochs: Total number.
    """
    if mixing is None or epoch < mixing.first_epoch:
        return OFF
    if mixing.schedule is None:
        return mixing
    return _scheduled(mixing, mixing.schedule, epoch, epochs)


def draw_mix(mixing: MixingStrength, size: tuple[int, ...], random: np.random.Generator) -> Mix | None:
    """Draw how a batch of images (B, C, *spatial) of shape ``size`` is mixed; None if it is not mixed."""
    kinds = [kind for kind, alpha in (("mixup", mixing.mixup_alpha), ("cutmix", mixing.cutmix_alpha)) if alpha > 0]
    if not kinds or random.random() >= mixing.probability:
        return None
    kind = kinds[random.integers(len(kinds))]
    alpha = mixing.mixup_alpha if kind == "mixup" else mixing.cutmix_alpha
    fraction = float(random.beta(alpha, alpha))
    order = tuple(random.permutation(size[0]).tolist())
    if kind == "mixup":
        return Mix(order, fraction)
    box = _draw_box(size[2:], fraction, random)
    covered = np.prod([end - start for start, end in box]) / np.prod(size[2:])
    return Mix(order, 1 - float(covered), box)


def mix_images(images: Tensor, mix: Mix, others: Tensor | None = None) -> Tensor:
    """Mixed images; the given batch is not changed.

    Args:
        images: float32 (B, C, *spatial).
        mix: How they are mixed.
        others: The images that are mixed into them, by default those of the same batch.
    """
    if others is None:
        others = images[mix.partners(images.device)]
    if mix.box is None:
        return images * mix.fraction + others * (1 - mix.fraction)
    mixed = images.clone()
    inside = (slice(None), slice(None), *(slice(start, end) for start, end in mix.box))
    mixed[inside] = others[inside]
    return mixed


def _scheduled(mixing: Mixing, schedule: MixingSchedule, epoch: int, epochs: int) -> MixingStrength:
    time = epoch / epochs
    if time <= schedule.explore_until:
        return mixing
    if time <= schedule.fade_until:
        done = (time - schedule.explore_until) / (schedule.fade_until - schedule.explore_until)
        return MixingStrength(
            **{
                name: (1 - done) * getattr(mixing, name) + done * getattr(schedule.fade_to, name)
                for name in MixingStrength.model_fields
            }
        )
    return schedule.refine if epoch < int(schedule.refine_until * epochs) else OFF


def _draw_box(spatial: tuple[int, ...], fraction: float, random: np.random.Generator) -> tuple[tuple[int, int], ...]:
    """A box of ``1 - fraction`` of the voxels around a uniform centre, clipped at the border (eq. 2)."""
    ratio = (1 - fraction) ** (1 / len(spatial))
    box = []
    for length in spatial:
        centre, side = int(random.integers(length)), int(length * ratio)
        start = centre - side // 2
        box.append((max(start, 0), min(start + side, length)))
    return tuple(box)
