"""The scores of the folds of a cross-validation of a number: limitations and text.

The table and the summary are those of :mod:`gyrus.evaluation.out_of_fold`.
"""

from __future__ import annotations

import pandas as pd

from gyrus.evaluation.number_metrics import NUMBER_METRICS
from gyrus.evaluation.number_result import NumberEvaluation
from gyrus.evaluation.out_of_fold import DEPENDENT_FOLDS
from gyrus.evaluation.result import unit_name


def number_fold_notes(summary: pd.DataFrame) -> tuple[str, ...]:
    """Limitations of the scores of folds, as sentences.

    Args:
        summary: From :func:`gyrus.evaluation.out_of_fold.summarise_folds`.
    """
    row = summary[summary["metric"] == "pearson"].iloc[0]
    notes = [DEPENDENT_FOLDS]
    if pd.notna(row["mean"]) and pd.notna(row["pooled"]):
        notes.append(
            f"Pearson correlation is {row['mean']:.3f} as the mean of the folds and {row['pooled']:.3f} pooled. "
            "Pooled, predictions of several networks with different offsets are correlated together. State which of "
            "the two you quote."
        )
    return tuple(notes)


def number_summary_text(summary: pd.DataFrame, pooled: NumberEvaluation) -> str:
    """The summary as a text table; a dash where there is no number."""
    lines = []
    several = bool((summary["pooled_highest"] > summary["pooled_lowest"]).any())
    for unit, scores in pooled.scores.items():
        title = f"By {unit_name(pooled, scores)}"
        lines.append(f"{title:32}{'mean':>9}{'SD':>9}{'lowest':>9}{'highest':>9}{'folds':>7}  pooled")
        for row in summary[summary["unit"] == unit].to_dict("records"):
            cells = "".join(_cell(row[name]) for name in ("mean", "sd", "lowest", "highest"))
            spread = f", repeats {row['pooled_lowest']:.3f} to {row['pooled_highest']:.3f}" if several else ""
            counts = f"{row['defined']}" if row["defined"] == row["folds"] else f"{row['defined']}/{row['folds']}"
            estimate = scores.metrics[row["metric"]].text()
            lines.append(f"{NUMBER_METRICS[row['metric']].title:32}{cells}{counts:>7}  {estimate}{spread}")
        lines.append("")
    return "\n".join(lines).rstrip()


def _cell(value: float) -> str:
    return f"{'-' if pd.isna(value) else f'{value:.3f}':>9}"
