"""Classifiers in order, as far as they can be ordered at all.

Only classifiers that were judged on the same people, with data split in the same way, stand in one table. Whoever
quotes the first of a table quotes a maximum that was found on the test set; the validation score, where there is one,
tells which classifier would have been chosen without looking.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from gyrus.errors import DataError
from gyrus.evaluation.comparison import compare, holm, judged_rows
from gyrus.evaluation.evaluate import evaluate
from gyrus.evaluation.intervals import arrange, bootstrap, percentile_interval, score
from gyrus.evaluation.metrics import METRICS
from gyrus.evaluation.result import Estimate, Evaluation, Unit
from gyrus.evaluation.sampling import clusters_of
from gyrus.evaluation.text import unit_word
from gyrus.inference.predictions import Predictions
from gyrus.registry import look_up


@dataclass(frozen=True)
class Entry:
    """A classifier that takes part.

    Attributes:
        name: Unique among the entries.
        test: What it said about the people it is judged on.
        val: What it said about the people it was chosen by; None where not known.
        facts: What else a reader wants to know of it, by title: the model, its parameters, the seed.
    """

    name: str
    test: Predictions
    val: Predictions | None = None
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Standing:
    """Where one classifier stands in its table.

    Attributes:
        entry: The classifier.
        evaluation: All its scores.
        rank: From 1; equal scores share the better rank.
        ranks: Between which ranks it lies in the central share of the bootstrap resamples; None without resamples.
        behind: Its score minus that of the first of the table; None for the first itself.
        p_value: Of no difference from the first: paired permutation of subjects, corrected by Holm's method for the
            number of comparisons in the table; None for the first, and where there is no score.
        validation: Its score on its own validation set; None where not known.
    """

    entry: Entry
    evaluation: Evaluation
    rank: int
    ranks: tuple[int, int] | None
    behind: Estimate | None
    p_value: float | None
    validation: float | None


@dataclass(frozen=True)
class Table:
    """Classifiers that were judged on the same people, the best first.

    Attributes:
        metric: A name of :data:`gyrus.evaluation.metrics.METRICS`.
        unit: What was judged.
        standings: The classifiers in order.
        agreement: Share of the judged for which two classifiers choose the same class, by both names.
        missed: The judged that every classifier gets wrong, in order of name.
        chosen: Who has the best validation score, all having been validated on the same people; None else.
    """

    metric: str
    unit: Unit
    standings: tuple[Standing, ...]
    agreement: pd.DataFrame
    missed: tuple[str, ...]
    chosen: str | None

    @property
    def evaluation(self) -> Evaluation:
        """The scores of the first; what it says of the data holds for all."""
        return self.standings[0].evaluation

    @property
    def count(self) -> int:
        """How many were judged."""
        return self.evaluation.scores[self.unit].count

    def estimate(self, standing: Standing, metric: str | None = None) -> Estimate:
        """A score of a classifier, by default the one that decides the order."""
        return standing.evaluation.scores[self.unit].metrics[metric or self.metric]


@dataclass(frozen=True)
class Leaderboard:
    """Tables of classifiers, one for each set of people and way of splitting: scores of two tables are not ranked."""

    tables: tuple[Table, ...]
    metric: str
    resamples: int
    seed: int
    level: float


def rank_entries(
    entries: Sequence[Entry],
    *,
    metric: str = "accuracy",
    unit: Unit | None = None,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Leaderboard:
    """Put classifiers in order, those judged on the same people together.

    Args:
        entries: The classifiers.
        metric: What decides the order, a name of :data:`gyrus.evaluation.metrics.METRICS`.
        unit: "subject" or "image"; by default by subject where subjects are known, else by image.
        resamples: Bootstrap resamples and permutations of subjects; 0 for neither.
        seed: Decides both.
        level: The share that the intervals cover.

    Raises:
        DataError: Two entries share a name, or there is none, or nothing in one can be judged by ``unit``.
        UnknownNameError: There is no such metric.
    """
    look_up(metric, METRICS, "metric")
    if unit is not None:
        look_up(unit, {"subject": None, "image": None}, "unit")
    if not entries:
        raise DataError("There is nothing to rank. Name run folders, or tables of predictions.")
    twice = {entry.name for entry in entries if sum(other.name == entry.name for other in entries) > 1}
    if twice:
        raise DataError(f"Two classifiers are called {', '.join(sorted(twice))}; each needs a name of its own.")
    plan = _Plan(metric, resamples, seed, level)
    groups: dict[object, list[Entry]] = {}
    for entry in entries:
        chosen_unit: Unit = unit or ("subject" if entry.test.subjects_known else "image")
        groups.setdefault((chosen_unit, *_judged_on(entry.test, chosen_unit)), []).append(entry)
    order = sorted(groups, key=lambda key: (groups[key][0].test.statement != "", -len(groups[key])))
    tables = tuple(_table(groups[key], key[0], plan) for key in order)  # type: ignore[index]
    return Leaderboard(tables, metric, resamples, seed, level)


@dataclass(frozen=True)
class _Plan:
    metric: str
    resamples: int
    seed: int
    level: float


def _judged_on(predictions: Predictions, unit: Unit) -> tuple[object, ...]:
    """What must be equal for two classifiers to be ranked: the people, their classes, and how they were split off."""
    judged = judged_rows(predictions, unit).table
    rows = frozenset(zip(judged["sample"], judged["target"], strict=True))
    return frozenset(predictions.classes), predictions.split_unit, predictions.subject_kind, rows


def _table(entries: Sequence[Entry], unit: Unit, plan: _Plan) -> Table:
    classes = entries[0].test.classes
    entries = [replace(entry, test=_with_classes(entry.test, classes)) for entry in entries]
    evaluations = [
        evaluate(entry.test, resamples=plan.resamples, seed=plan.seed, level=plan.level) for entry in entries
    ]
    values = np.array([_value(evaluation, unit, plan.metric) for evaluation in evaluations])
    ranks, order = _ranks(values), np.lexsort((np.arange(len(values)), np.nan_to_num(-values, nan=np.inf)))
    spread = _rank_intervals([entry.test for entry in entries], unit, plan)
    first = entries[order[0]]
    behind = [None if entry is first else _behind(entry, first, unit, plan) for entry in entries]
    p_values = _corrected([each[1] if each else None for each in behind])
    standings = [
        Standing(
            entry=entries[index],
            evaluation=evaluations[index],
            rank=int(ranks[index]),
            ranks=spread[index] if spread else None,
            behind=each[0] if (each := behind[index]) else None,
            p_value=p_values[index],
            validation=_validation(entries[index], unit, plan.metric),
        )
        for index in order
    ]
    judged = {standing.entry.name: judged_rows(standing.entry.test, unit) for standing in standings}
    return Table(
        plan.metric, unit, tuple(standings), _agreement(judged), _missed_by_all(judged), _chosen(standings, unit)
    )


def _with_classes(predictions: Predictions, classes: tuple[str, ...]) -> Predictions:
    """The same predictions with the classes in another order."""
    return Predictions.from_table(
        predictions.table,
        classes=classes,
        split_unit=predictions.split_unit,
        subset=predictions.subset,
        subject_kind=predictions.subject_kind,
    )


def _value(evaluation: Evaluation, unit: Unit, metric: str) -> float:
    if unit not in evaluation.scores:
        raise DataError("Not every image says whose it is, so that nothing can be ranked by subject; use unit 'image'.")
    value = evaluation.scores[unit].metrics[metric].value
    return np.nan if value is None else value


def _ranks(values: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Rank along the first axis, 1 for the highest; equals share the better rank, what has no value comes last."""
    filled = np.where(np.isnan(values), -np.inf, values)
    return np.asarray(1 + (filled[None] > filled[:, None]).sum(axis=1), dtype=np.int64)


