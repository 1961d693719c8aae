"""Shortcuts: how well the class can be predicted without looking at anatomy.

Images of one class that come from another source often differ in image size, JPEG quality, the brightness of the
background, or a mark in a corner. A classifier learns such shortcuts long before it learns disease, and they fail on
other data. Columns of the table, such as age, sex and site, are tested for association with the class too.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gyrus.audit.context import AuditContext
from gyrus.audit.findings import Finding, Number
from gyrus.audit.labels import assign_folds
from gyrus.datasets.manifest import COLUMNS
from gyrus.datasets.sample_files import IMAGE_COLUMN

Rows = NDArray[np.int64]

NUISANCE_GROUPS: dict[str, tuple[str, ...]] = {
    "image size": ("rows", "columns"),
    "file size": ("bytes", "bytes per pixel"),
    "JPEG quality": ("JPEG quality",),
    "background": ("background", "background noise"),
    "corners": ("corner top left", "corner top right", "corner bottom left", "corner bottom right"),
}
"""Nuisance properties that are tested together."""

PERMUTATIONS = 40
"""How often labels are shuffled to estimate chance."""

SIGNIFICANT = 0.01
"""p-value below which a column is associated with the class."""

RELEVANT = 0.1
"""Distance of the balanced accuracy from chance, as a fraction of the way to 1, from which a shortcut is reported."""


def check(context: AuditContext) -> tuple[Finding, ...]:
    """Nuisance properties that predict the class, and columns of the table that are associated with it."""
    if not context.has_classes:
        return ()
    subjects = np.arange(len(context.targets)) if context.subjects is None else context.subjects
    unit = "image" if context.subjects is None else "subject"
    shortcuts = [
        finding
        for name, columns in NUISANCE_GROUPS.items()
        if (finding := _shortcut(context, subjects, unit, name, columns))
    ]
    if not shortcuts:
        *names, last = NUISANCE_GROUPS
        verdict = f"No shortcut was found: {', '.join(names)} and {last} do not predict the class (tested by {unit})."
        shortcuts = [Finding("shortcuts", "ok", verdict, {})]
    return (*shortcuts, *_confounders(context, subjects))


def predictability(features: NDArray[np.float64], targets: Rows, *, seed: int = 0) -> tuple[float, float, float]:
    """How well a small decision tree predicts the class of unseen subjects.

    Args:
        features: One row per subject, (S, D).
        targets: Class of each subject (S,).
        seed: Seed of the folds and the shuffles.

    Returns:
        Balanced accuracy; chance, its mean over shuffled labels; and p, the fraction of shuffles that are as good (with
        one added to each count, Phipson and Smyth 2010), or 1 where the accuracy is too low to be tested.
    """
    reached = _cross_validated(features, targets, seed)
    guessing = 1 / len(np.unique(targets))
    if (reached - guessing) / (1 - guessing) < RELEVANT:
        return reached, guessing, 1.0
    generator = np.random.default_rng(seed)
    by_chance = [_cross_validated(features, generator.permutation(targets), seed) for _ in range(PERMUTATIONS)]
    as_good = sum(value >= reached - 1e-9 for value in by_chance)
    return reached, float(np.mean(by_chance)), (as_good + 1) / (PERMUTATIONS + 1)


def association(values: pd.Series, targets: Rows) -> tuple[str, float, float]:
    """The strength of the association of a column with the class.

    Returns:
        Name of the measure, its value from 0 to 1, and a p-value: Kruskal and Wallis' epsilon squared for numbers,
        Cramer's V and the chi-squared test for categories.
    """
    from scipy import stats

    if pd.api.types.is_numeric_dtype(values) and values.nunique() > 5:
        groups = [values[targets == label].to_numpy(np.float64) for label in np.unique(targets)]
        if min(map(len, groups)) < 2:
            return "epsilon squared", 0.0, 1.0
        statistic, p_value = stats.kruskal(*groups)
        return "epsilon squared", float(statistic / (len(values) - 1)), float(p_value)
    counts = pd.crosstab(values.astype(str).to_numpy(), targets).to_numpy()
    if min(counts.shape) < 2:
        return "Cramer's V", 0.0, 1.0
    statistic, p_value = stats.chi2_contingency(counts)[:2]
    return "Cramer's V", float(np.sqrt(statistic / (counts.sum() * (min(counts.shape) - 1)))), float(p_value)


def _shortcut(context: AuditContext, subjects: Rows, unit: str, name: str, columns: tuple[str, ...]) -> Finding | None:
    nuisance = context.images.nuisance[list(columns)]
    features = nuisance.groupby(subjects).mean().to_numpy(np.float64)
    targets = context.targets[np.unique(subjects, return_index=True)[1]]
    if np.ptp(features, axis=0).max(initial=0.0) < 1e-12:
        return None
    reached, chance, p_value = predictability(features, targets, seed=context.seed)
    if p_value > 0.03 or (reached - chance) / (1 - chance) < RELEVANT:
        return None
    numbers: dict[str, Number] = {
        "property": name,
        "balanced accuracy": reached,
        "chance": chance,
        "p": p_value,
        **{
            f"mean {column}, {label}": float(nuisance[column][context.targets == index].mean())
            for column in columns
            for index, label in enumerate(context.manifest.classes)
            if (context.targets == index).any()
        },
    }
    verdict = (
        f"The {name} alone {'predict' if name.endswith('s') else 'predicts'} the class: balanced accuracy "
        f"{reached:.2f} by {unit}, chance {chance:.2f}. A classifier may use this instead of anatomy."
    )
    return Finding("shortcuts", "warning", verdict, numbers)


def _confounders(context: AuditContext, subjects: Rows) -> tuple[Finding, ...]:
    table = context.manifest.table
    first = np.unique(subjects, return_index=True)[1]
    found = []
    for column in table.columns:
        if column in COLUMNS or column == IMAGE_COLUMN:
            continue
        values = table[column].iloc[first].reset_index(drop=True)
        present = values.notna().to_numpy()
        if values.nunique() < 2 or (values.nunique() > 20 and not pd.api.types.is_numeric_dtype(values)):
            continue
        measure, strength, p_value = association(values[present], context.targets[first][present])
        numbers: dict[str, Number] = {"column": str(column), measure: strength, "p": p_value}
        if p_value < SIGNIFICANT and strength > 0.05:
            verdict = (
                f"The column {column} is associated with the class ({measure} {strength:.2f}, p = {p_value:.1g}): a "
                "classifier may learn it instead of the disease."
            )
            found.append(Finding("shortcuts", "warning", verdict, numbers))
        else:
            verdict = (
                f"The column {column} shows no clear association with the class ({measure} {strength:.2f}, "
                f"p = {p_value:.2f})."
            )
            found.append(Finding("shortcuts", "ok", verdict, numbers))
    return tuple(found)


def _cross_validated(features: NDArray[np.float64], targets: Rows, seed: int) -> float:
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.tree import DecisionTreeClassifier

    folds = assign_folds(targets, np.arange(len(targets)), seed)
    guess = np.full(len(targets), -1, np.int64)
    for fold in np.unique(folds):
        train, test = folds != fold, folds == fold
        if train.any():
            tree = DecisionTreeClassifier(max_depth=3, min_samples_leaf=2, class_weight="balanced", random_state=0)
            guess[test] = tree.fit(features[train], targets[train]).predict(features[test])
    return float(balanced_accuracy_score(targets, guess))
