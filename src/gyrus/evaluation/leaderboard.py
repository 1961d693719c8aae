"""Leaderboard: classifiers ranked by a metric, with rank intervals and paired tests against the first.

A table holds only classifiers that were evaluated on the same subjects after the same kind of split. The first of a
table was selected on the test set, so its score is optimistic; the validation score, where there is one, shows which
classifier would have been selected without the test set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from gyrus.datasets.identifiers import DIFFERENCES, examples, match_identifiers
from gyrus.errors import DataError
from gyrus.evaluation.bootstrap import (
    BootstrapConfig,
    bootstrap_metrics,
    cluster_indices,
    cluster_samples,
    percentile_interval,
    score_samples,
)
from gyrus.evaluation.comparison import compare, holm, labelled_rows
from gyrus.evaluation.evaluate import evaluate
from gyrus.evaluation.metrics import ALL_METRICS, metrics_of, stage_scores
from gyrus.evaluation.number_result import NumberEvaluation
from gyrus.evaluation.result import Estimate, Evaluation, Unit, unit_name
from gyrus.inference.predictions import Predictions
from gyrus.registry import look_up


@dataclass(frozen=True)
class Entry:
    """A classifier to rank.

    Attributes:
        name: Unique among the entries.
        test: Its predictions for the test set.
        val: Its predictions for the validation set; None where unknown.
        facts: Further facts by title: the model, its parameters, the seed.
    """

    name: str
    test: Predictions
    val: Predictions | None = None
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Standing:
    """The place of one classifier in its table.

    Attributes:
        entry: The classifier.
        evaluation: All its scores.
        rank: From 1; equal scores share the better rank.
        ranks: The bootstrap interval of its rank; None without resamples.
        difference: Its score minus that of the first of the table; None for the first itself.
        p_value: Of no difference from the first, by paired permutation of subjects, corrected by Holm's method for the
            number of comparisons in the table; None for the first, and where there is no score.
        validation: Its score on its own validation set; None where unknown.
    """

    entry: Entry
    evaluation: Evaluation
    rank: int
    ranks: tuple[int, int] | None
    difference: Estimate | None
    p_value: float | None
    validation: float | None


@dataclass(frozen=True)
class Table:
    """Classifiers that were evaluated on the same subjects, the best first.

    Attributes:
        metric: A name of :func:`gyrus.evaluation.metrics.metrics_of`.
        unit: What was scored.
        standings: The classifiers in order.
        agreement: Fraction of rows for which two classifiers predict the same class, by both names.
        missed: The subjects or images that every classifier gets wrong, by name.
        chosen: The classifier with the best validation score; None where they have different validation sets.
    """

    metric: str
    unit: Unit
    standings: tuple[Standing, ...]
    agreement: pd.DataFrame
    missed: tuple[str, ...]
    chosen: str | None

    @property
    def evaluation(self) -> Evaluation:
        """The scores of the first; what it states about the data holds for all."""
        return self.standings[0].evaluation

    @property
    def count(self) -> int:
        """The number of subjects or images."""
        return self.evaluation.scores[self.unit].count

    def estimate(self, standing: Standing, metric: str | None = None) -> Estimate:
        """A score of a classifier, by default the one that determines the order."""
        return standing.evaluation.scores[self.unit].metrics[metric or self.metric]


@dataclass(frozen=True)
class Leaderboard:
    """Tables of classifiers, one per test set and kind of split; classifiers of two tables are not ranked.

    ``notes`` report ids of subjects and images that were compared in another spelling.
    """

    tables: tuple[Table, ...]
    metric: str
    resamples: int
    seed: int
    level: float
    notes: tuple[str, ...] = ()


def rank_entries(
    entries: Sequence[Entry],
    *,
    metric: str = "accuracy",
    unit: Unit | None = None,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Leaderboard:
    """Rank classifiers; those evaluated on the same subjects share a table.

    Args:
        entries: The classifiers.
        metric: Determines the order; a name of :func:`gyrus.evaluation.metrics.metrics_of`.
        unit: "subject" or "image"; by default by subject where subjects are known, else by image.
        resamples: Bootstrap resamples and permutations of subjects; 0 for neither.
        seed: Seed of both.
        level: Confidence level.

    Raises:
        DataError: Two entries share a name, or there is none, or one cannot be scored by ``unit``.
        UnknownNameError: There is no such metric.
    """
    look_up(metric, ALL_METRICS, "metric")
    if unit is not None:
        look_up(unit, {"subject": None, "image": None}, "unit")
    if not entries:
        raise DataError("There is nothing to rank. Give run folders, or tables of predictions.")
    require_distinct_names([entry.name for entry in entries])
    entries, notes = _with_equal_ids(entries)
    bootstrap = BootstrapConfig(resamples, seed, level)
    groups: dict[object, list[Entry]] = {}
    for entry in entries:
        chosen_unit: Unit = unit or ("subject" if entry.test.subjects_known else "image")
        groups.setdefault((chosen_unit, *_test_set(entry.test, chosen_unit)), []).append(entry)
    order = sorted(groups, key=lambda key: (groups[key][0].test.warning != "", -len(groups[key])))
    tables = tuple(_table(groups[key], key[0], metric, bootstrap) for key in order)  # type: ignore[index]
    return Leaderboard(tables, metric, resamples, seed, level, notes)


def _with_equal_ids(entries: Sequence[Entry]) -> tuple[list[Entry], tuple[str, ...]]:
    """The entries with one spelling for each subject and image: that of the first entry that has it."""
    tests, changed = _in_one_spelling([entry.test for entry in entries])
    vals, _ = _in_one_spelling([entry.val for entry in entries])
    notes = tuple(
        f"'{entry.name}': {len(pairs)} ids of subjects or images differ from those of the others in {DIFFERENCES}, and "
        f"were compared with them, such as '{next(iter(pairs))}' with '{next(iter(pairs.values()))}'."
        for entry, pairs in zip(entries, changed, strict=True)
        if pairs
    )
    return [
        replace(entry, test=test or entry.test, val=val) for entry, test, val in zip(entries, tests, vals, strict=True)
    ], notes


def _in_one_spelling(
    tables: Sequence[Predictions | None],
) -> tuple[list[Predictions | None], list[dict[str, str]]]:
    known: dict[str, dict[str, None]] = {"subject": {}, "sample": {}}
    found: list[Predictions | None] = []
    changed: list[dict[str, str]] = []
    for table in tables:
        pairs: dict[str, str] = {}
        for column, seen in known.items():
            if table is None:
                continue
            ids = [str(name) for name in table.table[column].dropna().unique()]
            new = match_identifiers(ids, seen).spelled_otherwise
            # Two ids of one table must not become one.
            if len({*ids} - {*new} | {*new.values()}) == len(ids) and new:
                cells = table.table[column].replace(new)
                table = replace(table, table=table.table.assign(**{column: cells}))
                pairs |= new
            seen.update(dict.fromkeys(str(name) for name in table.table[column].dropna().unique()))
        found.append(table)
        changed.append(pairs)
    return found, changed


def _test_set(predictions: Predictions, unit: Unit) -> tuple[object, ...]:
    """What two classifiers must share to be ranked: the classes, the kind of split, and the rows with their classes."""
    table = labelled_rows(predictions, unit).table
    rows = frozenset(zip(table["sample"], table["target"], strict=True))
    return frozenset(predictions.classes), predictions.split_unit, predictions.subject_kind, rows


def _table(entries: Sequence[Entry], unit: Unit, metric: str, bootstrap: BootstrapConfig) -> Table:
    # Predictions without an order, as of earlier versions or other tools, are ranked beside those with one.
    first = next((entry.test for entry in entries if entry.test.target.is_ordered), entries[0].test)
    look_up(metric, metrics_of(ordered=first.target.is_ordered), "metric of these classes")
    entries = [replace(entry, test=_with_classes_of(first, entry.test)) for entry in entries]
    entries = [replace(entry, val=_with_classes_of(first, entry.val) if entry.val else None) for entry in entries]
    evaluations = [evaluate(entry.test, **asdict(bootstrap)) for entry in entries]
    scores = np.array([score_of(evaluation, unit, metric) for evaluation in evaluations])
    values = ALL_METRICS[metric].goodness(scores)
    ranks, order = _ranks(values), np.lexsort((np.arange(len(values)), np.nan_to_num(-values, nan=np.inf)))
    intervals = _rank_intervals([entry.test for entry in entries], unit, metric, bootstrap)
    best = entries[order[0]]
    differences = [
        None if entry is best else compare(entry.test, best.test, metric=metric, unit=unit, **asdict(bootstrap))
        for entry in entries
    ]
    p_values = holm([each.p_value if each else None for each in differences])
    standings = [
        Standing(
            entry=entries[index],
            evaluation=evaluations[index],
            rank=int(ranks[index]),
            ranks=intervals[index] if intervals else None,
            difference=each.estimate if (each := differences[index]) else None,
            p_value=p_values[index],
            validation=_validation_score(entries[index], unit, metric),
        )
        for index in order
    ]
    rows = {standing.entry.name: labelled_rows(standing.entry.test, unit) for standing in standings}
    return Table(
        metric, unit, tuple(standings), _agreement(rows), _missed_by_all(rows), _chosen(standings, unit, metric)
    )


def _with_classes_of(first: Predictions, predictions: Predictions) -> Predictions:
    """The same predictions with the classes in the order of others."""
    if {*predictions.classes} != {*first.classes}:  # a validation set of another classifier
        return predictions
    return Predictions.from_table(
        predictions.table,
        classes=first.classes,
        target=first.target,
        split_unit=predictions.split_unit,
        subset=predictions.subset,
        subject_kind=predictions.subject_kind,
    )


def require_distinct_names(names: Sequence[str]) -> None:
    """Refuse entries that share a name.

    Raises:
        DataError: Two have the same.
    """
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise DataError(f"Two entries have the name {', '.join(sorted(twice))}. Each needs its own name.")


def score_of(evaluation: Evaluation | NumberEvaluation, unit: Unit, metric: str) -> float:
    """A score, NaN where it is undefined.

    Raises:
        DataError: There are no scores of the unit.
    """
    if unit not in evaluation.scores:
        raise DataError("The subject of some images is unknown, so there is no ranking by subject. Use unit 'image'.")
    value = evaluation.scores[unit].metrics[metric].value
    return np.nan if value is None else value


def _ranks(values: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Rank along the first axis, 1 for the highest; ties share the better rank, undefined values come last."""
    filled = np.where(np.isnan(values), -np.inf, values)
    return np.asarray(1 + (filled[None] > filled[:, None]).sum(axis=1), dtype=np.int64)


