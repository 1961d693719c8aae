"""Class balance, and labels that may be wrong.

Label errors are found by confident learning (Northcutt, Jiang and Chuang 2021). A classifier predicts the class of each
subject without having seen that subject. A label is suspect where the classifier is confident of another class, judged
by its mean confidence in that class among the subjects that have that label. Where the classifier is hardly better than
chance, no label is called into question.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gyrus.audit.context import AuditContext
from gyrus.audit.findings import Finding, Flag, Number, Severity
from gyrus.audit.nearest_neighbours import COMPONENTS
from gyrus.text import counted

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

FOLDS = 5
MAX_FITTED = 10_000
"""Largest number of training images for the classifier."""

MAX_FEATURES = 128
"""Largest number of features for the classifier."""

USABLE = 0.3
"""Distance of the balanced accuracy from chance, as a fraction of the way to 1, from which labels are questioned."""

IMBALANCE = 5.0
"""Ratio of the largest to the smallest class from which a warning is given."""


def check(context: AuditContext) -> tuple[Finding, ...]:
    """Class balance, and labels that contradict the images."""
    return (_balance(context), *_label_errors(context)) if context.has_classes else ()


def out_of_fold(features: NDArray[np.floating], targets: Rows, subjects: Rows, *, seed: int = 0) -> Floats:
    """Class probabilities of each image from a classifier that was not trained on its subject.

    A linear discriminant with shrinkage (Ledoit and Wolf 2004) and equal priors; folds are stratified by class.

    Args:
        features: (N, D).
        targets: Class index of each image (N,).
        subjects: Number of the subject of each image (N,).
        seed: Seed of the folds.

    Returns:
        (N, classes); NaN where the training folds have fewer than two images of a class, and where all images are
        equal.
    """
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    classes = int(targets.max()) + 1
    result = np.full((len(targets), classes), np.nan)
    if np.ptp(features, axis=0).max(initial=0.0) < 1e-12:
        return result
    folds = assign_folds(targets, subjects, seed)
    generator = np.random.default_rng(seed)
    for fold in range(FOLDS):
        train, test = np.nonzero(folds != fold)[0], np.nonzero(folds == fold)[0]
        if len(train) > MAX_FITTED:
            train = generator.choice(train, MAX_FITTED, replace=False)
        # The covariance of a class needs two images.
        if not len(test) or np.bincount(targets[train], minlength=classes).min() < 2:
            continue
        model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto", priors=np.full(classes, 1 / classes))
        result[test] = model.fit(features[train], targets[train]).predict_proba(features[test])
    return result


def assign_folds(targets: Rows, subjects: Rows, seed: int) -> Rows:
    """Fold of each image: all images of a subject in one fold, and each class spread over the folds."""
    names, first, inverse = np.unique(subjects, return_index=True, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(names))
    order = order[np.argsort(targets[first][order], kind="stable")]
    fold = np.empty(len(names), np.int64)
    fold[order] = np.arange(len(names)) % FOLDS
    return fold[inverse]


def find_label_errors(probabilities: Floats, targets: Rows) -> tuple[Rows, Rows]:
    """Samples whose label is probably wrong, by confident learning.

    Args:
        probabilities: Out-of-fold, (N, classes).
        targets: Given class index (N,).

    Returns:
        Rows, the most certain first, and the class that each probably belongs to.
    """
    predicted = ~np.isnan(probabilities).any(axis=1)
    # A prediction is confident where it reaches the mean confidence in that class among the samples with that label.
    thresholds = np.full(probabilities.shape[1], np.inf)
    for label in range(probabilities.shape[1]):
        if (labelled := predicted & (targets == label)).any():
            thresholds[label] = probabilities[labelled, label].mean()
    confident = np.where(probabilities >= thresholds, probabilities, -1.0)
    guess = np.argmax(confident, axis=1)
    suspect = predicted & (confident.max(axis=1) >= 0) & (guess != targets)
    every = np.arange(len(targets))
    margin = probabilities[every, guess] - probabilities[every, targets]
    rows = np.nonzero(suspect)[0]
    rows = rows[np.argsort(-margin[rows], kind="stable")]
    return rows, guess[rows]


def subject_means(probabilities: Floats, targets: Rows, subjects: Rows) -> tuple[Floats, Rows, Rows]:
    """Mean probabilities of each subject with predictions, its class, and the row of its first image."""
    rows = np.nonzero(~np.isnan(probabilities).any(axis=1))[0]
    _, first, inverse, counts = np.unique(subjects[rows], return_index=True, return_inverse=True, return_counts=True)
    sums = np.zeros((len(first), probabilities.shape[1]))
    np.add.at(sums, inverse, probabilities[rows])
    return sums / counts[:, None], targets[rows[first]], rows[first]


def _balance(context: AuditContext) -> Finding:
    manifest, subjects = context.manifest, context.subjects
    unit = "image" if subjects is None else "subject"
    numbers: dict[str, Number] = {}
    counts = []
    for index, name in enumerate(manifest.classes):
        inside = context.targets == index
        counts.append(int(inside.sum()) if subjects is None else len(np.unique(subjects[inside])))
        numbers[f"{name}: images"] = int(inside.sum())
        if subjects is not None:
            numbers[f"{name}: subjects"] = counts[-1]
    ratio = max(counts) / max(min(counts), 1)
    numbers["largest over smallest class"] = ratio
    smallest = manifest.classes[int(np.argmin(counts))]
    verdict = (
        f"All classes have {counted(min(counts), unit)}."
        if ratio == 1
        else f"The smallest class, {smallest}, has {counted(min(counts), unit)}; the largest class has {ratio:.1f} "
        "times as many."
    )
    if min(counts) < 2 * FOLDS and subjects is not None:
        verdict += " This is too few for both training and testing."
    severity: Severity = "warning" if ratio >= IMBALANCE or (subjects is not None and min(counts) < 10) else "note"
    return Finding("labels", severity, verdict, numbers)


def _features(vectors: NDArray[np.floating]) -> NDArray[np.floating]:
    """As many features as a classifier can use: the first whitened components, or principal components of pixels."""
    if vectors.shape[1] <= COMPONENTS:
        return vectors[:, :MAX_FEATURES]
    left, scale, _ = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
    kept = min(MAX_FEATURES // 2, len(scale))
    return left[:, :kept] * scale[:kept]


def _label_errors(context: AuditContext) -> tuple[Finding, ...]:
    from sklearn.metrics import recall_score

    targets, known = context.targets, context.subjects is not None
    subjects = np.arange(len(targets)) if context.subjects is None else context.subjects
    unit = "subject" if known else "image"
    probabilities = out_of_fold(_features(context.neighbours.vectors), targets, subjects, seed=context.seed)
    means, labels, first = subject_means(probabilities, targets, subjects)
    present = np.unique(labels)  # a class of a single subject has no predictions
    if len(present) < 2:
        verdict = (
            f"Labels could not be checked: cross-validation needs at least two {unit}s of two classes, and different "
            "images."
        )
        return (Finding("labels", "note", verdict, {}),)
    accuracy = float(recall_score(labels, np.argmax(means, axis=1), labels=present, average="macro"))
    chance = 1 / len(present)
    numbers: dict[str, Number] = {f"balanced accuracy by {unit}": accuracy, "chance": chance}
    scores = f"balanced accuracy {accuracy:.2f}, chance {chance:.2f}"
    if (accuracy - chance) / (1 - chance) < USABLE:
        verdict = f"Labels could not be checked: a simple classifier is hardly better than chance on unseen {unit}s"
        return (Finding("labels", "note", f"{verdict} ({scores}).", numbers),)
    rows, guesses = find_label_errors(means, labels)
    samples, classes = context.manifest.table["sample"].to_numpy(), context.manifest.classes
    flags = tuple(
        Flag(
            str(samples[first[row]]),
            f"{'subject ' if known else ''}labelled {classes[labels[row]]}, resembles {classes[guess]} "
            f"(probability {means[row, guess]:.2f} against {means[row, labels[row]]:.2f})",
        )
        for row, guess in zip(rows, guesses, strict=True)
    )
    numbers |= {f"suspect {unit}s": len(rows), f"{unit}s checked": len(labels)}
    verdict = (
        f"{len(rows):,} of {counted(len(labels), unit)} may have a wrong label: a simple classifier ({scores}) is "
        "confident of another class. Check them before training."
        if len(rows)
        else f"No label of {counted(len(labels), unit)} is contradicted by a simple classifier ({scores})."
    )
    return (Finding("labels", "note", verdict, numbers, flags),)
