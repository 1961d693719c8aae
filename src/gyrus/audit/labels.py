"""Labels that may be wrong, and classes that are small.

Wrong labels are found by confident learning (Northcutt, Jiang and Chuang 2021): a classifier says what it thinks of
each person without having seen them; a label is suspect where it is confident of another class, by the standard of
those that bear that class's label. Where the classifier is no better than chance, nothing can be said, and nothing is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gyrus.audit.findings import Finding, Flag, Number, Severity
from gyrus.audit.nearest_neighbours import COMPONENTS

if TYPE_CHECKING:
    from gyrus.audit.checks import AuditContext

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

FOLDS = 5
MOST_FITTED = 10_000
"""Images of the training folds that the classifier is fitted on."""

MOST_FEATURES = 128
"""Features that the classifier is fitted on."""

USABLE = 0.3
"""How far balanced accuracy by person must lie above chance, on the way to 1, before labels are doubted."""

IMBALANCE = 5.0
"""Ratio of the largest to the smallest class from which a warning is due."""


def check(material: AuditContext) -> tuple[Finding, ...]:
    """Class balance, and labels that contradict the images."""
    if (material.targets < 0).any() or len(material.manifest.classes) < 2:
        return ()
    return (_balance(material), *_suspects(material))


def out_of_fold(features: NDArray[np.floating], targets: Rows, people: Rows, *, seed: int = 0) -> Floats:
    """Class probabilities of each image from a classifier that has not seen its person.

    A linear discriminant with shrinkage (Ledoit and Wolf 2004), balanced priors; people are dealt to folds by class.

    Args:
        features: (N, D).
        targets: Class index of each (N,).
        people: Number of the person of each (N,).
        seed: Of the dealing.

    Returns:
        (N, classes); rows that could not be judged, since a class was not learnt, hold NaN.
    """
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    classes = int(targets.max()) + 1
    result = np.full((len(targets), classes), np.nan)
    folds = deal(targets, people, seed)
    generator = np.random.default_rng(seed)
    for fold in range(FOLDS):
        train, test = np.nonzero(folds != fold)[0], np.nonzero(folds == fold)[0]
        if len(train) > MOST_FITTED:
            train = generator.choice(train, MOST_FITTED, replace=False)
        present = np.unique(targets[train])
        if not len(test) or len(present) < classes:
            continue
        model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto", priors=np.full(classes, 1 / classes))
        result[test] = model.fit(features[train], targets[train]).predict_proba(features[test])
    return result


def deal(targets: Rows, people: Rows, seed: int) -> Rows:
    """Fold of each image; people stay whole, and each class is spread over the folds."""
    names, first, inverse = np.unique(people, return_index=True, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(names))
    order = order[np.argsort(targets[first][order], kind="stable")]
    fold = np.empty(len(names), np.int64)
    fold[order] = np.arange(len(names)) % FOLDS
    return fold[inverse]


def suspects(probabilities: Floats, targets: Rows) -> tuple[Rows, Rows]:
    """Images whose label is probably wrong, by confident learning.

    Args:
        probabilities: Out of fold, (N, classes).
        targets: Given class index (N,).

    Returns:
        Rows, the most certain first, and the class that each seems to belong to.
    """
    judged = ~np.isnan(probabilities).any(axis=1)
    classes = probabilities.shape[1]
    # The mean confidence in a class among the images that bear its label is what it takes to be confident.
    needed = np.array(
        [probabilities[judged & (targets == label), label].mean() if (judged & (targets == label)).any() else np.inf
         for label in range(classes)]
    )  # fmt: skip
    confident = np.where(probabilities >= needed, probabilities, -1.0)
    guess = np.argmax(confident, axis=1)
    own = probabilities[np.arange(len(targets)), targets]
    suspect = judged & (confident.max(axis=1) >= 0) & (guess != targets)
    margin = probabilities[np.arange(len(targets)), guess] - own
    rows = np.nonzero(suspect)[0]
    rows = rows[np.argsort(-margin[rows], kind="stable")]
    return rows, guess[rows]


def pooled(probabilities: Floats, targets: Rows, people: Rows) -> tuple[Floats, Rows, Rows]:
    """Mean probabilities of each person that could be judged, their class, and a row of theirs."""
    judged = np.nonzero(~np.isnan(probabilities).any(axis=1))[0]
    _, first, inverse, counts = np.unique(people[judged], return_index=True, return_inverse=True, return_counts=True)
    sums = np.zeros((len(first), probabilities.shape[1]))
    np.add.at(sums, inverse, probabilities[judged])
    return sums / counts[:, None], targets[judged[first]], judged[first]


def balanced_accuracy(guess: Rows, targets: Rows) -> float:
    """Mean over the classes of the share that is right."""
    return float(np.mean([(guess[targets == label] == label).mean() for label in np.unique(targets)]))


def _balance(material: AuditContext) -> Finding:
    manifest, people = material.manifest, material.people
    numbers: dict[str, Number] = {}
    counts = []
    for index, name in enumerate(manifest.classes):
        inside = material.targets == index
        numbers[f"{name}: images"] = int(inside.sum())
        units = int(inside.sum()) if people is None else len(np.unique(people[inside]))
        if people is not None:
            numbers[f"{name}: people"] = units
        counts.append(units)
    unit = "images" if people is None else "people"
    ratio = max(counts) / max(min(counts), 1)
    numbers["largest over smallest class"] = ratio
    smallest = manifest.classes[int(np.argmin(counts))]
    words = f"The smallest class, {smallest}, has {min(counts):,} {unit}; the largest has {ratio:.1f} times as many."
    if ratio == 1:
        words = f"All classes have {min(counts):,} {unit}."
    if min(counts) < 2 * FOLDS and people is not None:
        words += " So few cannot be learnt from and judged on at once."
    severity: Severity = "warning" if ratio >= IMBALANCE or (people is not None and min(counts) < 10) else "ok"
    return Finding("labels", severity, words, numbers)


def _features(vectors: NDArray[np.floating]) -> NDArray[np.floating]:
    """As many features as a classifier can weigh: the first whitened components, or some components of pixels."""
    if vectors.shape[1] <= COMPONENTS:
        return vectors[:, :MOST_FEATURES]
    left, scale, _ = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
    kept = min(MOST_FEATURES // 2, len(scale))
    return left[:, :kept] * scale[:kept]


def _suspects(material: AuditContext) -> tuple[Finding, ...]:
    people, targets = material.people, material.targets
    known = people is not None
    people = np.arange(len(targets)) if people is None else people
    probabilities = out_of_fold(_features(material.neighbours.vectors), targets, people, seed=material.seed)
    means, labels, first = pooled(probabilities, targets, people)
    if not len(labels):
        words = "Labels cannot be doubted: a class has too few people to be learnt without each of them."
        return (Finding("labels", "note", words, {}),)
    accuracy = balanced_accuracy(np.argmax(means, axis=1), labels)
    chance = 1 / len(np.unique(labels))
    numbers: dict[str, Number] = {
        "balanced accuracy by person" if known else "balanced accuracy by image": accuracy,
        "chance": chance,
    }
    if (accuracy - chance) / (1 - chance) < USABLE:
        words = (
            "Labels cannot be doubted on good grounds: a simple classifier that has not seen a person hardly guesses "
            f"the class better than chance (balanced accuracy {accuracy:.2f}, chance {chance:.2f})."
        )
        return (Finding("labels", "note", words, numbers),)
    rows, guesses = suspects(means, labels)
    samples, classes = material.manifest.table["sample"].to_numpy(), material.manifest.classes
    flags = tuple(
        Flag(
            str(samples[first[row]]),
            f"{'its person' if known else 'it'} is labelled {classes[labels[row]]}, looks like {classes[guess]} "
            f"({means[row, guess]:.2f} against {means[row, labels[row]]:.2f})",
        )
        for row, guess in zip(rows, guesses, strict=True)
    )
    unit = "people" if known else "images"
    numbers |= {f"suspect {unit}": len(rows), f"{unit} judged": len(labels)}
    words = (
        f"{len(rows):,} of {len(labels):,} {unit} look more like another class than their own to a simple classifier "
        f"(balanced accuracy {accuracy:.2f}, chance {chance:.2f}); look at the first ones before trusting the labels."
    )
    return (Finding("labels", "note", words, numbers, flags),)
