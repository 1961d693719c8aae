"""Cross-validation: out-of-fold predictions, the scores of the folds, and the pooled scores.

Each fold tests its own network on its own test subjects. The predictions of all folds for their test sets form one
table, the out-of-fold predictions; their scores are the pooled scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from gyrus.errors import DataError
from gyrus.evaluation.metrics import ALL_METRICS, ORDERED_HEADLINES
from gyrus.evaluation.result import AnyEvaluation, Evaluation, unit_name
from gyrus.inference.number_predictions import NumberPredictions, Table
from gyrus.inference.predictions import Predictions, PredictionTable
from gyrus.text import counted

OUT_OF_FOLD = "out-of-fold"
"""The subset of out-of-fold predictions."""

FOLD_METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "macro_roc_auc", *ORDERED_HEADLINES)
"""The metrics that tables and figures of folds show, the last ones only of ordered classes."""


def join_folds(tables: Sequence[Table]) -> Table:
    """The out-of-fold predictions of a repeat: those of all folds as one table, with a further column ``fold``.

    Args:
        tables: Predictions for the test set of each fold, in the order of the folds.

    Raises:
        DataError: A sample is in the test sets of two folds.
    """
    first = tables[0]
    table = pd.concat([each.table.assign(fold=fold) for fold, each in enumerate(tables)], ignore_index=True)
    about: dict[str, Any] = {
        "split_unit": first.split_unit,
        "subset": OUT_OF_FOLD,
        "subject_kind": first.subject_kind,
        "target": first.target,
    }
    if isinstance(first, NumberPredictions):
        return NumberPredictions.from_table(table, **about)
    return Predictions.from_table(table, classes=first.classes, **about)


def fold_scores(evaluations: Mapping[tuple[int, int], AnyEvaluation]) -> pd.DataFrame:
    """One row per repeat, fold and unit: the number of rows and every metric; empty where it is undefined.

    Args:
        evaluations: On the test set of each fold, by repeat and fold.
    """
    rows = [
        {"repeat": repeat, "fold": fold, "unit": unit, "count": scores.count}
        | {name: np.nan if found.value is None else found.value for name, found in scores.metrics.items()}
        for (repeat, fold), evaluation in evaluations.items()
        for unit, scores in evaluation.scores.items()
    ]
    return pd.DataFrame(rows)


def summarise_folds(scores: pd.DataFrame, pooled: Sequence[AnyEvaluation]) -> pd.DataFrame:
    """One row per unit and metric: mean, SD and range over the folds, and the pooled score.

    Args:
        scores: From :func:`fold_scores`.
        pooled: The evaluation of the out-of-fold predictions of each repeat.

    Returns:
        Columns unit, metric, mean, sd, lowest, highest, defined (folds with a value), folds, pooled, low, high (of
        the first repeat), pooled_lowest and pooled_highest (over the repeats). Empty where there is no number.
    """
    rows = []
    for unit in pooled[0].scores:
        of_unit = scores[scores["unit"] == unit]
        for name in pooled[0].scores[unit].metrics:
            values = of_unit[name].dropna()
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
                    "folds": len(of_unit),
                    "pooled": first.value,
                    "low": first.low,
                    "high": first.high,
                    "pooled_lowest": min(repeated, default=None),
                    "pooled_highest": max(repeated, default=None),
                }
            )
    numbers = [column for column in rows[0] if column not in {"unit", "metric"}]
    return pd.DataFrame(rows).astype(dict.fromkeys(numbers, float)).astype({"defined": int, "folds": int})


DEPENDENT_FOLDS = (
    "The folds are not independent: any two share most of their training data. So the SD over folds is not a "
    "standard error, and there is no unbiased estimate of one (Bengio and Grandvalet 2004). The intervals are "
    "those of the pooled predictions; they resample subjects and treat the networks as fixed."
)


def fold_notes(summary: pd.DataFrame, pooled: Evaluation, folds: int) -> tuple[str, ...]:
    """Limitations of the scores of folds, as sentences.

    Args:
        summary: From :func:`summarise_folds`.
        pooled: The evaluation of the out-of-fold predictions of the first repeat.
        folds: The number of folds.
    """
    return (
        DEPENDENT_FOLDS,
        *_class_notes(pooled, folds),
        *_area_notes(summary),
    )


def summary_text(summary: pd.DataFrame, pooled: Evaluation) -> str:
    """The summary as a text table; a dash where there is no number."""
    lines = []
    several = bool((summary["pooled_highest"] > summary["pooled_lowest"]).any())
    for unit, scores in pooled.scores.items():
        title = f"By {unit_name(pooled, scores)}"
        lines.append(f"{title:30}{'mean':>8}{'SD':>8}{'lowest':>8}{'highest':>9}{'folds':>7}  pooled")
        rows = summary[(summary["unit"] == unit) & summary["metric"].isin(FOLD_METRICS)]
        for row in rows.to_dict("records"):
            numbers = "".join(_cell(row[name]) for name in ("mean", "sd", "lowest")) + _cell(row["highest"], 9)
            spread = f", repeats {row['pooled_lowest']:.3f} to {row['pooled_highest']:.3f}" if several else ""
            counts = f"{row['defined']}" if row["defined"] == row["folds"] else f"{row['defined']}/{row['folds']}"
            estimate = scores.metrics[row["metric"]].text()
            lines.append(f"{ALL_METRICS[row['metric']].title:30}{numbers}{counts:>7}  {estimate}{spread}")
        lines.append("")
    return "\n".join(lines).rstrip()


def _cell(value: float, width: int = 8) -> str:
    return f"{'-' if np.isnan(value) else f'{value:.3f}':>{width}}"


def _class_notes(pooled: Evaluation, folds: int) -> list[str]:
    scores = pooled.scores["image"] if pooled.split_unit == "image" else pooled.headline
    notes = []
    for name, count in scores.class_counts.items():
        units = unit_name(pooled, scores, count)
        if count == 1:
            notes.append(
                f"Class '{name}' has 1 {units}: the fold that tests it has none to train on, and no other fold tests "
                "it. The class cannot be evaluated; leave it out, or add more subjects."
            )
        elif 0 < count < folds:
            without = f"{folds - count} folds test" if folds - count > 1 else "1 fold tests"
            notes.append(
                f"Class '{name}' has {count} {units} for {folds} folds: at least {without} none of it, and averages "
                "over the classes omit it there. Use the pooled scores only."
            )
    return notes


def _area_notes(summary: pd.DataFrame) -> list[str]:
    """Pooled and mean areas are different quantities (Parker, Guenter and Bedo 2007, Stratification bias)."""
    row = summary[summary["metric"] == "macro_roc_auc"].iloc[0]
    if np.isnan(row["mean"]) or np.isnan(row["pooled"]):
        return []
    return [
        f"Macro ROC AUC is {row['mean']:.3f} as the mean of the folds and {row['pooled']:.3f} pooled. Within a fold "
        "one network ranks the subjects. Pooled, they are ranked across networks whose probabilities may be on "
        "different scales, which can lower it. State which of the two you quote."
    ]


def require_all_tested(tested: PredictionTable, samples: Sequence[str]) -> None:
    """Raise DataError where a sample is in the test set of no fold."""
    missing = sorted(set(samples) - set(tested.table["sample"]))
    if missing:
        raise DataError(
            f"{counted(len(missing), 'sample is', 'samples are')} in the test set of no fold, the first is "
            f"'{missing[0]}'."
        )
