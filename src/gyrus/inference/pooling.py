"""From slices to people, and from several classifiers to one: means of probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from gyrus.errors import DataError
from gyrus.inference.predictions import COLUMNS, Predictions
from gyrus.types import SplitUnit

ENOUGH_STEPS = 2000
"""Steps after which the fit of weights ends in any case."""


def pool_by_subject(predictions: Predictions) -> Predictions:
    """Mean probability over the slices of each subject.

    The pooled logit is the logarithm of the mean probability, so that the softmax gives the mean back. A subject's
    target is the one its slices agree on; slices without a target do not disagree.

    Args:
        predictions: One row a slice, each with a known subject.

    Returns:
        One row a subject, sorted by subject; ``sample`` and ``subject`` are both its id. The result depends on
        the rows alone, not on their order.

    Raises:
        DataError: A slice's subject is not known, or a subject has slices of two classes.
    """
    _require_subjects(predictions)
    predictions = predictions.select(predictions.table["sample"].argsort())
    codes, subjects = pd.factorize(predictions.table["subject"], sort=True)
    mean = _mean_by_group(predictions.probabilities, codes, len(subjects))
    names = [str(subject) for subject in subjects]
    return Predictions.from_logits(
        names,
        np.log(np.maximum(mean, np.finfo(np.float64).tiny)),
        classes=predictions.classes,
        split_unit=predictions.split_unit,
        subset=predictions.subset,
        subjects=names,
        targets=_targets_by_group(predictions, codes, names),
        subject_kind=predictions.subject_kind,
    )


def average(members: Sequence[Predictions], weights: Sequence[float] | None = None) -> Predictions:
    """The mean probability of several classifiers about the same samples.

    Args:
        members: One table a classifier, of the same samples in any order.
        weights: The share of each, summing to one; by default all alike.

    Returns:
        One row a sample, in the order of the first member, with the logarithm of the mean probability as logit. It
        carries the gravest warning of its members' splits.

    Raises:
        DataError: The members speak of other samples, subjects or true classes, or know other classes.
    """
    shares = np.full(len(members), 1 / len(members)) if weights is None else np.asarray(weights, dtype=np.float64)
    first = members[0]
    aligned = [_aligned(member, first, number) for number, member in enumerate(members, 1)]
    mean = np.einsum("m,mnk->nk", shares, np.stack(aligned))
    samples, subjects, targets = (first.table[column].tolist() for column in COLUMNS)
    units: tuple[SplitUnit, ...] = get_args(SplitUnit)
    return Predictions.from_logits(
        samples,
        np.log(np.maximum(mean, np.finfo(np.float64).tiny)),
        classes=first.classes,
        split_unit=max((member.split_unit for member in members), key=units.index),
        subset=first.subset,
        subjects=[None if pd.isna(name) else name for name in subjects],
        targets=[None if pd.isna(name) else name for name in targets],
        subject_kind=first.subject_kind,
    )


def fit_weights(members: Sequence[Predictions]) -> tuple[float, ...]:
    """The weights whose mean probability gives the true classes the highest likelihood.

    The logarithm of a mixture is concave in its weights, so that there is one best value; it is found by expectation
    maximisation from equal weights (Dempster, Laird and Rubin 1977). Where subjects are known each counts once, however
    many slices there are of them.

    Args:
        members: One table a classifier, of the same samples, with true classes. Only ever the validation set.

    Returns:
        One share a member, none negative, summing to one.

    Raises:
        DataError: The members speak of other samples, or none has a true class.
    """
    judged = [_judged(member) for member in members]
    probabilities = np.stack([_aligned(each, judged[0], number) for number, each in enumerate(judged, 1)])
    rows = np.arange(len(judged[0]))
    likelihoods = np.maximum(probabilities[:, rows, judged[0].targets], np.finfo(np.float64).tiny)
    weights = np.full(len(members), 1 / len(members))
    for _ in range(ENOUGH_STEPS):
        better = weights * (likelihoods / (weights @ likelihoods)).mean(axis=1)
        moved = np.abs(better - weights).max()
        weights = better / better.sum()
        if moved < 1e-9:
            break
    return tuple(float(weight) for weight in weights)


def _judged(predictions: Predictions) -> Predictions:
    labelled = predictions.select(predictions.targets >= 0)
    if not len(labelled):
        raise DataError(f"No sample of part '{predictions.subset}' has a true class: weights cannot be fitted to it.")
    return pool_by_subject(labelled) if labelled.subjects_known else labelled


def _aligned(member: Predictions, first: Predictions, number: int) -> npt.NDArray[np.float64]:
    """The probabilities of a member with rows and columns in the order of the first, shape (N, K)."""
    if set(member.classes) != set(first.classes):
        raise DataError(
            f"Classifier {number} knows the classes {list(member.classes)}, the first {list(first.classes)}: "
            "their probabilities cannot be averaged."
        )
    facts = [each.table.set_index("sample")[["subject", "target"]].sort_index().fillna("") for each in (member, first)]
    if not facts[0].equals(facts[1]):
        raise DataError(
            f"Classifier {number} speaks of {len(member)} samples, the first of {len(first)}, and the samples, their "
            "subjects or their true classes differ: probabilities are averaged about the same samples only."
        )
    rows = pd.Index(member.table["sample"]).get_indexer(first.table["sample"])
    columns = [member.classes.index(name) for name in first.classes]
    return np.asarray(member.probabilities[rows][:, columns])


def _require_subjects(predictions: Predictions) -> None:
    unknown = predictions.table["subject"].isna()
    if unknown.any():
        sample = predictions.table["sample"][unknown].iloc[0]
        raise DataError(
            f"{int(unknown.sum())} of {len(predictions)} samples do not say whose they are, the first is '{sample}'. "
            "Slices can be pooled by subject only where every subject is known."
        )


def _mean_by_group(
    values: npt.NDArray[np.float64], codes: npt.NDArray[np.intp], groups: int
) -> npt.NDArray[np.float64]:
    sums = [np.bincount(codes, weights=column, minlength=groups) for column in values.T]
    return np.asarray(np.column_stack(sums) / np.bincount(codes, minlength=groups)[:, None])


def _targets_by_group(predictions: Predictions, codes: npt.NDArray[np.intp], subjects: list[str]) -> list[str | None]:
    targets = predictions.targets
    known = targets >= 0
    highest = np.full(len(subjects), -1)
    np.maximum.at(highest, codes[known], targets[known])
    torn = np.unique(codes[known & (targets != highest[codes])])
    if len(torn):
        first = subjects[torn[0]]
        labels = sorted(predictions.table["target"][codes == torn[0]].dropna().unique())
        raise DataError(
            f"{len(torn)} subjects have samples of more than one class; the first is '{first}' with {labels}. "
            "Give each subject one class, or use visits as subjects."
        )
    return [None if index < 0 else predictions.classes[index] for index in highest]
