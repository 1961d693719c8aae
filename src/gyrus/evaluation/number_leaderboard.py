"""Models of a number in order, with paired tests against the first; as :mod:`gyrus.evaluation.leaderboard`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from gyrus.errors import ConfigError, DataError
from gyrus.evaluation.bootstrap import BootstrapConfig
from gyrus.evaluation.comparison import holm
from gyrus.evaluation.leaderboard import require_distinct_names, score_of
from gyrus.evaluation.number_evaluate import compare_numbers, evaluate_numbers, labelled_numbers
from gyrus.evaluation.number_metrics import NUMBER_METRICS
from gyrus.evaluation.number_result import NumberEvaluation
from gyrus.evaluation.result import Estimate, Unit, unit_name
from gyrus.inference.number_predictions import NumberPredictions
from gyrus.registry import look_up


@dataclass(frozen=True)
class NumberEntry:
    """A model to rank.

    Attributes:
        name: Unique among the entries.
        test: Its predictions for the test set.
        facts: Further facts by title: the model, its parameters, the seed.
    """

    name: str
    test: NumberPredictions
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class NumberStanding:
    """The place of one model.

    Attributes:
        entry: The model.
        evaluation: All its scores.
        difference: Its score minus that of the first; None for the first itself.
        p_value: Of no difference from the first, by paired permutation of subjects, corrected by Holm's method; None
            for the first, and where there is no test.
    """

    entry: NumberEntry
    evaluation: NumberEvaluation
    difference: Estimate | None
    p_value: float | None


@dataclass(frozen=True)
class NumberLeaderboard:
    """Models that were evaluated on the same subjects, the best first.

    Attributes:
        metric: A name of :data:`gyrus.evaluation.number_metrics.NUMBER_METRICS`.
        unit: What was scored.
        standings: The models in order.
    """

    metric: str
    unit: Unit
    standings: tuple[NumberStanding, ...]

    @property
    def sentence(self) -> str:
        """What the comparison shows."""
        first, *others = self.standings
        scores = first.evaluation.scores[self.unit]
        units = f"{scores.count:,} {unit_name(first.evaluation, scores, scores.count)}"
        if not others:
            return f"'{first.entry.name}' is alone, evaluated on {units}."
        title = NUMBER_METRICS[self.metric].title
        head = (
            f"Of {len(self.standings)} models of {first.evaluation.target.name} evaluated on the same {units}, "
            f"'{first.entry.name}' has the best {title[:1].lower() + title[1:]}"
        )
        level = first.evaluation.level
        beaten = sum(each.p_value is not None and each.p_value < 1 - level for each in others)
        if beaten == len(others):
            return f"{head}, significantly better than all others."
        if beaten:
            return f"{head}; {len(others) - beaten} of the other {len(others)} are not significantly worse."
        return f"{head}, but none of the others is significantly worse."


def rank_numbers(
    entries: Sequence[NumberEntry],
    *,
    metric: str = "mae",
    unit: Unit | None = None,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> NumberLeaderboard:
    """Rank models that were evaluated on the same subjects.

    Args:
        entries: The models.
        metric: Determines the order.
        unit: "subject" or "image"; by default by subject where subjects are known.
        resamples: Bootstrap resamples and permutations of subjects; 0 for neither.
        seed: Seed of both.
        level: Confidence level.

    Raises:
        ConfigError: The metric has no order.
        DataError: Two entries share a name, predict different numbers, or were evaluated on other subjects.
        UnknownNameError: There is no such metric.
    """
    spec = look_up(metric, NUMBER_METRICS, "metric of a number")
    if spec.higher_is_better is None:
        raise ConfigError(f"Models cannot be ranked by '{metric}': neither high nor low is better. Use mae.")
    require_distinct_names([entry.name for entry in entries])
    first = entries[0].test
    for entry in entries[1:]:
        if entry.test.target != first.target:
            raise DataError(
                f"'{entry.name}' predicts {entry.test.target.name}, '{entries[0].name}' {first.target.name}."
            )
    chosen: Unit = unit or ("subject" if all(entry.test.subjects_known for entry in entries) else "image")
    rows = [frozenset(zip(*_keys(entry.test, chosen), strict=True)) for entry in entries]
    for entry, own in zip(entries[1:], rows[1:], strict=True):
        if own != rows[0]:
            raise DataError(
                f"'{entry.name}' was evaluated on {len(own)} {chosen}s, '{entries[0].name}' on {len(rows[0])}, and "
                f"{len(own & rows[0])} are the same with the same true number. Compare models on one test set: train "
                "them with the same data, split and seed, or cross-validate each (gyrus crossval), which tests all "
                "subjects. gyrus leaderboard FOLDER ranks models of different test sets in separate tables."
            )
    how = asdict(BootstrapConfig(resamples, seed, level))
    evaluations = [evaluate_numbers(entry.test, **how) for entry in entries]
    values = np.array([score_of(evaluation, chosen, metric) for evaluation in evaluations])
    order = np.argsort(np.nan_to_num(-values if spec.higher_is_better else values, nan=np.inf), kind="stable")
    best = entries[order[0]]
    found = {
        entry.name: compare_numbers(entry.test, best.test, metric=metric, unit=chosen, **how)
        for entry in entries
        if entry is not best
    }
    p_values = dict(zip(found, holm([each.p_value for each in found.values()]), strict=True))
    return NumberLeaderboard(
        metric,
        chosen,
        tuple(
            NumberStanding(
                entries[place],
                evaluations[place],
                found[name].estimate if name in found else None,
                p_values.get(name),
            )
            for place in order.tolist()
            for name in [entries[place].name]
        ),
    )


def _keys(predictions: NumberPredictions, unit: Unit) -> tuple[list[str], list[float]]:
    table = labelled_numbers(predictions, unit).table
    return table["sample"].tolist(), table["target"].tolist()


def by_test_set(entries: Sequence[NumberEntry], unit: Unit | None = None) -> list[list[NumberEntry]]:
    """The models in groups that were evaluated on the same subjects with the same true numbers.

    Args:
        entries: Models of one number.
        unit: As for :func:`rank_numbers`.
    """
    chosen: Unit = unit or ("subject" if all(entry.test.subjects_known for entry in entries) else "image")
    groups: dict[frozenset[tuple[str, float]], list[NumberEntry]] = {}
    for entry in entries:
        groups.setdefault(frozenset(zip(*_keys(entry.test, chosen), strict=True)), []).append(entry)
    return list(groups.values())
