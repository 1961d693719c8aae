"""Pool slices by subject, and average the classifiers of an ensemble: means of probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from gyrus.datasets.identifiers import examples
from gyrus.errors import DataError
from gyrus.inference.predictions import COLUMNS, SUBJECT_OF_VISIT, Predictions
from gyrus.text import counted
from gyrus.types import SplitUnit

ENOUGH_STEPS = 2000
"""The most steps of the fit of weights."""


def pool_by_subject(predictions: Predictions) -> Predictions:
    """Mean probability over the slices of each subject.

    The pooled logit is the logarithm of the mean probability, so that the softmax returns the mean. The target of a
    subject is that of its slices; slices without a target are ignored.

    Args:
        predictions: One row per slice, each with a known subject.

    Returns:
        One row per subject, sorted by subject; ``sample`` and ``subject`` are both its id. The result does not depend
        on the order of the rows.

    Raises:
        DataError: The subject of a slice is unknown, or a subject has slices of two classes.
    """
    _require_subjects(predictions)
    predictions = predictions.select(predictions.table["sample"].argsort())
    codes, subjects = pd.factorize(predictions.table["subject"], sort=True)
    sums = [np.bincount(codes, weights=column, minlength=len(subjects)) for column in predictions.probabilities.T]
    mean = np.column_stack(sums) / np.bincount(codes, minlength=len(subjects))[:, None]
    names = [str(subject) for subject in subjects]
    first_rows = np.unique(codes, return_index=True)[1]
    return Predictions.from_logits(
        names,
        np.log(np.maximum(mean, np.finfo(np.float64).tiny)),
        classes=predictions.classes,
        split_unit=predictions.split_unit,
        subset=predictions.subset,
        subjects=names,
        targets=_targets_by_group(predictions, codes, names),
        subject_kind=predictions.subject_kind,
        subjects_of_visits=_subjects_of_visits(predictions.select(first_rows)),
        target=predictions.target,
    )


def average_predictions(members: Sequence[Predictions], weights: Sequence[float] | None = None) -> Predictions:
    """The mean probability of several classifiers for the same samples.

    Args:
        members: One table per classifier, of the same samples in any order.
        weights: The weight of each, summing to one; by default equal.

    Returns:
        One row per sample, in the order of the first member, with the logarithm of the mean probability as logit. Its
        split unit is that of the member with the most leakage.

    Raises:
        DataError: The samples, subjects, true classes or class names of the members differ.
    """
    fractions = np.full(len(members), 1 / len(members)) if weights is None else np.asarray(weights, dtype=np.float64)
    first = members[0]
    aligned = [_aligned(member, first, number) for number, member in enumerate(members, 1)]
    mean = np.einsum("m,mnk->nk", fractions, np.stack(aligned))
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
        subjects_of_visits=_subjects_of_visits(first),
        target=first.target,
    )


def fit_ensemble_weights(members: Sequence[Predictions]) -> tuple[float, ...]:
    """Fit the weights of an ensemble by maximum likelihood of the true classes under the weighted mean probability.

    The logarithm of a mixture is concave in its weights, so its maximum is the only one; expectation maximisation from
    equal weights finds it (Dempster, Laird and Rubin 1977). Where subjects are known each counts once, regardless of
    its number of slices.

    Args:
        members: One table per classifier, of the same samples, with true classes. Use the validation set only.

    Returns:
        One weight per member, none negative, summing to one.

    Raises:
        DataError: The samples of the members differ, or none has a true class.
    """
    labelled = [_labelled(member) for member in members]
    probabilities = np.stack([_aligned(each, labelled[0], number) for number, each in enumerate(labelled, 1)])
    rows = np.arange(len(labelled[0]))
    likelihoods = np.maximum(probabilities[:, rows, labelled[0].targets], np.finfo(np.float64).tiny)
    weights = np.full(len(members), 1 / len(members))
    for _ in range(ENOUGH_STEPS):
        better = weights * (likelihoods / (weights @ likelihoods)).mean(axis=1)
        moved = np.abs(better - weights).max()
        weights = better / better.sum()
        if moved < 1e-9:
            break
    return tuple(float(weight) for weight in weights)


def _labelled(predictions: Predictions) -> Predictions:
    labelled = predictions.select(predictions.targets >= 0)
    if not len(labelled):
        raise DataError(f"No sample of the subset '{predictions.subset}' has a true class: weights cannot be fitted.")
    return pool_by_subject(labelled) if labelled.subjects_known else labelled


def _aligned(member: Predictions, first: Predictions, number: int) -> npt.NDArray[np.float64]:
    """The probabilities of a member with rows and columns in the order of the first, shape (N, K)."""
    if set(member.classes) != set(first.classes):
        raise DataError(
            f"Classifier {number} has the classes {list(member.classes)}, the first {list(first.classes)}: "
            "their probabilities cannot be averaged."
        )
    facts = [each.table.set_index("sample")[["subject", "target"]].sort_index().fillna("") for each in (member, first)]
    if not facts[0].equals(facts[1]):
        only = [sorted({*one.index} - {*other.index}) for one, other in (facts, facts[::-1])]
        samples = "; ".join(examples(names) for names in only if names)
        which = f" (only in one: {samples})" if samples else ""
        raise DataError(
            f"Classifier {number} predicts {len(member)} samples, the first {len(first)}, and the samples, their "
            f"subjects or their true classes differ{which}. Average predictions of the same samples only."
        )
    rows = pd.Index(member.table["sample"]).get_indexer(first.table["sample"])
    columns = [member.classes.index(name) for name in first.classes]
    return np.asarray(member.probabilities[rows][:, columns])


def _subjects_of_visits(predictions: Predictions) -> list[str] | None:
    """The subject of each row, where the subject column holds visits."""
    if SUBJECT_OF_VISIT not in predictions.table:
        return None
    return [str(name) for name in predictions.table[SUBJECT_OF_VISIT]]


def _require_subjects(predictions: Predictions) -> None:
    unknown = predictions.table["subject"].isna()
    if unknown.any():
        sample = predictions.table["sample"][unknown].iloc[0]
        raise DataError(
            f"The subject of {int(unknown.sum())} of {len(predictions)} samples is unknown, the first is '{sample}'. "
            "Slices can be pooled by subject only if every subject is known."
        )


def _targets_by_group(predictions: Predictions, codes: npt.NDArray[np.intp], subjects: list[str]) -> list[str | None]:
    targets = predictions.targets
    known = targets >= 0
    highest = np.full(len(subjects), -1)
    np.maximum.at(highest, codes[known], targets[known])
    conflicting = np.unique(codes[known & (targets != highest[codes])])
    if len(conflicting):
        first = subjects[conflicting[0]]
        labels = sorted(predictions.table["target"][codes == conflicting[0]].dropna().unique())
        raise DataError(
            f"{counted(len(conflicting), 'subject has', 'subjects have')} samples of more than one class; the first "
            f"is '{first}' with {labels}. "
            "Give each subject one class, or use sessions as subjects."
        )
    return [None if index < 0 else predictions.classes[index] for index in highest]
