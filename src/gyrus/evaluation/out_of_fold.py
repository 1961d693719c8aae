"""The folds of a cross-validation: their scores beside those of all people at once, and what to say about both.

Each fold judges another network on other people. What all of them said about the people that they did not know makes
one table, the out-of-fold predictions, and its scores are the pooled ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from gyrus.errors import DataError
from gyrus.evaluation.metrics import METRICS
from gyrus.evaluation.result import Evaluation
from gyrus.evaluation.text import unit_word
from gyrus.inference.predictions import Predictions

OUT_OF_FOLD = "out-of-fold"
"""The part that out-of-fold predictions are of."""

SHOWN = ("accuracy", "balanced_accuracy", "macro_f1", "macro_roc_auc")


def out_of_fold(tables: Sequence[Predictions]) -> Predictions:
    """The predictions of all folds of a repeat as one table, with a further column that names the fold.

    Args:
        tables: The test set of each fold, in the order of the folds.

    Raises:
        DataError: A sample was tested in two folds.
    """
    first = tables[0]
    table = pd.concat([each.table.assign(fold=fold) for fold, each in enumerate(tables)], ignore_index=True)
    return Predictions.from_table(
        table, classes=first.classes, split_unit=first.split_unit, subset=OUT_OF_FOLD, subject_kind=first.subject_kind
    )


def fold_scores(evaluations: Mapping[tuple[int, int], Evaluation]) -> pd.DataFrame:
    """One row a repeat, fold and unit: how many were judged, and every metric; empty where it is not defined.

    Args:
        evaluations: Of the test set of each fold, by repeat and fold.
    """
    rows = [
        {"repeat": repeat, "fold": fold, "unit": unit, "judged": scores.count}
        | {name: np.nan if scores.metrics[name].value is None else scores.metrics[name].value for name in METRICS}
        for (repeat, fold), evaluation in evaluations.items()
        for unit, scores in evaluation.scores.items()
    ]
    return pd.DataFrame(rows)


def summarise_folds(scores: pd.DataFrame, pooled: Sequence[Evaluation]) -> pd.DataFrame:
    """One row a unit and metric: mean, SD and range over the folds, and the pooled score.

    Args:
        scores: What :func:`fold_scores` gave.
        pooled: The evaluation of the out-of-fold predictions of each repeat.

    Returns:
        Columns unit, metric, mean, sd, lowest, highest, defined (folds with a value), folds, pooled, low, high (of
        the first repeat), pooled_lowest and pooled_highest (over the repeats). Empty where there is no number.
    """
    rows = []
    for unit in pooled[0].scores:
        part = scores[scores["unit"] == unit]
        for name in METRICS:
            values = part[name].dropna()
            first = pooled[0].scores[unit].metrics[name]
            repeated = [value for each in pooled if (value := each.scores[unit].metrics[name].value) is not None]
            rows.append(
                {
                    "unit": unit,
                    "metric": name,
                    "mean": values.mean() if len(values) else np.nan,
                    "sd": values.std() if len(values) > 1 else np.nan,
                    "lowest": values.min() if len(values) else np.nan,
                    "highest": values.max() if len(values) else np.nan,
                    "defined": len(values),
                    "folds": len(part),
                    "pooled": first.value,
                    "low": first.low,
                    "high": first.high,
                    "pooled_lowest": min(repeated, default=None),
                    "pooled_highest": max(repeated, default=None),
                }
            )
    numbers = [column for column in rows[0] if column not in {"unit", "metric"}]
    return pd.DataFrame(rows).astype(dict.fromkeys(numbers, float)).astype({"defined": int, "folds": int})


def fold_notes(summary: pd.DataFrame, pooled: Evaluation, folds: int) -> tuple[str, ...]:
    """What a reader of the scores of folds must know, in sentences.

    Args:
        summary: What :func:`summarise_folds` gave.
        pooled: The evaluation of the first repeat's out-of-fold predictions.
        folds: The number of folds of a repeat.
    """
    return (
        "The folds are not independent: any two share most of what they learnt from. So the SD over folds is no "
        "standard error, and there is no unbiased estimate of one (Bengio and Grandvalet 2004). The intervals are "
        "those of the pooled predictions; they resample people, with the networks as they are.",
        *_class_notes(pooled, folds),
        *_area_notes(summary),
    )


def summary_text(summary: pd.DataFrame, pooled: Evaluation) -> str:
    """The summary as a table for the terminal; a dash where there is no number."""
    lines = []
    several = bool((summary["pooled_highest"] > summary["pooled_lowest"]).any())
    for unit, scores in pooled.scores.items():
        title = f"By {unit_word(pooled, scores)}"
        lines.append(f"{title:22}{'mean':>8}{'SD':>8}{'lowest':>8}{'highest':>9}{'folds':>7}  pooled")
        shown = summary[(summary["unit"] == unit) & summary["metric"].isin(SHOWN)]
        for row in shown.to_dict("records"):
            numbers = "".join(_cell(row[name]) for name in ("mean", "sd", "lowest")) + _cell(row["highest"], 9)
            spread = f", repeats {row['pooled_lowest']:.3f} to {row['pooled_highest']:.3f}" if several else ""
            counts = f"{row['defined']}" if row["defined"] == row["folds"] else f"{row['defined']}/{row['folds']}"
            estimate = scores.metrics[row["metric"]].text()
            lines.append(f"{METRICS[row['metric']].title:22}{numbers}{counts:>7}  {estimate}{spread}")
        lines.append("")
    return "\n".join(lines).rstrip()


def _cell(value: float, width: int = 8) -> str:
    return f"{'-' if np.isnan(value) else f'{value:.3f}':>{width}}"


def _class_notes(pooled: Evaluation, folds: int) -> list[str]:
    scores = pooled.scores["image"] if pooled.split_unit == "image" else pooled.headline
    notes = []
    for name, count in scores.class_counts.items():
        units = unit_word(pooled, scores, count)
        if count == 1:
            notes.append(
                f"Class '{name}' has 1 {units}: the fold that is asked about it has never learnt the class, and no "
                "other tests it. Nothing can be said about it; leave it out, or find more people."
            )
        elif 0 < count < folds:
            without = f"{folds - count} folds test" if folds - count > 1 else "1 fold tests"
            notes.append(
                f"Class '{name}' has {count} {units} for {folds} folds: at least {without} none of it, and averages "
                "over the classes leave it out there. Look at the pooled scores only."
            )
    return notes


def _area_notes(summary: pd.DataFrame) -> list[str]:
    """Pooled and mean areas are different quantities (Parker, Guenter and Bedo 2007, Stratification bias)."""
    row = summary[summary["metric"] == "macro_roc_auc"].iloc[0]
    if np.isnan(row["mean"]) or np.isnan(row["pooled"]):
        return []
    return [
        f"Macro ROC AUC is {row['mean']:.3f} as the mean of the folds and {row['pooled']:.3f} pooled. Within a fold "
        "people are ranked by one network. Pooled, they are ranked across networks whose probabilities may be on "
        "different scales, which can make it lower. Say which of the two you quote."
    ]


def require_all_tested(tested: Predictions, samples: Sequence[str]) -> None:
    """Check that the folds together tested every sample.

    Raises:
        DataError: Some were left out.
    """
    missing = sorted(set(samples) - set(tested.table["sample"]))
    if missing:
        raise DataError(f"{len(missing)} samples were tested by no fold, the first is '{missing[0]}'.")
