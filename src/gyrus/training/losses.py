"""Losses per image, class weights, and the value that a training minimises."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from gyrus.errors import ConfigError
from gyrus.training.config import (
    L1,
    L2,
    ClassWeights,
    Corn,
    CrossEntropy,
    CumulativeLink,
    Focal,
    Huber,
    NumberLoss,
    Quantile,
    TrainingConfig,
)
from gyrus.training.global_batch import WholeBatch
from gyrus.training.hard_example_mining import hardest, second_pass
from gyrus.training.mixup import Mix, mix_images

Loss = Callable[[Any, Tensor, Tensor, Tensor | None], Tensor]
"""From settings, logits (B, K), targets (B,) and class weights (K,) to the weighted loss of each image (B,)."""


def cross_entropy(config: CrossEntropy, logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    """Cross-entropy of PyTorch, with label smoothing and class weights."""
    smoothing = config.label_smoothing
    return functional.cross_entropy(logits, targets, weights, reduction="none", label_smoothing=smoothing)


def focal(config: Focal, logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    """``-w (1 - p)^gamma log p`` with p the probability of the true class (Lin et al. 2017, equation 5)."""
    plain = functional.cross_entropy(logits.float(), targets, reduction="none")
    # 1 - p by expm1, which is exact if p is close to 1; the clamp keeps the gradient finite if p is 1.
    error = (-torch.expm1(-plain)).clamp_min(torch.finfo(plain.dtype).tiny)
    values = error**config.gamma * plain
    return values if weights is None else values * weights[targets]


def ordinal_likelihood(
    config: CumulativeLink | Corn,  # noqa: ARG001
    logits: Tensor,
    targets: Tensor,
    weights: Tensor | None,
) -> Tensor:
    """Minus the logarithm of the probability that an output for ordered classes gives to the true class.

    For CORN this is the sum of the binary losses of an image, one for each class up to its own (equation 6 of the
    paper); :func:`mean_weights` makes their mean over all of them.
    """
    return functional.cross_entropy(logits.float(), targets, weights, reduction="none")


LOSSES: dict[str, Loss] = {
    "cross_entropy": cross_entropy,
    "focal": focal,
    "cumulative_link": ordinal_likelihood,
    "corn": ordinal_likelihood,
}


def mean_weights(loss: str, weights: Tensor | None, logits: Tensor) -> Tensor | None:
    """What an image of each class counts in the divisor of the mean loss, shape (K,); None where all count alike.

    CORN has one binary loss for each class below the true one and, unless it is the highest, one for the class itself;
    its mean is over the binary losses of all images.
    """
    if loss != "corn":
        return weights
    classes = logits.shape[1]
    binary = torch.arange(1, classes + 1, device=logits.device).clamp_max(classes - 1).to(torch.float32)
    return binary if weights is None else binary * weights


ErrorLoss = Callable[[Any, Tensor], Tensor]
"""From settings and errors (B, Q), prediction minus truth in standard deviations, to the loss of each image (B,)."""


def squared(_: L2, errors: Tensor) -> Tensor:
    """Squared error."""
    return errors[:, 0] ** 2


def absolute(_: L1, errors: Tensor) -> Tensor:
    """Absolute error."""
    return errors[:, 0].abs()


def huber(config: Huber, errors: Tensor) -> Tensor:
    """Half the squared error up to ``delta``, then ``delta * (|error| - delta / 2)`` (Huber 1964)."""
    return functional.huber_loss(errors[:, 0], torch.zeros_like(errors[:, 0]), reduction="none", delta=config.delta)


def pinball(config: Quantile, errors: Tensor) -> Tensor:
    """``max(q (y - p), (q - 1) (y - p))``, the mean over the levels q (Koenker and Bassett 1978)."""
    levels = torch.tensor(config.levels, device=errors.device, dtype=errors.dtype)
    return torch.maximum(-levels * errors, (1 - levels) * errors).mean(dim=1)


NUMBER_LOSSES: dict[str, ErrorLoss] = {"l2": squared, "l1": absolute, "huber": huber, "quantile": pinball}


def number_loss(config: NumberLoss, outputs: Tensor, targets: Tensor, scale: float) -> Tensor:
    """The loss of each image (B,).

    Args:
        config: Its settings.
        outputs: In the unit of the number, (B, Q).
        targets: (B,).
        scale: Standard deviation of the number over the training set.
    """
    errors = (outputs.float() - targets.float()[:, None]) / scale
    return NUMBER_LOSSES[config.name](config, errors)  # type: ignore[attr-defined]


def reduce(values: Tensor, targets: Tensor, weights: Tensor | None, batch: WholeBatch | None = None) -> Tensor:
    """The weighted mean loss over a batch: divided by the sum of the weights of the images, as in PyTorch."""
    batch = batch or WholeBatch()
    values, targets = batch.used(values), batch.used(targets)
    return batch.mean(values, None if weights is None else weights[targets])


class Objective(nn.Module):
    """The value that a training minimises. A module, so that its class weights move to the device."""

    def __init__(self, config: TrainingConfig, class_weights: np.ndarray | None, scale: float = 1.0) -> None:
        """Store the arguments.

        Args:
            config: Its ``loss`` and ``mining``.
            class_weights: float32 (K,) or None.
            scale: Standard deviation of a number over the training set.
        """
        super().__init__()
        self._config = config.loss
        self._mining = config.mining
        self._scale = scale
        weights = None if class_weights is None else torch.from_numpy(class_weights)
        self.register_buffer("weights", weights, persistent=False)
        self.weights: Tensor | None

    def forward(
        self,
        network: Callable[[Tensor], Tensor],
        model: nn.Module,
        images: Tensor,
        targets: Tensor,
        mix: Mix | None,
        batch: WholeBatch | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The loss of a batch and the logits (B, K).

        Args:
            network: The model, possibly compiled.
            model: The model itself, for its batch norms.
            images: float32 (B, C, *spatial).
            targets: int64 (B,), or the numbers.
            mix: How the batch is mixed, or None.
            batch: How the batch is divided among processes; None: not at all.
        """
        batch = batch or WholeBatch()
        if mix is not None:
            return self._mixed(network, images, targets, mix, batch)
        if self._mining is not None and self._mining.passes == 2:

            def losses_of(logits: Tensor, positions: Tensor | slice) -> Tensor:
                return self._per_image(logits, targets[positions])

            values, selected, logits, batch = second_pass(network, model, images, losses_of, self._mining, batch)
            return self._mean(values, targets[selected], logits, batch), logits
        with batch.computing():
            logits = network(images)
        values = self._per_image(logits, targets)
        if self._mining is not None:
            chosen, batch = batch.selected(hardest(batch.gathered(values), self._mining))
            values, targets = values[chosen], targets[chosen]
        return self._mean(values, targets, logits, batch), logits

    def _per_image(self, logits: Tensor, targets: Tensor) -> Tensor:
        if isinstance(self._config, NumberLoss):
            return number_loss(self._config, logits, targets, self._scale)
        return LOSSES[self._config.name](self._config, logits, targets, self.weights)

    def _mean(self, values: Tensor, targets: Tensor, logits: Tensor, batch: WholeBatch) -> Tensor:
        return reduce(values, targets, mean_weights(self._config.name, self.weights, logits), batch)

    def _mixed(
        self, network: Callable[[Tensor], Tensor], images: Tensor, targets: Tensor, mix: Mix, batch: WholeBatch
    ) -> tuple[Tensor, Tensor]:
        order = mix.partners(targets.device)
        mixed = mix_images(images, mix, batch.own(batch.gathered(images)[order]))
        with batch.computing():
            logits = network(mixed)
        others = batch.own(batch.gathered(targets)[order])
        own, other = (
            self._mean(self._per_image(logits, labels), labels, logits, batch) for labels in (targets, others)
        )
        return mix.fraction * own + (1 - mix.fraction) * other, logits


def class_weights(setting: ClassWeights, targets: np.ndarray, classes: Sequence[str]) -> np.ndarray | None:
    """The weight of each class, computed from its number of images in the training set.

    Args:
        setting: "none" (returns None); "balanced", n / (K count) with K the classes that occur (King and Zeng 2001);
            "inverse", 1 / count scaled to sum 1; or one weight per class.
        targets: int (N,), the class index.
        classes: The class names.

    Returns:
        float32 (K,); 0 for a class that does not occur.

    Raises:
        ConfigError: The number of given weights is not that of the classes, or all of them are 0.
    """
    if setting == "none":
        return None
    counts = np.bincount(targets, minlength=len(classes))
    if not isinstance(setting, str):
        if len(setting) != len(classes) or not any(setting):
            raise ConfigError(
                f"training.loss.class_weights must be {len(classes)} numbers, not all 0, for the classes "
                f"{list(classes)}; got {list(setting)}."
            )
        return np.array(setting, dtype=np.float32)
    inverse = np.divide(1.0, counts, out=np.zeros(len(counts)), where=counts > 0)
    scale = counts.sum() / (counts > 0).sum() if setting == "balanced" else 1 / inverse.sum()
    return (inverse * scale).astype(np.float32)
