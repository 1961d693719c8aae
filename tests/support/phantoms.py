"""Phantom heads, and small networks that are trained on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from gyrus.explanation.methods import predict_logits
from gyrus.explanation.regions import estimate_brain
from gyrus.explanation.targets import ClassContrast
from gyrus.models.build import build
from gyrus.models.config import ModelConfig
from gyrus.synthetic.phantom import generate

SIZE, SLICES = 32, 4
CORNER = (slice(1, 3), slice(1, 3))


@dataclass(frozen=True, eq=False)
class Heads:
    """Slices of phantom subjects: images (N, 1, SIZE, SIZE), labels, subjects, and the structures that differ."""

    images: Tensor
    labels: Tensor
    subjects: np.ndarray
    structures: np.ndarray

    @classmethod
    def make(cls, first: int, last: int, *, marked: bool) -> Heads:
        """The subjects from ``first`` to ``last``; if marked, a bright corner encodes the class."""
        phantom = generate(subjects=last, slices=SLICES, classes=2, size=SIZE, seed=0)
        pixels = phantom.volumes[first:].reshape(-1, 1, SIZE, SIZE).copy()
        labels = np.repeat(phantom.labels[first:], SLICES)
        if marked:
            pixels[(labels == 1).nonzero()[0][:, None, None], 0, *np.ogrid[CORNER]] = 255
        subjects = np.repeat(np.arange(last - first), SLICES)
        structures = phantom.structures[first:].reshape(-1, SIZE, SIZE) > 0
        return cls(torch.from_numpy(pixels).float() / 255, torch.from_numpy(labels), subjects, structures)

    @property
    def brains(self) -> np.ndarray:
        return np.stack([estimate_brain(image[0].numpy()) for image in self.images])

    def every(self, step: int) -> Heads:
        rows = slice(None, None, step)
        subjects = np.unique(self.subjects[rows], return_inverse=True)[1]
        return Heads(self.images[rows], self.labels[rows], subjects, self.structures[rows])


TrainedOnHeads = tuple[nn.Module, Heads]
"""A network, and subjects that it was not trained on."""


def trained(heads: Heads, *, steps: int, labels: Tensor | None = None) -> nn.Module:
    torch.manual_seed(0)
    options = {"channels": (8, 16)}
    model = build(ModelConfig(options=options), in_channels=1, num_classes=2, image_size=(SIZE, SIZE)).train()
    optimiser = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=1e-2)
    generator = torch.Generator().manual_seed(0)
    targets = heads.labels if labels is None else labels
    for _ in range(steps):
        rows = torch.randint(len(heads.images), (32,), generator=generator)
        loss = functional.cross_entropy(model(heads.images[rows]), targets[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model.eval()


def predicted(model: nn.Module, images: Tensor) -> ClassContrast:
    return ClassContrast(torch.from_numpy(predict_logits(model, images).argmax(1)))
