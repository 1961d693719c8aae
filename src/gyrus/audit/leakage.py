"""Whether what is judged on has been learnt from: people, copies and look-alikes across the parts of a split.

The **leak score** asks what a classifier gets that has no idea of disease and only remembers: the nearest neighbour on
raw pixels. The labels are dealt out anew among the people, so that there is nothing left to learn but who somebody is.
An honest split then gives chance, score 0; a split that has each test image's person in training gives 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gyrus.audit.duplicates import in_words
from gyrus.audit.findings import Finding, Flag, Number, Severity
from gyrus.audit.nearest_neighbours import standardise

if TYPE_CHECKING:
    from gyrus.audit.checks import AuditContext

Rows = NDArray[np.int64]

MOST_ASKED = 2_000
"""Test images that the leak score is computed on; chosen at random among more."""

SHUFFLES = 20
"""How often labels are dealt out anew."""

HELD_OUT = 0.2
"""Share that is held out to try a split where the data have none."""

LEAKS = 0.05
"""Leak score from which a split leaks."""


@dataclass(frozen=True)
class LeakScore:
    """What remembering is worth.

    Attributes:
        score: 0 for an honest split, 1 where every test image's person is in training; NaN where people are unknown.
        by_image: Accuracy of the nearest neighbour, 0 to 1.
        by_person: The same where it may not use images of the same person.
        shuffled: Accuracy with labels dealt out anew among the people.
        chance: What is expected of ``shuffled`` without remembering.
        majority: Share of the most frequent class among those asked.
        asked: Number of test images asked about.
    """

    score: float
    by_image: float
    by_person: float
    shuffled: float
    chance: float
    majority: float
    asked: int


def leak_score(
    thumbnails: NDArray[np.uint8],
    targets: Rows,
    people: Rows | None,
    train: Rows,
    test: Rows,
    *,
    seed: int = 0,
) -> LeakScore:
    """The leak score of a split.

    Args:
        thumbnails: Small pictures (N, rows, columns).
        targets: Class index of each (N,).
        people: Number of the person of each (N,); None where nobody knows.
        train: Rows that are learnt from.
        test: Rows that are judged on.
        seed: Of the choice of test images and of the shuffles.
    """
    generator = np.random.default_rng(seed)
    if len(test) > MOST_ASKED:
        test = np.sort(generator.choice(test, MOST_ASKED, replace=False))
    nearest, stranger = _nearest(thumbnails, people, train, test)
    by_image = float((targets[nearest] == targets[test]).mean())
    majority = float(np.bincount(targets[test]).max() / len(test))
    if people is None:
        nan = float("nan")
        return LeakScore(nan, by_image, nan, nan, nan, majority, len(test))
    known = stranger >= 0
    by_person = float((targets[stranger[known]] == targets[test[known]]).mean()) if known.any() else float("nan")
    own = people[nearest] == people[test]
    shuffled, chance = _shuffled(targets, people, nearest, test, generator)
    # An exact statement of the limit of many shuffles: whoever finds the same person is right, others are by chance.
    score = float(own.mean())
    return LeakScore(score, by_image, by_person, shuffled, chance, majority, len(test))


def check(material: AuditContext) -> tuple[Finding, ...]:
    """Leakage across the given parts; without parts, what a split by image would come to."""
    if (material.manifest.targets < 0).any() or len(material.manifest.classes) < 2:
        return ()
    train, test = material.rows_of("train"), material.rows_of("test")
    if not len(train) or not len(test):
        return _without_parts(material)
    return (_given(material, train, test), *_copies_across(material))


def _given(material: AuditContext, train: Rows, test: Rows) -> Finding:
    people = material.people
    scored = leak_score(material.images.thumbnails, material.targets, people, train, test, seed=material.seed)
    numbers = _numbers(scored)
    samples = material.manifest.table["sample"].to_numpy()
    if people is None:
        words = (
            "Whether people are in training and in test at once cannot be told: nobody knows who they are. "
            f"The nearest training image gives {scored.by_image:.1%} of the test images' labels."
        )
        return Finding("leakage", "warning", words, numbers)
    shared = np.intersect1d(people[train], people[test])
    concerned = test[np.isin(people[test], shared)]
    twins = len(concerned) / len(test)
    numbers |= {"people in train and test": len(shared), "people in test": len(np.unique(people[test])), "twins": twins}
    flags = tuple(Flag(str(samples[row]), "its person is also in train") for row in concerned)
    if not len(shared) and scored.score < LEAKS:
        words = "The given parts share no person: what is judged on has not been learnt from."
        return Finding("leakage", "ok", words, numbers)
    tested = f"{len(np.unique(people[test])):,} people in test"
    words = (
        f"The given parts leak: {len(shared):,} of the {tested} are also in train, "
        f"and {twins:.0%} of the test images have a twin there. Remembering people alone scores {scored.by_image:.1%}; "
        f"on people never seen the same method gets {_percent(scored.by_person)}."
    )
    return Finding("leakage", "error", words, numbers, flags)


def _without_parts(material: AuditContext) -> tuple[Finding, ...]:
    people = material.people
    if people is None or len(np.unique(people)) < 2:
        return ()
    generator = np.random.default_rng(material.seed)
    shuffled = generator.permutation(len(people))
    held_out = max(1, round(HELD_OUT * len(people)))
    test, train = np.sort(shuffled[:held_out]), np.sort(shuffled[held_out:])
    scored = leak_score(material.images.thumbnails, material.targets, people, train, test, seed=material.seed)
    leaks = scored.score >= LEAKS
    severity: Severity = "warning" if leaks else "ok"
    words = (
        f"Split by image, these data would leak: the nearest neighbour on raw pixels scores {scored.by_image:.1%} by "
        f"remembering people, and {_percent(scored.by_person)} on people it has never seen (always the most frequent "
        f"class: {scored.majority:.1%}). Split by subject."
        if leaks
        else "Even a split by image would not put one person into train and test."
    )
    return (Finding("leakage", severity, words, {"parts": "tried: by image at random", **_numbers(scored)}),)


def _copies_across(material: AuditContext) -> tuple[Finding, ...]:
    subsets = material.subsets
    across = [
        pair
        for pair in material.pairs
        if subsets[pair.first] and subsets[pair.second] and subsets[pair.first] != subsets[pair.second]
    ]
    if not across:
        return ()
    samples = material.manifest.table["sample"].to_numpy()
    flags = tuple(
        Flag(
            str(samples[pair.second]),
            f"{in_words(pair)} of {samples[pair.first]}: {subsets[pair.second]} and {subsets[pair.first]}",
        )
        for pair in across
    )
    words = f"{len(across):,} copies of images are in another part than the image itself."
    return (Finding("leakage", "error", words, {"copies across parts": len(across)}, flags),)


def _numbers(scored: LeakScore) -> dict[str, Number]:
    return {
        "leak score": scored.score,
        "nearest neighbour by image": scored.by_image,
        "nearest neighbour by person": scored.by_person,
        "labels shuffled among people": scored.shuffled,
        "chance with shuffled labels": scored.chance,
        "most frequent class": scored.majority,
        "test images asked": scored.asked,
    }


def _nearest(thumbnails: NDArray[np.uint8], people: Rows | None, train: Rows, test: Rows) -> tuple[Rows, Rows]:
    """Row of the nearest training image, and of the nearest one of another person, -1 where there is none."""
    asked = standardise(_halved(thumbnails[test]))
    best, best_other = np.full(len(test), -2.0, np.float32), np.full(len(test), -2.0, np.float32)
    nearest, stranger = np.full(len(test), -1), np.full(len(test), -1)
    for start in range(0, len(train), 4096):
        rows = train[start : start + 4096]
        similarity = asked @ standardise(_halved(thumbnails[rows])).T
        _keep_better(similarity, rows, best, nearest)
        if people is not None:
            similarity[people[test][:, None] == people[rows][None]] = -2
            _keep_better(similarity, rows, best_other, stranger)
    return nearest, stranger


def _keep_better(similarity: NDArray[np.float32], rows: Rows, best: NDArray[np.float32], found: Rows) -> None:
    top = np.argmax(similarity, axis=1)
    value = similarity[np.arange(len(top)), top]
    better = value > best
    best[better], found[better] = value[better], rows[top[better]]


def _halved(thumbnails: NDArray[np.uint8]) -> NDArray[np.uint8]:
    count, rows, columns = thumbnails.shape
    blocks = thumbnails.reshape(count, rows // 2, 2, columns // 2, 2)
    return np.round(blocks.mean(axis=(2, 4), dtype=np.float32)).astype(np.uint8)


def _shuffled(
    targets: Rows, people: Rows, nearest: Rows, test: Rows, generator: np.random.Generator
) -> tuple[float, float]:
    """Mean accuracy with labels dealt out anew among the people, and its expectation between different people."""
    names, first, inverse = np.unique(people, return_index=True, return_inverse=True)
    labels = targets[first]
    accuracies = []
    for _ in range(SHUFFLES):
        dealt = generator.permutation(labels)[inverse]
        accuracies.append((dealt[nearest] == dealt[test]).mean())
    counts = np.bincount(labels).astype(np.float64)
    pairs = len(names) * (len(names) - 1)
    chance = float((counts * (counts - 1)).sum() / pairs) if pairs else 1.0
    return float(np.mean(accuracies)), chance


def _percent(share: float) -> str:
    return "an unknown share" if np.isnan(share) else f"{share:.1%}"
