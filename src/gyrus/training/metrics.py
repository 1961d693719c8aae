"""The metrics of an epoch: the running loss and accuracy of the training set, and the scores of the validation set."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.special import log_softmax
from torch import Tensor

from gyrus.evaluation.metrics import (
    accuracy,
    balanced_accuracy,
    confusion_matrix,
    f1,
    quadratic_kappa,
    stage_error,
    stage_scores,
)
from gyrus.evaluation.number_metrics import NumberSums
from gyrus.evaluation.roc import concordance, roc_auc
from gyrus.training.config import NumberLoss
from gyrus.training.losses import number_loss


class EpochMetrics:
    """Collects losses and correct predictions on the device until they are needed, so that no step waits for them."""

    def __init__(self, *, with_accuracy: bool = True, number: NumberLoss | None = None) -> None:
        """Store the arguments.

        Args:
            with_accuracy: False if accuracy is undefined: under MixUp and CutMix an image has no single label.
            number: The loss where a number is predicted, whose mean absolute error then takes the place of accuracy.
        """
        self._with_accuracy = with_accuracy
        self._number = number
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
        if self._with_accuracy and self._number:
            self._correct.append((logits.detach()[:, self._number.point] - targets).abs().double().sum())
        elif self._with_accuracy:
            self._correct.append((logits.detach().argmax(dim=1) == targets).sum())
        self._sizes.append(len(targets) if total is None else total)

    def latest_losses(self, count: int) -> np.ndarray:
        """The losses of the latest ``count`` batches, float64."""
        return torch.stack(self._losses[-count:]).double().cpu().numpy()

    def means(self, over_all: Callable[[Tensor], Tensor] = lambda own: own) -> dict[str, float]:
        """Loss and accuracy, averaged over images; an undefined accuracy is NaN.

        Args:
            over_all: From the number of correct images, or the sum of errors, of this process to that of all.
        """
        sizes = np.array(self._sizes)
        losses = self.latest_losses(self.batches)
        correct = over_all(torch.stack(self._correct).sum()).item() if self._with_accuracy else float("nan")
        return {
            "train_loss": float((losses * sizes).sum() / sizes.sum()),
            "train_mae" if self._number else "train_accuracy": correct / int(sizes.sum()),
        }


def validation_scores(
    logits: np.ndarray, targets: np.ndarray, classes: Sequence[str], *, ordered: bool = False
) -> dict[str, float]:
    """Loss, accuracies, F1 and AUC per image, under the names that a config's ``monitor`` may have.

    The loss is the plain cross-entropy, whatever the training minimises. Classes without an image in the validation
    set are excluded from balanced accuracy, macro F1 and AUC; their own F1 is NaN.

    Args:
        logits: float (N, K), finite.
        targets: int (N,), the class index.
        classes: The K class names.
        ordered: Whether they are in the order of their stages, which have further scores.
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
    if ordered:
        scores |= {
            "val_kappa": float(quadratic_kappa(confusion)),
            "val_stage_error": float(stage_error(confusion)),
            "val_concordance": concordance(targets, stage_scores(np.exp(log_probabilities))[:, -1], len(classes)),
        }
    return scores | {f"val_f1_{name}": float(value) for name, value in zip(classes, per_class, strict=True)}


def number_scores(outputs: np.ndarray, targets: np.ndarray, loss: NumberLoss, scale: float) -> dict[str, float]:
    """Loss and errors per image, under the names that a config's ``monitor`` may have.

    Args:
        outputs: float (N, Q), finite.
        targets: The numbers (N,).
        loss: The loss, which is also that of the validation.
        scale: Standard deviation of the number over the training set.
    """
    losses = number_loss(loss, torch.from_numpy(outputs), torch.from_numpy(targets), scale)
    sums = NumberSums.of(targets.astype(np.float64), outputs[:, loss.point].astype(np.float64))
    return {
        "val_loss": float(losses.double().mean()),
        "val_mae": float(sums.mae()),
        "val_rmse": float(sums.rmse()),
        "val_r2": float(sums.r2()),
        "val_pearson": float(sums.pearson()),
    }
