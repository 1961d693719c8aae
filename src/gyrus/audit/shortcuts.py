"""What can be told about the label without looking at any anatomy.

A class whose files come from another place shows it: other sizes, another JPEG quality, a brighter background, a mark
in a corner. A classifier finds such shortcuts long before it finds disease, and they do not hold elsewhere. Age, sex
and site, where the data have them, are looked at too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gyrus.audit.findings import Finding, Number
from gyrus.audit.labels import balanced_accuracy, deal
from gyrus.datasets.manifest import COLUMNS

if TYPE_CHECKING:
    from gyrus.audit.checks import AuditContext

Rows = NDArray[np.int64]

GROUPS: dict[str, tuple[str, ...]] = {
    "image size": ("rows", "columns"),
    "file size": ("bytes", "bytes per pixel"),
    "JPEG quality": ("JPEG quality",),
    "background": ("background", "background noise"),
    "corners": ("corner top left", "corner top right", "corner bottom left", "corner bottom right"),
}
"""Circumstances that are tried together."""

PERMUTATIONS = 40
"""How often labels are dealt out anew to know what chance comes to."""

SIGNIFICANT = 0.01
"""p-value below which a column goes with the label."""

RELEVANT = 0.1
"""How far above chance, on the way to 1, a shortcut must get to be told."""

SPECIAL = ("image_column",)


def check(material: AuditContext) -> tuple[Finding, ...]:
    """Shortcuts, and columns of the table that go with the label."""
    if (material.targets < 0).any() or len(material.manifest.classes) < 2:
        return ()
    people = np.arange(len(material.targets)) if material.people is None else material.people
    unit = "image" if material.people is None else "person"
    found = [_shortcut(material, people, unit, name, columns) for name, columns in GROUPS.items()]
    return (*[finding for finding in found if finding], *_none_found(found, unit), *_confounders(material, people))


def predictability(features: NDArray[np.float64], targets: Rows, *, seed: int = 0) -> tuple[float, float, float]:
    """How well a small decision tree tells the class of people it has not seen.

    Args:
        features: One row a person, (P, D).
        targets: Class of each person (P,).
        seed: Of the folds and the shuffles.

    Returns:
        Balanced accuracy; what chance comes to, its mean over shuffled labels; and p, the share of shuffles that do as
        well (with one added to each count, Phipson and Smyth 2010), or 1 where the accuracy needs no second look.
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
    """How strongly a column goes with the class.

    Returns:
        Name of the measure, its value from 0 to 1, and a p-value: epsilon squared of Kruskal and Wallis for numbers,
        Cramer's V and chi-square of counts for words.
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


def _shortcut(material: AuditContext, people: Rows, unit: str, name: str, columns: tuple[str, ...]) -> Finding | None:
    circumstances = material.images.circumstances[list(columns)]
    features, targets = _per_person(circumstances, material.targets, people)
    if np.ptp(features, axis=0).max(initial=0.0) < 1e-12:
        return None
    reached, chance, p_value = predictability(features, targets, seed=material.seed)
    if p_value > 0.03 or (reached - chance) / (1 - chance) < RELEVANT:
        return None
    numbers: dict[str, Number] = {
        "what": name,
        "balanced accuracy": reached,
        "chance": chance,
        "p": p_value,
        **{
            f"mean {column}, {label}": float(value)
            for column in columns
            for label, value in _means(material, circumstances[column])
        },
    }
    words = (
        f"The class can be told from the {name} alone: balanced accuracy {reached:.2f} by {unit}, chance {chance:.2f}. "
        "A classifier will use this instead of anatomy."
    )
    return Finding("shortcuts", "warning", words, numbers)


def _none_found(found: list[Finding | None], unit: str) -> tuple[Finding, ...]:
    if any(found):
        return ()
    words = f"Nothing but anatomy tells the class by {unit}: not {', '.join(list(GROUPS)[:-1])} or {list(GROUPS)[-1]}."
    return (Finding("shortcuts", "ok", words, {}),)


def _confounders(material: AuditContext, people: Rows) -> tuple[Finding, ...]:
    table = material.manifest.table
    first = np.unique(people, return_index=True)[1]
    found = []
    for column in table.columns:
        if column in COLUMNS or column in SPECIAL:
            continue
        values = table[column].iloc[first].reset_index(drop=True)
        present = values.notna().to_numpy()
        if values.nunique() < 2 or (values.nunique() > 20 and not pd.api.types.is_numeric_dtype(values)):
            continue
        measure, strength, p_value = association(values[present], material.targets[first][present])
        numbers: dict[str, Number] = {"column": str(column), measure: strength, "p": p_value}
        if p_value < SIGNIFICANT and strength > 0.05:
            words = f"The column {column} goes with the class ({measure} {strength:.2f}, p {p_value:.1g}): "
            words += "it may be what is learnt."
            found.append(Finding("shortcuts", "warning", words, numbers))
        else:
            words = f"The column {column} is no confounder that shows ({measure} {strength:.2f}, p {p_value:.2f})."
            found.append(Finding("shortcuts", "ok", words, numbers))
    return tuple(found)


def _per_person(circumstances: pd.DataFrame, targets: Rows, people: Rows) -> tuple[NDArray[np.float64], Rows]:
    _, first = np.unique(people, return_index=True)
    return circumstances.groupby(people).mean().to_numpy(np.float64), targets[first]


def _means(material: AuditContext, values: pd.Series) -> list[tuple[str, float]]:
    return [
        (name, float(values[material.targets == index].mean()))
        for index, name in enumerate(material.manifest.classes)
        if (material.targets == index).any()
    ]


def _cross_validated(features: NDArray[np.float64], targets: Rows, seed: int) -> float:
    from sklearn.tree import DecisionTreeClassifier

    folds = deal(targets, np.arange(len(targets)), seed)
    guess = np.full(len(targets), -1, np.int64)
    for fold in np.unique(folds):
        train, test = folds != fold, folds == fold
        if train.any():
            tree = DecisionTreeClassifier(max_depth=3, min_samples_leaf=2, class_weight="balanced", random_state=0)
            guess[test] = tree.fit(features[train], targets[train]).predict(features[test])
    return balanced_accuracy(guess, targets)
