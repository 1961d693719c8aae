"""Leakage between the subsets of a split: shared subjects and duplicates.

The **leakage score** measures what a classifier gains that knows nothing of disease and only recognises subjects: the
nearest neighbour on raw pixels. With labels shuffled across subjects, nothing is left to learn but the identity of a
subject. A split without leakage then reaches chance, score 0; a split with the subject of every test image in the
training set reaches 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gyrus.audit.context import AuditContext
from gyrus.audit.findings import Finding, Flag, Number
from gyrus.audit.image_quality import is_volumetric
from gyrus.audit.nearest_neighbours import standardise
from gyrus.text import counted

Rows = NDArray[np.int64]

MAX_TEST_IMAGES = 2_000
"""Largest number of test images for the leakage score, chosen at random among more."""

SHUFFLES = 20
"""How often labels are shuffled."""

TEST_FRACTION = 0.2
"""Fraction of the images that is held out to try a split where the data have none."""

LEAKAGE_THRESHOLD = 0.05
"""Leakage score from which a split leaks."""


@dataclass(frozen=True)
class LeakageScore:
    """Accuracy of the nearest neighbour on raw pixels, under several conditions.

    Attributes:
        score: Fraction of the test images whose nearest training image is of the same subject: 0 without leakage, 1 if
            every test image's subject is in the training set; NaN where subjects are unknown.
        accuracy: Accuracy on the split as it is.
        other_subjects: Accuracy without training images of the same subject.
        shuffled: Accuracy with labels shuffled across subjects.
        chance: Expected value of ``shuffled`` without leakage.
        majority: Fraction of the majority class among the test images.
        images: Number of test images used.
    """

    score: float
    accuracy: float
    other_subjects: float
    shuffled: float
    chance: float
    majority: float
    images: int


def leakage_score(
    thumbnails: NDArray[np.uint8],
    targets: Rows,
    subjects: Rows | None,
    train: Rows,
    test: Rows,
    *,
    seed: int = 0,
) -> LeakageScore:
    """The leakage score of a split.

    Args:
        thumbnails: (N, rows, columns).
        targets: Class index of each image (N,).
        subjects: Number of the subject of each image (N,); None where unknown.
        train: Rows of the training set.
        test: Rows of the test set.
        seed: Seed of the choice of test images and of the shuffles.
    """
    generator = np.random.default_rng(seed)
    if len(test) > MAX_TEST_IMAGES:
        test = np.sort(generator.choice(test, MAX_TEST_IMAGES, replace=False))
    nearest, nearest_other = _nearest(thumbnails, subjects, train, test)
    accuracy = float((targets[nearest] == targets[test]).mean())
    majority = float(np.bincount(targets[test]).max() / len(test))
    if subjects is None:
        nan = float("nan")
        return LeakageScore(nan, accuracy, nan, nan, nan, majority, len(test))
    known = nearest_other >= 0
    other = float((targets[nearest_other[known]] == targets[test[known]]).mean()) if known.any() else float("nan")
    shuffled, chance = _shuffled(targets, subjects, nearest, test, generator)
    # The limit of (shuffled - chance) / (1 - chance) for many shuffles: with the nearest image of the same subject the
    # shuffled label is always right, and else right by chance.
    score = float((subjects[nearest] == subjects[test]).mean())
    return LeakageScore(score, accuracy, other, shuffled, chance, majority, len(test))


def check(context: AuditContext) -> tuple[Finding, ...]:
    """Leakage of the given split; without one, the leakage of a random split by image."""
    if not context.has_classes:
        return ()
    train, test = context.subset_rows("train"), context.subset_rows("test")
    if not len(train) or not len(test):
        return _random_split(context)
    return (_given_split(context, train, test), *_duplicates_across_subsets(context))


def _given_split(context: AuditContext, train: Rows, test: Rows) -> Finding:
    subjects = context.subjects
    scored = leakage_score(context.images.thumbnails, context.targets, subjects, train, test, seed=context.seed)
    numbers = _numbers(scored)
    if subjects is None:
        verdict = (
            "Leakage cannot be ruled out: subjects are unknown, so they may be in both the training and the test set. "
            f"The nearest training image has the correct label for {_percent(scored.accuracy)} of the test images."
        )
        return Finding("leakage", "warning", verdict, numbers)
    shared = np.intersect1d(subjects[train], subjects[test])
    concerned = test[np.isin(subjects[test], shared)]
    tested = len(np.unique(subjects[test]))
    numbers |= {
        "subjects in train and test": len(shared),
        "subjects in test": tested,
        "fraction of test images of these subjects": len(concerned) / len(test),
    }
    if not len(shared) and scored.score < LEAKAGE_THRESHOLD:
        verdict = "By the names of the subjects, none is in both the training and the test set. " + _limits(context)
        return Finding("leakage", "ok", verdict, numbers)
    samples = context.manifest.table["sample"].to_numpy()
    flags = tuple(Flag(str(samples[row]), "its subject is also in the training set") for row in concerned)
    known = context.manifest.subject_kind in ("subject", "scan")
    way = "--set split.method=holdout" + ("" if known else " --subjects inferred")
    verdict = (
        f"The split leaks: {len(shared):,} of the {counted(tested, 'subject')} in the test set "
        f"{'is' if len(shared) == 1 else 'are'} also in the training set ({_percent(len(concerned) / len(test))} of "
        f"the test images). Accuracy of a nearest-neighbour classifier on raw pixels: {_percent(scored.accuracy)}; "
        f"without training images of the same subject: {_percent(scored.other_subjects)}. Make a new "
        f"split by subject: {way}."
    )
    return Finding("leakage", "error", verdict, numbers, flags)


def _random_split(context: AuditContext) -> tuple[Finding, ...]:
    subjects = context.subjects
    if subjects is None:
        verdict = (
            "The leakage of a random split by image is unknown, because the subjects are. If a subject has several "
            "images, such a split leaks."
        )
        return (Finding("leakage", "warning", verdict, {}),)
    if len(np.unique(subjects)) < 2:
        return ()
    generator = np.random.default_rng(context.seed)
    shuffled = generator.permutation(len(subjects))
    held_out = max(1, round(TEST_FRACTION * len(subjects)))
    test, train = np.sort(shuffled[:held_out]), np.sort(shuffled[held_out:])
    scored = leakage_score(context.images.thumbnails, context.targets, subjects, train, test, seed=context.seed)
    shared = float(np.isin(subjects[test], subjects[train]).mean())
    numbers: dict[str, Number] = {
        "split": "tried: random by image",
        "fraction of test images of subjects in train": shared,
        **_numbers(scored),
    }
    if shared < LEAKAGE_THRESHOLD and scored.score < LEAKAGE_THRESHOLD:
        verdict = (
            "By the names of the subjects, hardly any has more than one image, so a random split by image separates "
            "them. " + _limits(context)
        )
        return (Finding("leakage", "ok", verdict, numbers),)
    verdict = (
        f"A random split of these data by image would leak: {_percent(shared)} of the test images would be of subjects "
        "that are also in the training set. Accuracy of a nearest-neighbour classifier on raw pixels: "
        f"{_percent(scored.accuracy)} with images of these subjects in the training set, "
        f"{_percent(scored.other_subjects)} without (majority class: {_percent(scored.majority)}). Split by subject."
    )
    if scored.score < LEAKAGE_THRESHOLD:
        verdict += " The nearest neighbour hardly recognises subjects here; a trained network may."
    return (Finding("leakage", "warning", verdict, numbers),)


def _duplicates_across_subsets(context: AuditContext) -> tuple[Finding, ...]:
    subsets = context.subsets
    across = [
        pair
        for pair in context.duplicates
        if subsets[pair.first] and subsets[pair.second] and subsets[pair.first] != subsets[pair.second]
    ]
    if not across:
        return ()
    samples = context.manifest.table["sample"].to_numpy()
    flags = tuple(
        Flag(
            str(samples[pair.second]),
            f"{pair.describe()} of {samples[pair.first]}: {subsets[pair.second]} and {subsets[pair.first]}",
        )
        for pair in across
    )
    pairs = counted(len(across), "pair of duplicates is", "pairs of duplicates are")
    verdict = (
        f"{pairs} in different subsets of the split. Remove one image of each pair (`gyrus data prepare`), or leave "
        "out the training copies of identical files (--on-duplicates drop)."
    )
    return (Finding("leakage", "error", verdict, {"duplicate pairs across subsets": len(across)}, flags),)


def _limits(context: AuditContext) -> str:
    """What is known of one person under two names, for readers."""
    if is_volumetric(context.manifest):
        return "One person under two names was not searched for in volumes, except for duplicates."
    return (
        "One person under two names is searched for by the check subjects. The pixels show it only where slices of the "
        "two names lie close together, a few millimetres apart."
    )


def _numbers(scored: LeakageScore) -> dict[str, Number]:
    return {
        "leakage score": scored.score,
        "nearest neighbour": scored.accuracy,
        "nearest neighbour of another subject": scored.other_subjects,
        "shuffled labels": scored.shuffled,
        "chance with shuffled labels": scored.chance,
        "majority class": scored.majority,
        "test images used": scored.images,
    }


def _nearest(thumbnails: NDArray[np.uint8], subjects: Rows | None, train: Rows, test: Rows) -> tuple[Rows, Rows]:
    """Row of the nearest training image, and of the nearest one of another subject, -1 where there is none."""
    queries = standardise(_halved(thumbnails[test]))
    best, best_other = np.full(len(test), -2.0, np.float32), np.full(len(test), -2.0, np.float32)
    nearest, nearest_other = np.full(len(test), -1), np.full(len(test), -1)
    for start in range(0, len(train), 4096):
        rows = train[start : start + 4096]
        similarity = queries @ standardise(_halved(thumbnails[rows])).T
        _keep_better(similarity, rows, best, nearest)
        if subjects is not None:
            similarity[subjects[test][:, None] == subjects[rows][None]] = -2
            _keep_better(similarity, rows, best_other, nearest_other)
    return nearest, nearest_other


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
    targets: Rows, subjects: Rows, nearest: Rows, test: Rows, generator: np.random.Generator
) -> tuple[float, float]:
    """Mean accuracy with labels shuffled across subjects, and its expected value between different subjects."""
    names, first, inverse = np.unique(subjects, return_index=True, return_inverse=True)
    labels = targets[first]
    accuracies = []
    for _ in range(SHUFFLES):
        shuffled = generator.permutation(labels)[inverse]
        accuracies.append((shuffled[nearest] == shuffled[test]).mean())
    counts = np.bincount(labels).astype(np.float64)
    pairs = len(names) * (len(names) - 1)
    chance = float((counts * (counts - 1)).sum() / pairs) if pairs else 1.0
    return float(np.mean(accuracies)), chance


def _percent(fraction: float) -> str:
    return "unknown" if np.isnan(fraction) else f"{100 * fraction:.1f} %"