def _rank_intervals(
    predictions: Sequence[Predictions], unit: Unit, metric: str, bootstrap: BootstrapConfig
) -> list[tuple[int, int]] | None:
    """The percentile interval of each rank, over resamples that are the same for all."""
    if not bootstrap.resamples:
        return None
    ranks = _ranks(np.stack([_resampled(each, unit, metric, bootstrap) for each in predictions]))
    ends = [percentile_interval(row.astype(np.float64), bootstrap.level) for row in ranks]
    return [(int(np.floor(low)), int(np.ceil(high))) for low, high in ends]


def _resampled(
    predictions: Predictions, unit: Unit, metric: str, bootstrap: BootstrapConfig
) -> npt.NDArray[np.float64]:
    rows = labelled_rows(predictions, unit)
    stages = stage_scores(rows.probabilities) if rows.target.is_ordered else None
    samples = cluster_samples(rows.targets, rows.predicted, rows.probabilities, cluster_indices(rows), stages)
    _, reference, _ = score_samples(samples)
    values = bootstrap_metrics(samples, reference, resamples=bootstrap.resamples, seed=bootstrap.seed)
    return ALL_METRICS[metric].goodness(values.overall[metric])


def _validation_score(entry: Entry, unit: Unit, metric: str) -> float | None:
    if entry.val is None or not (entry.val.targets >= 0).any():
        return None
    scores = evaluate(entry.val, resamples=0).scores
    return scores[unit].metrics[metric].value if unit in scores else None


