"""Names of the columns of predictions, for code that must start without pandas."""

from __future__ import annotations

from collections.abc import Iterable

LIKE_TRAINING = "p_like_training"
"""P-value of an image; small if it is unlike the training data (:mod:`gyrus.inference.unlike_training`)."""

SUBJECT_LIKE_TRAINING = "subject_p_like_training"
"""The same for all images of its subject together; only where a subject has several."""

MOST_UNLIKE = "most_unlike_in"
"""Where an image differs most from the training data."""

CALIBRATED = "calibrated_probability:"
"""Prefix of calibrated probabilities; the class name follows (:mod:`gyrus.inference.decision_rule`)."""

DECISION = "decision"
"""``positive`` or ``negative`` at the operating point."""

PREDICTION_SET = "prediction_set"
"""The classes that cannot be excluded."""

INTERVAL_LOW, INTERVAL_HIGH = "interval_low", "interval_high"
"""The ends of the prediction interval of a number (:mod:`gyrus.inference.number_rule`)."""

CORRECTED = "corrected_prediction"
"""A number after the correction of the bias towards the mean."""

BY_SUBJECT = "subject_"
"""Prefix of those before, from calibrated probabilities on, where they are of all images of a subject together."""


def exported_columns(names: Iterable[str]) -> list[str]:
    """Those of some columns that are exported beside the probabilities, in order."""
    known = list(names)
    likeness = [name for name in (LIKE_TRAINING, SUBJECT_LIKE_TRAINING, MOST_UNLIKE) if name in known]
    return [*likeness, *(name for name in known if _is_of_decision(name.removeprefix(BY_SUBJECT)))]


def _is_of_decision(name: str) -> bool:
    numbers = (INTERVAL_LOW, INTERVAL_HIGH, CORRECTED)
    return name.startswith(CALIBRATED) or name in (DECISION, PREDICTION_SET, *numbers)
