"""PyTorch data set over a store: whole batches, float32, optionally augmented, normalised."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from gyrus.datasets.patches import PatchConfig, random_patch
from gyrus.datasets.store import Store
from gyrus.transforms.augmentation.config import AugmentationConfig
from gyrus.transforms.augmentation.random_streams import Streams
from gyrus.transforms.normalisation import Normalisation

_PATCH_STREAM = 1 << 20
"""Number of the child stream of patches; no random step has it."""


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
        """
        self.store = store
        self.rows = rows
        self.targets = targets
        self.normalisation = normalisation
        self.augmentation = augmentation or AugmentationConfig()
        self.seed = seed
        self.keys = keys
        self.patches = patches
        self.epoch = 0

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
        """A whole batch, in the order of ``positions``; PyTorch's loader calls this once per batch.

        Positions from ``len(self)`` on are repeated visits; see :meth:`number_visits`.
        """
        visits, index = np.divmod(np.asarray(positions, dtype=np.int64), len(self))
        rows = self.rows[index]
        streams = Streams.at(self.seed, self.epoch, index if self.keys is None else self.keys[index], visits)
        images = torch.from_numpy(self._pixels(rows, streams)).float().div_(255.0)
        statistics = self.store.statistics[rows]
        if self.normalisation.standard:
            images = torch.from_numpy(self.normalisation.to_standard_scale(images.numpy(), statistics))
        augmented = self.augmentation.apply(images, self.augmentation.draw(streams, images.shape[2:]))
        return Batch(
            self._normalise(augmented, statistics), torch.from_numpy(self.targets[index]), torch.from_numpy(index)
        )

    def _pixels(self, rows: np.ndarray, streams: Streams) -> np.ndarray:
        """uint8 (B, C, *spatial); with patches, only the patches are read."""
        if self.patches is None:
            return np.asarray(self.store.pixels[rows])
        means = self.store.statistics[rows, :, 0].mean(axis=1)
        places = streams.child(_PATCH_STREAM)
        return np.stack(
            [
                random_patch(self.store.pixels[row], float(mean), self.patches, places[[number]])
                for number, (row, mean) in enumerate(zip(rows, means, strict=True))
            ]
        )

    def _normalise(self, images: torch.Tensor, statistics: np.ndarray) -> torch.Tensor:
        shift, scale = self.normalisation.shift_and_scale(statistics)
        shape = (*shift.shape, *[1] * (images.ndim - 2))
        images.sub_(torch.from_numpy(shift).view(shape)).div_(torch.from_numpy(scale).view(shape))
        return images.clamp_(0.0, 1.0) if self.normalisation.clips else images
