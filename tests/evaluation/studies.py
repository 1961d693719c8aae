"""Made-up predictions of made-up people."""

from __future__ import annotations

import numpy as np

from gyrus.prediction.table import Predictions

CLASSES = ("Non", "Very Mild", "Mild", "Moderate")
PEOPLE = (20, 14, 6, 2)


def study(
    people: tuple[int, ...] = PEOPLE,
    *,
    classes: tuple[str, ...] = CLASSES,
    slices: int = 5,
    skill: float = 1.0,
    seed: int = 0,
    **changes: object,
) -> Predictions:
    """Predictions for so many people of each class, whose slices are alike."""
    random = np.random.default_rng(seed)
    person = np.repeat(np.arange(sum(people)), slices)
    target = np.repeat(np.arange(len(people)), people)[person]
    logits = random.normal(size=(sum(people), len(classes)))[person] + random.normal(size=(len(person), len(classes)))
    logits[np.arange(len(person)), target] += skill
    keywords: dict = {
        "classes": classes,
        "split_unit": "subject",
        "subjects": [f"p{number}" for number in person],
        "targets": [classes[index] for index in target],
    }
    return Predictions.from_logits([f"s{row:04}" for row in range(len(person))], logits, **(keywords | changes))