def _chosen(standings: Sequence[Standing], unit: Unit, metric: str) -> str | None:
    """The best by validation score; None where the validation sets differ or are unknown."""
    subsets = {_test_set(each.entry.val, unit) if each.entry.val is not None else None for each in standings}
    if len(subsets) != 1 or None in subsets or any(each.validation is None for each in standings):
        return None
    best = max(standings, key=lambda each: ALL_METRICS[metric].goodness(np.array(each.validation or 0.0)))
    return best.entry.name


def _agreement(rows: Mapping[str, Predictions]) -> pd.DataFrame:
    predicted = {name: each.predicted for name, each in rows.items()}
    equal = [[float((one == other).mean()) for other in predicted.values()] for one in predicted.values()]
    return pd.DataFrame(equal, index=list(predicted), columns=list(predicted))


def _missed_by_all(rows: Mapping[str, Predictions]) -> tuple[str, ...]:
    wrong = np.logical_and.reduce([each.predicted != each.targets for each in rows.values()])
    names = next(iter(rows.values())).table["sample"][wrong]
    return tuple(sorted(map(str, names)))


def describe(leaderboard: Leaderboard) -> tuple[str, ...]:
    """What the tables show and how to read them, as sentences, the most important first."""
    sentences = [sentence for table in leaderboard.tables for sentence in _describe_table(table)]
    if len(leaderboard.tables) > 1:
        sentences.append(
            f"{len(leaderboard.tables)} tables: classifiers that were evaluated on other subjects, or after another "
            f"kind of split, are not ranked with each other. {_first_ids(leaderboard.tables)}"
        )
    sentences += leaderboard.notes
    return tuple(sentences)


