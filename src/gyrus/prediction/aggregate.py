"""From slices to people: what the classifier says about a person whose slices it has seen."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from gyrus.errors import DataError
from gyrus.prediction.table import Predictions


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
        part=predictions.part,
        subjects=names,
        targets=_targets_by_group(predictions, codes, names),
        subject_kind=predictions.subject_kind,
    )


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
