"""What was chosen on the validation set is applied to new predictions as the evaluation applies it."""

from __future__ import annotations

import numpy as np
import pytest

from gyrus.evaluation.assessment import assess
from gyrus.evaluation.calibrators import CALIBRATORS
from gyrus.export.manifest import Choices
from gyrus.inference.columns import exported_columns
from gyrus.inference.decision_rule import DecisionRule
from gyrus.inference.pooling import pool_by_subject
from gyrus.inference.predictions import Predictions

CLASSES = ("AD", "CN", "MCI")


def predictions(subset: str, subjects: int, seed: int, *, known: bool = True) -> Predictions:
    """Four images of each subject, of uneven confidence."""
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.arange(subjects) % 3, 4)
    logits = 2.5 * rng.normal(size=(len(truth), 3)) + 2 * np.eye(3)[truth]
    names = [f"{subset}-{number // 4}" for number in range(len(truth))]
    return Predictions.from_logits(
        [f"{subset}-{number}.png" for number in range(len(truth))],
        logits,
        classes=CLASSES,
        split_unit="subject" if known else "image",
        subset=subset,
        subjects=names if known else None,
        targets=[CLASSES[number] for number in truth],
    )


@pytest.mark.parametrize("known", [True, False], ids=["by subject", "by image"])
@pytest.mark.parametrize("kind", CALIBRATORS)
def test_the_columns_are_what_the_evaluation_would_say(kind, known):
    val, test = predictions("val", 30, 0, known=known), predictions("test", 20, 1, known=known)
    found = assess(val, test, healthy="CN", calibrator=kind, resamples=0)
    units = test.table["sample"].tolist(), test.table["subject"].tolist()
    rule = Choices.from_assessment(found, "youden").decision_rule(CLASSES)
    columns = rule.columns(test.logits, *units)
    prefix = "subject_" if known else ""
    pooled = pool_by_subject(test) if known else test
    rows = [pooled.table["sample"].tolist().index(name) for name in units[1 if known else 0]]
    calibrated = found.calibrator.apply(pooled)
    for number, name in enumerate(CLASSES):
        values = columns[f"{prefix}calibrated_probability:{name}"]
        np.testing.assert_allclose(values, calibrated.probabilities[rows, number], atol=1e-12)
    point = next(each.point for each in found.points if each.point.goal == "youden")
    positive = columns[f"{prefix}decision"] == "positive"
    np.testing.assert_array_equal(positive, point.predict_positive(calibrated)[rows])
    assert 0 < positive.sum() < len(positive)
    sets = next(each.sets for each in found.sets if each.sets.method == "aps").predict(pooled)[rows]
    expected = ["; ".join(name for name, held in zip(CLASSES, row, strict=True) if held) for row in sets]
    assert columns[f"{prefix}prediction_set"].tolist() == expected
    counted = len({name for name, held in zip(units[1 if known else 0], positive, strict=True) if held})
    assert f": {counted} of " in rule.text(columns, *units)
    assert exported_columns(["age", *columns, "p_like_training"]) == ["p_like_training", *columns]


def test_an_image_of_an_unknown_subject_is_taken_by_itself():
    rule = DecisionRule(("a", "b"), "subject", ("temperature", {"temperature": ((2.0,),)}), None, None)
    columns = rule.columns(np.array([[2.0, 0.0], [0.0, 0.0], [0.0, 2.0]]), ["1", "2", "3"], ["s", None, "s"])
    np.testing.assert_allclose(columns["subject_calibrated_probability:a"], 0.5)
    alone = rule.columns(np.array([[2.0, 0.0]]), ["1"], [None])
    np.testing.assert_allclose(alone["subject_calibrated_probability:a"], 1 / (1 + np.exp(-1)))
    assert rule.text(columns, ["1"], ["s"]) == ""
