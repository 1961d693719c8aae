"""The metrics of an epoch: the running loss and accuracy of the training set, and the scores of the validation set."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.special import log_softmax
from torch import Tensor

from gyrus.evaluation.metrics import accuracy, balanced_accuracy, confusion_matrix, f1
from gyrus.evaluation.roc import roc_auc


class EpochMetrics:
    """Collects losses and correct predictions on the device until they are needed, so that no step waits for them."""

    def __init__(self, *, with_accuracy: bool = True) -> None:
        """Store the argument.

        Args:
            with_accuracy: False if accuracy is undefined: under MixUp and CutMix an image has no single label.
        """
        self._with_accuracy = with_accuracy
        self._losses: list[Tensor] = []
        self._correct: list[Tensor] = []
        self._sizes: list[int] = []

    @property
    def batches(self) -> int:
        """Batches so far."""
        return len(self._sizes)

    def add(self, loss: Tensor, logits: Tensor, targets: Tensor, total: int | None = None) -> None:
        """Add a batch: its loss, logits (B, K), targets (B,), and its size if only a part of it is given."""
        self._losses.append(loss.detach())
        if self._with_accuracy:
            self._correct.append((logits.detach().argmax(dim=1) == targets).sum())
        self._sizes.append(len(targets) if total is None else total)

    def latest_losses(self, count: int) -> np.ndarray:
        """The losses of the latest ``count`` batches, float64."""
        return torch.stack(self._losses[-count:]).double().cpu().numpy()

    def means(self, over_all: Callable[[Tensor], Tensor] = lambda own: own) -> dict[str, float]:
        """Loss and accuracy, averaged over images; an undefined accuracy is NaN.

        Args:
            over_all: From the number of correct images of this process to that of all processes.
        """
        sizes = np.array(self._sizes)
        losses = self.latest_losses(self.batches)
        correct = int(over_all(torch.stack(self._correct).sum())) if self._with_accuracy else float("nan")
        return {
            "train_loss": float((losses * sizes).sum() / sizes.sum()),
            "train_accuracy": correct / int(sizes.sum()),
        }


def validation_scores(logits: np.ndarray, targets: np.ndarray, classes: Sequence[str]) -> dict[str, float]:
    """Loss, accuracies, F1 and AUC per image, under the names that a config's ``monitor`` may have.

    The loss is the plain cross-entropy, whatever the training minimises. Classes without an image in the validation
    set are excluded from balanced accuracy, macro F1 and AUC; their own F1 is NaN.

    Args:
        logits: float (N, K), finite.
        targets: int (N,), the class index.
        classes: The K class names.
    """
    log_probabilities = log_softmax(logits.astype(np.float64), axis=1)
    confusion = confusion_matrix(targets, logits.argmax(axis=1), len(classes))
    present = confusion.sum(axis=1) > 0
    per_class = np.where(present, f1(confusion), np.nan)
    areas = [roc_auc(targets == index, log_probabilities[:, index]) for index in np.flatnonzero(present)]
    scores = {
        "val_loss": float(-log_probabilities[np.arange(len(targets)), targets].mean()),
        "val_accuracy": float(accuracy(confusion)),
        "val_balanced_accuracy": float(balanced_accuracy(confusion)),
        "val_macro_f1": float(per_class[present].mean()),
        "val_auc": float(np.mean(areas)),
    }
    return scores | {f"val_f1_{name}": float(value) for name, value in zip(classes, per_class, strict=True)}
