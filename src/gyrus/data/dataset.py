"""Batches from a store: whole batches at once, float32, normalised."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from gyrus.data.preprocessing import Normalisation
from gyrus.data.store import Store


class Batch(NamedTuple):
    """What a network is fed.

    Attributes:
        images: float32 (B, C, *spatial), normalised.
        targets: int64 (B,), the class index; -1 where unknown.
        positions: int64 (B,), the row within the part.
    """

    images: torch.Tensor
    targets: torch.Tensor
    positions: torch.Tensor


class PixelDataset(Dataset[Batch]):
    """One part of a store."""

    def __init__(self, store: Store, rows: np.ndarray, targets: np.ndarray, normalisation: Normalisation) -> None:
        """Store the arguments.

        Args:
            store: The pixels.
            rows: int64 (N,), the rows of the store that make up this part.
            targets: int64 (N,), the class of each.
            normalisation: The fitted intensity scaling.
        """
        self.store = store
        self.rows = rows
        self.targets = targets
        self.normalisation = normalisation

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: int) -> Batch:
        """A batch of one."""
        return self.__getitems__([position])

    def __getitems__(self, positions: list[int]) -> Batch:
        """A whole batch, in the order of ``positions``; PyTorch's loader calls it instead of asking one by one."""
        index = np.asarray(positions, dtype=np.int64)
        rows = self.rows[index]
        images = torch.from_numpy(self.store.pixels[rows]).float().div_(255.0)
        return Batch(
            self._normalise(images, self.store.statistics[rows]),
            torch.from_numpy(self.targets[index]),
            torch.from_numpy(index),
        )

    def _normalise(self, images: torch.Tensor, statistics: np.ndarray) -> torch.Tensor:
        shift, scale = self.normalisation.shift_and_scale(statistics)
        shape = (*shift.shape, *[1] * (images.ndim - 2))
        images.sub_(torch.from_numpy(shift).view(shape)).div_(torch.from_numpy(scale).view(shape))
        return images.clamp_(0.0, 1.0) if self.normalisation.clips else images
