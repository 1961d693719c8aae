"""Shortcuts: how well the class can be predicted without looking at anatomy.

Images of one class that come from another source often differ in image size, JPEG quality, the brightness of the
background, or a mark in a corner. A classifier learns such shortcuts long before it learns disease, and they fail on
other data. Columns of the table, such as age, sex and site, are tested for association with the class too.

A column can be a confounder if it describes the subject: it has one value per subject. A column whose values differ
between the images of a subject describes the image or a mark on it, such as a box in pixels, and is not tested. Where
subjects are unknown, only columns with at most 20 distinct values are tested, and those with a name of
:data:`SUBJECT_COLUMNS`.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gyrus.audit.context import AuditContext
from gyrus.audit.findings import Finding, Number
from gyrus.audit.labels import assign_folds
from gyrus.datasets.manifest import CHANNEL_FILES, COLUMNS, MEMBERS, VIEW, VOLUME_FILES
from gyrus.datasets.sample_files import ASSUMED, IMAGE_COLUMN
from gyrus.text import counted, p_value_text

Rows = NDArray[np.int64]

NUISANCE_GROUPS: dict[str, tuple[str, ...]] = {
    "image size": ("rows", "columns", "slices"),
    "voxel size": ("voxel size",),
    "file size": ("bytes", "bytes per pixel"),
    "JPEG quality": ("JPEG quality",),
    "background": ("background", "background noise"),
    "corners": ("corner top left", "corner top right", "corner bottom left", "corner bottom right"),
}
"""Nuisance properties that are tested together."""

FEWEST = 4
"""Smallest number of subjects with which a shortcut can be found."""

PERMUTATIONS = 40
"""How often labels are shuffled to estimate chance."""

NO_CONFOUNDERS = (*COLUMNS, IMAGE_COLUMN, MEMBERS, VIEW, VOLUME_FILES, CHANNEL_FILES, ASSUMED)
"""Columns of a manifest that Gyrus itself writes."""

SUBJECT_COLUMNS = ("age", "sex", "gender", "education", "height", "weight", "bmi", "mmse", "cdr", "handedness")
"""Names of columns that describe the subject, whatever the number of their values."""

MAX_CATEGORIES = 20
"""Largest number of distinct texts in a column that is tested; and of any values where subjects are unknown."""

MOST_GROUPS = 20
"""A column with at most so many values, such as sites, can be left out value by value."""

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
        measured = context.images.nuisance.columns
        *names, last = (name for name, columns in NUISANCE_GROUPS.items() if set(columns) & set(measured))
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
        one added to each count, Phipson and Smyth 2010), or 1 where the accuracy is too low to be tested, or where
        there is one class or fewer than :data:`FEWEST` subjects.
    """
    guessing = 1 / len(np.unique(targets))
    if guessing == 1 or len(targets) < FEWEST:
        return guessing, guessing, 1.0
    reached = _cross_validated(features, targets, seed)
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
        Cramer's V and the chi-squared test for categories. There must be two values and two classes.
    """
    from scipy import stats

    if pd.api.types.is_numeric_dtype(values) and values.nunique() > 5:
        groups = [values[targets == label].to_numpy(np.float64) for label in np.unique(targets)]
        statistic, p_value = stats.kruskal(*groups)
        return "epsilon squared", float(statistic / (len(values) - 1)), float(p_value)
    counts = pd.crosstab(values.astype(str).to_numpy(), targets).to_numpy()
    statistic, p_value = stats.chi2_contingency(counts)[:2]
    return "Cramer's V", float(np.sqrt(statistic / (counts.sum() * (min(counts.shape) - 1)))), float(p_value)


def _shortcut(context: AuditContext, subjects: Rows, unit: str, name: str, columns: tuple[str, ...]) -> Finding | None:
    nuisance = context.images.nuisance.filter(items=columns)
    columns = tuple(nuisance.columns)
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
    names = [str(name) for name in table.columns if name not in NO_CONFOUNDERS]
    reasons = {name: _why_not_tested(context, subjects, name) for name in names}
    tested = tuple(_confounder(context, subjects, name) for name in names if not reasons[name])
    left_out = {name: reason for name, reason in reasons.items() if reason}
    if not left_out:
        return tested
    columns = ", ".join(f"{name} ({reason})" for name, reason in left_out.items())
    verdict = (
        f"{counted(len(left_out), 'column was', 'columns were')} not tested for association with the class: {columns}."
    )
    return (*tested, Finding("shortcuts", "note", verdict, {"columns not tested": len(left_out)}))


def _why_not_tested(context: AuditContext, subjects: Rows, column: str) -> str:
    """Why a column cannot be a confounder or cannot be tested, in words; empty if it is tested."""
    values = context.manifest.table[column]
    distinct = int(values.nunique())
    if distinct < 2:
        return "the same value everywhere"
    if (
        values.dropna().astype(str).str.casefold() == context.manifest.table["label"].str.casefold()[values.notna()]
    ).all():
        return "the label itself"
    if values.groupby(subjects).nunique().max() > 1:
        return "differs between images of a subject"
    numeric = pd.api.types.is_numeric_dtype(values)
    if distinct > MAX_CATEGORIES and not numeric:
        return f"{distinct:,} different texts"
    if distinct > MAX_CATEGORIES and context.subjects is None and column.casefold() not in SUBJECT_COLUMNS:
        return "may differ between images of a subject; subjects are unknown"
    known, targets = _by_subject(context, subjects, column)
    if len(np.unique(targets)) < 2 or np.bincount(targets)[np.unique(targets)].min() < 2 or known.nunique() < 2:
        return "known of fewer than two subjects of a class"
    return ""


def _by_subject(context: AuditContext, subjects: Rows, column: str) -> tuple[pd.Series, Rows]:
    """The value and the class of each subject with a value."""
    first = context.manifest.table[column].groupby(subjects).first()
    targets = context.targets[np.unique(subjects, return_index=True)[1]]
    known = first.notna().to_numpy()
    return first[known].reset_index(drop=True), targets[known]


def _confounder(context: AuditContext, subjects: Rows, column: str) -> Finding:
    measure, strength, p_value = association(*_by_subject(context, subjects, column))
    numbers: dict[str, Number] = {"column": column, measure: strength, "p": p_value}
    result = f"({measure} {strength:.2f}, {p_value_text(p_value)})"
    if p_value < SIGNIFICANT and strength > 0.05:
        few = context.manifest.table[column].nunique() <= MOST_GROUPS
        by_group = f"; split.method=leave-one-group-out with split.group={column} tests on each value in turn" * few
        verdict = (
            f"The column {column} is associated with the class {result}: a classifier may learn it instead of the "
            f"disease. split.stratify=[{column}] balances it between the subsets{by_group}; --table-columns {column} "
            f"shows what an image adds to it, and gyrus evaluate RUN --matched {column} scores subjects alike in it."
        )
        return Finding("shortcuts", "warning", verdict, numbers)
    return Finding(
        "shortcuts", "ok", f"The column {column} shows no clear association with the class {result}.", numbers
    )


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
