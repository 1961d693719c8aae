"""The scores of the validation set at the end of an epoch, counted per image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import log_softmax

from gyrus.evaluation.metrics import accuracy, balanced_accuracy, confusion_matrix, f1
from gyrus.evaluation.roc import roc_auc


def validation_scores(logits: np.ndarray, targets: np.ndarray, classes: Sequence[str]) -> dict[str, float]:
    """Loss, accuracies, F1 and AUC, under the names that a config's ``monitor`` may have.

    The loss is the plain cross-entropy, whatever loss is trained with. Classes without an image in this part are
    left out of balanced accuracy, macro F1 and AUC; their own F1 is NaN.

    Args:
        logits: float (N, K), finite.
        targets: int (N,), the class index.
        classes: The K class names.
    """
    likelihoods = log_softmax(logits.astype(np.float64), axis=1)
    confusion = confusion_matrix(targets, logits.argmax(axis=1), len(classes))
    present = confusion.sum(axis=1) > 0
    per_class = np.where(present, f1(confusion), np.nan)
    areas = [roc_auc(targets == index, likelihoods[:, index]) for index in np.flatnonzero(present)]
    scores = {
        "val_loss": float(-likelihoods[np.arange(len(targets)), targets].mean()),
        "val_accuracy": float(accuracy(confusion)),
        "val_balanced_accuracy": float(balanced_accuracy(confusion)),
        "val_macro_f1": float(per_class[present].mean()),
        "val_auc": float(np.mean(areas)),
    }
    return scores | {f"val_f1_{name}": float(value) for name, value in zip(classes, per_class, strict=True)}
