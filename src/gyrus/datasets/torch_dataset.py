"""PyTorch data set over a store: whole batches, float32, optionally augmented, normalised.

Pixels travel as they are stored, uint8, with the draws of the random steps and the numbers of the normalisation, which
are made on the CPU. :meth:`StoredBatch.on` turns them into network input, on the device that trains.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import numpy as np
import torch
from torch.utils.data import Dataset

from gyrus.datasets.patches import PatchConfig, random_patch
from gyrus.datasets.store import Store
from gyrus.transforms.augmentation.config import AugmentationConfig
from gyrus.transforms.augmentation.random_step import Draw, like, on_device, rows_of
from gyrus.transforms.augmentation.random_streams import Streams
from gyrus.transforms.normalisation import Normalisation

_PATCH_STREAM = 1 << 20
"""Number of the child stream of patches; no random step has it."""

_CHANNEL_STREAM = _PATCH_STREAM + 1
"""Number of the child stream of channels that are dropped."""

LARGE = 1 << 16
"""Pixels from which images are converted one by one, so that they stay in the cache of the processor meanwhile."""

RESIDENT_FRACTION = 0.25
"""A subset is kept in the memory of a GPU if its pixels take no more than this fraction of what is free there."""

COPIED_AT_ONCE = 256
"""Images of a subset that are copied to a GPU at a time."""


class Batch(NamedTuple):
    """One batch of network input.

    Attributes:
        images: float32 (B, C, *spatial), normalised.
        targets: int64 (B,), the class index; -1 if unknown.
        positions: int64 (B,), the row within the subset.
    """

    images: torch.Tensor
    targets: torch.Tensor
    positions: torch.Tensor

    def pin_memory(self) -> Batch:
        """The batch in pinned memory, from which it is copied to a GPU while the CPU goes on."""
        return Batch(*(tensor.pin_memory() for tensor in self))

    def on(self, device: torch.device) -> Batch:
        """The batch on a device."""
        return Batch(*(on_device(tensor, device) for tensor in self))


@dataclass(frozen=True)
class StoredBatch:
    """One batch as it is stored, with everything that makes network input of it.

    Attributes:
        pixels: uint8 (B, C, *spatial), in the memory of any device; or one array (C, *spatial) per image, views of the
            memory map, which are read when they are needed.
        targets: int64 (B,), as in :class:`Batch`.
        positions: int64 (B,), as in :class:`Batch`.
        shift: float32 (B, C), subtracted from pixels in 0..1.
        scale: float32 (B, C), the divisor after that.
        clips: Whether values are clipped to 0..1 at the end.
        gray_values: float32 (B, C, 256), what each gray value becomes before all other steps; None: value / 255.
        augmentation: The random steps.
        draws: What was drawn for each of them.
        present: float32 (B, C), 1 for channels that are there and 0 for others, which become 0; None: all are there.
        table: float32 (B, T), features of a clinical table, which become further channels that are constant over
            space, so that everything that takes images takes them, too; None: there are none.
    """

    pixels: torch.Tensor | Sequence[np.ndarray]
    targets: torch.Tensor
    positions: torch.Tensor
    shift: np.ndarray
    scale: np.ndarray
    clips: bool
    gray_values: np.ndarray | None
    augmentation: AugmentationConfig
    draws: tuple[Draw, ...]
    present: np.ndarray | None = None
    table: np.ndarray | None = None

    def pin_memory(self) -> Self:
        """The batch with its pixels in pinned memory, from which they are copied to a GPU while the CPU goes on."""
        return self._gathered(pinned=True)

    def gathered(self) -> Self:
        """The batch with its pixels in memory of its own."""
        return self._gathered(pinned=False)

    def on(self, device: torch.device) -> Batch:
        """Network input on a device: the same on every device, within rounding. The CPU does not wait for a GPU."""
        if device.type == "mps":  # not tested there
            return self.on(torch.device("cpu")).on(device)
        images = self._augmented(device) if self.augmentation.steps or self.gray_values is not None else None
        if images is None:
            images = self._scaled(device)
        else:
            shape = (*self.shift.shape, *[1] * (images.ndim - 2))
            images.sub_(like(self.shift, images).view(shape)).div_(like(self.scale, images).view(shape))
        if self.clips:
            images.clamp_(0.0, 1.0)
        if self.present is not None and not self.present.all():
            images.mul_(like(self.present, images).view(*self.present.shape, *[1] * (images.ndim - 2)))
        if self.table is not None:
            planes = like(self.table, images).view(*self.table.shape, *[1] * (images.ndim - 2))
            images = torch.cat([images, planes.expand(-1, -1, *images.shape[2:])], 1)
        return Batch(images, on_device(self.targets, device), on_device(self.positions, device))

    def _augmented(self, device: torch.device) -> torch.Tensor:
        """Images in 0..1 after the random steps, in new memory."""
        pixels = self._pixels(device)
        if self.gray_values is None:
            images = pixels.float().div_(255.0)
        else:
            table = on_device(torch.from_numpy(self.gray_values), device)
            images = table.gather(2, pixels.flatten(2).long()).view(pixels.shape)
        return self.augmentation.apply(images, self.draws)

    def _scaled(self, device: torch.device) -> torch.Tensor:
        """Scaled images without random steps: one multiplication and one addition."""
        factor = 1 / (255 * self.scale)
        shape = (*factor.shape, *[1] * (self._ndim - 2))
        multiplier = on_device(torch.from_numpy(factor).view(shape), device)
        addend = on_device(torch.from_numpy(-self.shift / self.scale).view(shape), device)
        shifts = bool(self.shift.any())
        if isinstance(self.pixels, torch.Tensor):
            images = self._pixels(device).float().mul_(multiplier)
            return images.add_(addend) if shifts else images
        if device.type != "cpu":
            return self.gathered()._scaled(device)
        images = torch.empty(len(self.pixels), *self.pixels[0].shape)
        for image, pixels, times, plus in zip(images, self.pixels, multiplier, addend, strict=True):
            np.copyto(image.numpy(), pixels)  # without the warning of PyTorch for memory that cannot be written
            image.mul_(times)
            if shifts:
                image.add_(plus)
        return images

    @property
    def _ndim(self) -> int:
        return self.pixels.ndim if isinstance(self.pixels, torch.Tensor) else self.pixels[0].ndim + 1

    def _pixels(self, device: torch.device) -> torch.Tensor:
        pixels = self._gathered(pinned=device.type == "cuda").pixels
        assert isinstance(pixels, torch.Tensor)
        return pixels.to(device, non_blocking=True)

    def _gathered(self, *, pinned: bool) -> Self:
        if isinstance(self.pixels, torch.Tensor):
            move = pinned and self.pixels.device.type == "cpu" and not self.pixels.is_pinned()
            return replace(self, pixels=self.pixels.pin_memory()) if move else self
        shape = (len(self.pixels), *self.pixels[0].shape)
        pixels = torch.empty(shape, dtype=torch.uint8, pin_memory=pinned)
        np.stack(self.pixels, out=pixels.numpy())
        return replace(self, pixels=pixels)


class PixelDataset(Dataset[Batch]):
    """One subset of a store."""

    def __init__(
        self,
        store: Store,
        rows: np.ndarray,
        targets: np.ndarray,
        normalisation: Normalisation,
        *,
        augmentation: AugmentationConfig | None = None,
        seed: int = 0,
        keys: np.ndarray | None = None,
        patches: PatchConfig | None = None,
        channel_dropout: float = 0.0,
        table: np.ndarray | None = None,
    ) -> None:
        """Store the arguments.

        Args:
            store: The pixels.
            rows: int64 (N,), the rows of the store in this subset.
            targets: int64 (N,), the class index of each row.
            normalisation: The fitted intensity scaling.
            augmentation: Random steps before normalisation; for the training set only.
            seed: Seed of the random steps.
            keys: int64 (N,), identifies each image for the random steps; by default its position in the subset.
            patches: Use a random patch of each image instead of the whole; for the training set only.
            channel_dropout: Probability of dropping a channel, for the training set only. One channel always stays.
            table: float32 (M, T), features of a clinical table for all M rows of the store; None for images alone.
        """
        self.store = store
        self.rows = rows
        self.targets = targets
        self.normalisation = normalisation
        self.augmentation = augmentation or AugmentationConfig()
        self.seed = seed
        self.keys = keys
        self.patches = patches
        self.channel_dropout = channel_dropout
        self.table = table
        self.epoch = 0
        self._resident: torch.Tensor | None = None

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next batches, from 0, so that the random steps differ from epoch to epoch.

        Worker processes receive it when they start, so they must be restarted for every epoch.
        """
        self.epoch = epoch

    def number_visits(self, batches: Sequence[Sequence[int]]) -> list[list[int]]:
        """Number repeated visits of an image in one epoch, as from a balanced sampler.

        The k-th repeated visit of a position is requested as ``position + k * len(self)`` and has its own random
        augmentation. Without this, all copies of an image in an epoch would be identical.
        """
        visits: Counter[int] = Counter()
        numbered: list[list[int]] = []
        for batch in batches:
            numbered.append([])
            for position in batch:
                numbered[-1].append(position + visits[position] * len(self))
                visits[position] += 1
        return numbered

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: int) -> Batch:
        """A batch of one."""
        return self.__getitems__([position])

    def __getitems__(self, positions: list[int]) -> Batch:
        """A whole batch on the CPU, in the order of ``positions``; PyTorch's loader calls this once per batch.

        Positions from ``len(self)`` on are repeated visits; see :meth:`number_visits`.
        """
        return self._stored(positions, views=self._image_size >= LARGE, resident=None).on(torch.device("cpu"))

    def read(self, positions: list[int]) -> StoredBatch:
        """A whole batch as it is stored, with all that is drawn for it; positions as in :meth:`__getitems__`."""
        return self._stored(positions, views=True, resident=self._resident)

    def _stored(self, positions: list[int], *, views: bool, resident: torch.Tensor | None) -> StoredBatch:
        visits, index = np.divmod(np.asarray(positions, dtype=np.int64), len(self))
        rows = self.rows[index]
        streams = Streams.at(self.seed, self.epoch, index if self.keys is None else self.keys[index], visits)
        statistics = self.store.statistics[rows]
        shift, scale = self.normalisation.shift_and_scale(statistics)
        shape = self.store.image_size if self.patches is None else self.patches.size
        if resident is not None:
            pixels: torch.Tensor | list[np.ndarray] = rows_of(resident, index)
        elif self.patches is not None or views:
            pixels = self._views(rows, streams)
        else:
            pixels = torch.from_numpy(np.asarray(self.store.pixels[rows]))
        return StoredBatch(
            pixels=pixels,
            targets=torch.from_numpy(self.targets[index]),
            positions=torch.from_numpy(index),
            shift=shift,
            scale=scale,
            clips=self.normalisation.clips,
            gray_values=self.normalisation.gray_values(statistics),
            augmentation=self.augmentation,
            draws=self.augmentation.draw(streams, shape),
            present=self._present(statistics, streams),
            table=None if self.table is None else self.table[rows],
        )

    def _present(self, statistics: np.ndarray, streams: Streams) -> np.ndarray | None:
        """float32 (B, C): 1 for channels that are there and were not dropped at random, else 0; None if all are."""
        present = self.normalisation.present(statistics)
        if present is None:
            return None
        if self.channel_dropout:
            drawn = streams.child(_CHANNEL_STREAM).uniforms(present.shape[1])
            # Of the channels that are there, the one with the largest number always stays.
            stays = np.where(present, drawn, -1.0).argmax(axis=1)[:, None] == np.arange(present.shape[1])
            present = present & ((drawn >= self.channel_dropout) | stays)
        return present.astype(np.float32)

    def keep_on(self, device: torch.device) -> bool:
        """Keep all pixels in the memory of a GPU, if they fit there; patches are not kept.

        Returns:
            Whether they are there. At most :data:`RESIDENT_FRACTION` of the free memory is used.
        """
        if self._resident is None and self.patches is None and device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(device)
            if len(self) * self._image_size <= RESIDENT_FRACTION * free:
                resident = torch.empty((len(self), *self.store.pixels.shape[1:]), dtype=torch.uint8, device=device)
                for start in range(0, len(self), COPIED_AT_ONCE):
                    part = self.store.pixels[self.rows[start : start + COPIED_AT_ONCE]]
                    resident[start : start + len(part)].copy_(torch.from_numpy(np.asarray(part)))
                self._resident = resident
        return self._resident is not None

    def __getstate__(self) -> dict[str, object]:
        # A worker process reads from the memory map.
        return {**self.__dict__, "_resident": None}

    @property
    def _image_size(self) -> int:
        return math.prod(self.store.pixels.shape[1:])

    def _views(self, rows: np.ndarray, streams: Streams) -> list[np.ndarray]:
        """uint8 (C, *spatial) of each image, or a random patch of it: views of the memory map."""
        stored = np.asarray(self.store.pixels)
        if self.patches is None:
            return [stored[row] for row in rows.tolist()]
        means = self.store.statistics[rows, :, 0].mean(axis=1)
        places = streams.child(_PATCH_STREAM)
        return [
            random_patch(stored[row], float(mean), self.patches, places[[number]])
            for number, (row, mean) in enumerate(zip(rows, means, strict=True))
        ]
