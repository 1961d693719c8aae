"""The scores of the validation part at the end of an epoch, counted per image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import log_softmax
from sklearn.metrics import roc_auc_score


def validation_scores(logits: np.ndarray, targets: np.ndarray, classes: Sequence[str]) -> dict[str, float]:
    """Loss, accuracies, F1 and AUC.

    Classes without an image in this part are left out of balanced accuracy, macro F1 and AUC; a score that has
    no meaning is NaN.

    Args:
        logits: float (N, K).
        targets: int (N,), the class index.
        classes: The K class names.
    """
    probabilities = log_softmax(logits.astype(np.float64), axis=1)
    guesses = logits.argmax(axis=1)
    present = np.unique(targets)
    f1 = _f1(targets, guesses, len(classes))
    scores = {
        "val_loss": float(-probabilities[np.arange(len(targets)), targets].mean()),
        "val_accuracy": float((guesses == targets).mean()),
        "val_balanced_accuracy": float(np.mean([(guesses[targets == index] == index).mean() for index in present])),
        "val_macro_f1": float(f1[present].mean()),
        "val_auc": _auc(np.exp(probabilities), targets, present),
    }
    return scores | {f"val_f1_{name}": float(value) for name, value in zip(classes, f1, strict=True)}


def _f1(targets: np.ndarray, guesses: np.ndarray, count: int) -> np.ndarray:
    """F1 of each class; NaN where the class neither occurs nor is guessed."""
    hits = np.bincount(targets[targets == guesses], minlength=count)
    involved = np.bincount(targets, minlength=count) + np.bincount(guesses, minlength=count)
    return np.divide(2 * hits, involved, out=np.full(count, np.nan), where=involved > 0)


def _auc(probabilities: np.ndarray, targets: np.ndarray, present: np.ndarray) -> float:
    """Mean over the classes present of one-versus-rest ROC AUC."""
    if len(present) < 2 or not np.isfinite(probabilities).all():
        return float("nan")
    return float(np.mean([roc_auc_score(targets == index, probabilities[:, index]) for index in present]))