def _first_ids(tables: Sequence[Table]) -> str:
    """Subjects or images that only one of the first two tables has: they show why the two are not joined."""
    rows = [labelled_rows(table.standings[0].entry.test, table.unit).table["sample"] for table in tables[:2]]
    only = [sorted({*rows[0]} - {*rows[1]}), sorted({*rows[1]} - {*rows[0]})]
    named = [
        f"'{table.standings[0].entry.name}': {examples(names)}"
        for table, names in zip(tables, only, strict=False)
        if names
    ]
    return f"Only in one of them: {'; '.join(named)}." if named else "They differ in the kind of split or the classes."


def _describe_table(table: Table) -> list[str]:
    first = table.standings[0]
    units = f"{table.count:,} {unit_name(table.evaluation, table.evaluation.scores[table.unit], table.count)}"
    if len(table.standings) == 1:
        return [f"'{first.entry.name}' is alone in its table, evaluated on {units}."]
    sentences = [_first_sentence(table, first, units)]
    if table.chosen and table.chosen != first.entry.name:
        sentences.append(f"By validation score, without the test set, '{table.chosen}' would be selected.")
    elif not table.chosen:
        sentences.append(
            f"The first of {len(table.standings)} was selected on the test set itself, so its score is slightly "
            "optimistic: evaluate it on new subjects before you quote it."
        )
    return sentences


def _first_sentence(table: Table, first: Standing, units: str) -> str:
    others = table.standings[1:]
    beaten = [each for each in others if each.p_value is not None and each.p_value < 1 - table.evaluation.level]
    title = ALL_METRICS[table.metric].title
    best = f"'{first.entry.name}' has the best {title[:1].lower() + title[1:]}"
    head = f"Of {len(table.standings)} classifiers evaluated on the same {units}, {best}"
    if len(beaten) == len(others):
        return f"{head}, significantly better than all others."
    if beaten:
        return f"{head}; {len(others) - len(beaten)} of the other {len(others)} are not significantly worse."
    return f"{head}, but none of the others is significantly worse."