def _rank_intervals(predictions: Sequence[Predictions], unit: Unit, plan: _Plan) -> list[tuple[int, int]] | None:
    """Between which ranks each lies in the central share of resamples that all of them meet together."""
    if not plan.resamples:
        return None
    ranks = _ranks(np.stack([_resampled(each, unit, plan) for each in predictions]))
    ends = [percentile_interval(row.astype(np.float64), plan.level) for row in ranks]
    return [(int(np.floor(low)), int(np.ceil(high))) for low, high in ends]


def _resampled(predictions: Predictions, unit: Unit, plan: _Plan) -> npt.NDArray[np.float64]:
    judged = judged_rows(predictions, unit)
    arrangement = arrange(judged.targets, judged.predicted, judged.probabilities, clusters_of(judged))
    _, reference, _ = score(arrangement)
    return bootstrap(arrangement, reference, resamples=plan.resamples, seed=plan.seed).overall[plan.metric]


def _behind(entry: Entry, first: Entry, unit: Unit, plan: _Plan) -> tuple[Estimate, float | None]:
    difference = compare(
        entry.test,
        first.test,
        metric=plan.metric,
        unit=unit,
        resamples=plan.resamples,
        seed=plan.seed,
        level=plan.level,
    )
    return difference.estimate, difference.p_value


