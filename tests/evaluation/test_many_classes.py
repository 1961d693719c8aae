"""Very many classes: nothing grows with their square, and tables and figures show the first ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gyrus.datasets.manifest import LONGEST_CLASS, Manifest
from gyrus.errors import DataError
from gyrus.evaluation.evaluate import MOST_CLASSES_RESAMPLED, evaluate
from gyrus.evaluation.result import MOST_CLASSES_SHOWN
from gyrus.inference.predictions import Predictions
from gyrus.reporting.evaluation_figures import confusion_figure


def predictions_of(classes: int) -> Predictions:
    """One subject of each class, all predicted correctly."""
    names = tuple(f"class-{number:03d}" for number in range(classes))
    subjects = [f"subject-{number}" for number in range(classes)]
    return Predictions.from_logits(
        subjects,
        np.eye(classes),
        classes=names,
        split_unit="subject",
        subset="test",
        subjects=subjects,
        subject_kind="subject",
        targets=names,
    )


def test_with_many_classes_there_are_scores_without_intervals_and_a_note():
    found = evaluate(predictions_of(MOST_CLASSES_RESAMPLED + 1), resamples=50)
    assert found.headline.metrics["accuracy"].value == 1.0
    assert found.headline.metrics["accuracy"].low is None
    assert "No intervals" in found.notes[-1]
    assert "No intervals" not in " ".join(evaluate(predictions_of(3), resamples=50).notes)
    text = found.text()
    assert f"class-{MOST_CLASSES_SHOWN - 1:03d}" in text
    assert f"class-{MOST_CLASSES_SHOWN:03d}" not in text
    assert f"{MOST_CLASSES_RESAMPLED + 1 - MOST_CLASSES_SHOWN} more are in metrics.json" in text


def test_a_confusion_matrix_is_drawn_of_the_first_classes():
    found = evaluate(predictions_of(MOST_CLASSES_SHOWN + 5), resamples=0)
    axes = confusion_figure(found, "subject").axes[0]
    assert len(axes.get_xticklabels()) == MOST_CLASSES_SHOWN
    assert f"first {MOST_CLASSES_SHOWN} of {MOST_CLASSES_SHOWN + 5} classes" in axes.get_title("left")


def test_a_class_with_an_endless_name_is_refused():
    rows = pd.DataFrame({"sample": ["a", "b"], "path": ["a", "b"], "label": ["x" * 5000, "y"]})
    with pytest.raises(DataError, match="5,000 letters"):
        Manifest.from_rows(rows, root=Path())
    rows["label"] = ["x" * LONGEST_CLASS, "y"]
    assert len(Manifest.from_rows(rows, root=Path()).classes) == 2
