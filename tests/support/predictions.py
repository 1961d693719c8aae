"""Simulated predictions for simulated subjects."""

from __future__ import annotations

import numpy as np

from gyrus.inference.predictions import Predictions

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
    """Predictions for given numbers of subjects per class, whose slices are alike."""
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


def answers(seed: int, count: int, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits, their softmax, which is calibrated, and targets drawn from it."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(count, classes))
    powers = np.exp(logits)
    probabilities = powers / powers.sum(axis=1, keepdims=True)
    targets = np.array([random.choice(classes, p=row) for row in probabilities])
    return logits, probabilities, targets


def as_predictions(logits: np.ndarray, targets: np.ndarray, *, prefix: str = "p", **changes: object) -> Predictions:
    """Predictions of subjects with one image each."""
    names = [f"class {index}" for index in range(logits.shape[1])]
    people = [f"{prefix}{row:04}" for row in range(len(logits))]
    keywords: dict = {
        "classes": names,
        "split_unit": "subject",
        "subjects": people,
        "targets": [names[index] for index in targets],
    }
    return Predictions.from_logits(people, logits, **(keywords | changes))


def repeated_visits(first: Predictions, counts: np.ndarray) -> Predictions:
    """Predictions of one image for each subject, as if each had been seen several times: its visits are alike.

    Args:
        first: One row per subject.
        counts: The number of visits of each, shape (N,).
    """
    of = np.repeat(np.arange(len(first)), counts)
    numbers = np.concatenate([np.arange(count) for count in counts])
    names = first.table["subject"].to_numpy()[of]
    units = [f"{name}, visit {number}" for name, number in zip(names, numbers, strict=True)]
    table = first.table.iloc[of].assign(sample=units, subject=units, subject_of_visit=names)
    return Predictions.from_table(table, classes=first.classes, split_unit="subject", subset=first.subset)