def _corrected(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's correction over those that there are."""
    given = [index for index, value in enumerate(p_values) if value is not None]
    corrected = holm([value for value in p_values if value is not None]) if given else ()
    found = dict(zip(given, corrected, strict=True))
    return [float(found[index]) if index in found else None for index in range(len(p_values))]


def _validation(entry: Entry, unit: Unit, metric: str) -> float | None:
    if entry.val is None or not (entry.val.targets >= 0).any():
        return None
    scores = evaluate(entry.val, resamples=0).scores
    return scores[unit].metrics[metric].value if unit in scores else None


def _chosen(standings: Sequence[Standing], unit: Unit) -> str | None:
    """Who has the best validation score; None where they were validated on different people or not at all."""
    subsets = {_judged_on(each.entry.val, unit) if each.entry.val is not None else None for each in standings}
    if len(subsets) != 1 or None in subsets or any(each.validation is None for each in standings):
        return None
    return max(standings, key=lambda each: each.validation or 0.0).entry.name


def _agreement(judged: Mapping[str, Predictions]) -> pd.DataFrame:
    predicted = {name: each.predicted for name, each in judged.items()}
    names = list(predicted)
    equal = [[float((predicted[row] == predicted[column]).mean()) for column in names] for row in names]
    return pd.DataFrame(equal, index=names, columns=names)


def _missed_by_all(judged: Mapping[str, Predictions]) -> tuple[str, ...]:
    wrong = np.logical_and.reduce([each.predicted != each.targets for each in judged.values()])
    names = next(iter(judged.values())).table["sample"][wrong]
    return tuple(sorted(map(str, names)))


def describe(leaderboard: Leaderboard) -> tuple[str, ...]:
    """What a reader must know before reading the tables, the most important first."""
    sentences = [sentence for table in leaderboard.tables for sentence in _about(table)]
    if len(leaderboard.tables) > 1:
        sentences.append(
            f"{len(leaderboard.tables)} tables: classifiers that were judged on other people, or on data split in "
            "another way, are not ranked with each other."
        )
    return tuple(sentences)


def _about(table: Table) -> list[str]:
    first = table.standings[0]
    words = f"{table.count:,} {unit_word(table.evaluation, table.evaluation.scores[table.unit], table.count)}"
    if len(table.standings) == 1:
        return [f"'{first.entry.name}' alone was judged in its way, on {words}."]
    title = METRICS[table.metric].title.lower()
    sentences = [_first_sentence(table, first, words, title)]
    if table.chosen and table.chosen != first.entry.name:
        sentences.append(f"By validation score, without looking at the test set, '{table.chosen}' would be chosen.")
    elif not table.chosen:
        sentences.append(
            f"The first of {len(table.standings)} was found on the test set itself, so that its score is a little too "
            "good: judge it on new people before you quote it."
        )
    return sentences


def _first_sentence(table: Table, first: Standing, words: str, title: str) -> str:
    others = table.standings[1:]
    beaten = [each for each in others if each.p_value is not None and each.p_value < 1 - table.evaluation.level]
    number = len(table.standings)
    head = f"Of {number} classifiers judged on the same {words}, '{first.entry.name}' has the best {title}"
    if len(beaten) == len(others):
        return f"{head}, by more than chance explains."
    if beaten:
        return f"{head}; {len(others) - len(beaten)} of the other {len(others)} are not shown to be worse."
    return f"{head}, but none of the others is shown to be worse."
