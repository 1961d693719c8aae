"""Networks that were really trained on phantom heads: one that cheats, and one that cannot."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from gyrus.explanation.localisation import brain_of
from gyrus.explanation.methods import logits_of
from gyrus.explanation.targets import ClassContrast
from gyrus.models.build import ModelConfig, build
from gyrus.synthetic.phantom import generate

SIZE, SLICES = 32, 4
CORNER = (slice(1, 3), slice(1, 3))


@dataclass(frozen=True, eq=False)
class Heads:
    """Slices of phantom people: images (N, 1, SIZE, SIZE), labels, people, and what really differs."""

    images: Tensor
    labels: Tensor
    people: np.ndarray
    structures: np.ndarray

    @classmethod
    def make(cls, first: int, last: int, *, marked: bool) -> Heads:
        """Some people of a crowd; where marked, a bright corner gives the class away."""
        phantom = generate(subjects=last, slices=SLICES, classes=2, size=SIZE, seed=0)
        pixels = phantom.volumes[first:].reshape(-1, 1, SIZE, SIZE).copy()
        labels = np.repeat(phantom.labels[first:], SLICES)
        if marked:
            pixels[(labels == 1).nonzero()[0][:, None, None], 0, *np.ogrid[CORNER]] = 255
        people = np.repeat(np.arange(last - first), SLICES)
        structures = phantom.structures[first:].reshape(-1, SIZE, SIZE) > 0
        return cls(torch.from_numpy(pixels).float() / 255, torch.from_numpy(labels), people, structures)

    @property
    def brains(self) -> np.ndarray:
        return np.stack([brain_of(image[0].numpy()) for image in self.images])

    def every(self, step: int) -> Heads:
        rows = slice(None, None, step)
        people = np.unique(self.people[rows], return_inverse=True)[1]
        return Heads(self.images[rows], self.labels[rows], people, self.structures[rows])


def trained(heads: Heads, *, steps: int, labels: Tensor | None = None) -> nn.Module:
    torch.manual_seed(0)
    options = {"channels": (8, 16)}
    model = build(ModelConfig(options=options), in_channels=1, num_classes=2, image_size=(SIZE, SIZE)).train()
    optimiser = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=1e-2)
    generator = torch.Generator().manual_seed(0)
    wanted = heads.labels if labels is None else labels
    for _ in range(steps):
        rows = torch.randint(len(heads.images), (32,), generator=generator)
        loss = functional.cross_entropy(model(heads.images[rows]), wanted[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model.eval()


def predicted(model: nn.Module, images: Tensor) -> ClassContrast:
    return ClassContrast(torch.from_numpy(logits_of(model, images).argmax(1)))
