"""Who is ranked with whom, and what is said of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gyrus.errors import DataError, UnknownNameError
from gyrus.evaluation.evaluate import evaluate
from gyrus.evaluation.leaderboard import Entry, describe, rank_entries
from gyrus.inference.predictions import Predictions
from tests.support.predictions import study

TWO = ("Healthy", "Sick")


def entries(*skills: float, **changes: object) -> list[Entry]:
    """Classifiers of different skill, judged on the same people."""
    return [
        Entry(f"{seed}: skill {skill}", study((30, 30), classes=TWO, skill=skill, seed=seed, **changes))
        for seed, skill in enumerate(skills)
    ]


def test_the_order_is_that_of_the_score_and_the_scores_are_those_of_evaluate() -> None:
    given = entries(0.0, 4.0, 1.0)
    (table,) = rank_entries(given, resamples=50).tables
    names = [standing.entry.name for standing in table.standings]
    assert names == ["1: skill 4.0", "2: skill 1.0", "0: skill 0.0"]
    assert [standing.rank for standing in table.standings] == [1, 2, 3]
    for standing in table.standings:
        assert standing.evaluation == evaluate(standing.entry.test, resamples=50)


def test_the_order_of_the_entries_does_not_matter() -> None:
    given = entries(0.0, 4.0, 1.0)
    one, other = rank_entries(given, resamples=50), rank_entries(given[::-1], resamples=50)
    assert describe(one) == describe(other)
    assert [each.ranks for each in one.tables[0].standings] == [each.ranks for each in other.tables[0].standings]


def test_a_classifier_against_itself_is_not_shown_to_differ() -> None:
    (same,) = entries(1.0)
    (table,) = rank_entries([same, replace(same, name="again")], resamples=200).tables
    assert [standing.rank for standing in table.standings] == [1, 1]
    assert table.standings[1].difference is not None
    assert table.standings[1].difference.value == 0
    assert table.standings[1].p_value == 1
    assert table.agreement.to_numpy().tolist() == [[1.0, 1.0], [1.0, 1.0]]


def test_a_much_better_classifier_is_shown_to_be_better_and_a_like_one_is_not() -> None:
    board = rank_entries(entries(6.0, -1.0), resamples=500)
    (table,) = board.tables
    assert table.standings[1].p_value is not None
    assert table.standings[1].p_value < 0.05
    assert table.standings[0].ranks == (1, 1)
    assert "significantly better than all others" in describe(board)[0]
    like = rank_entries(entries(1.0, 1.0), resamples=200)
    assert "none of the others is significantly worse" in describe(like)[0]


def test_p_values_are_corrected_for_their_number() -> None:
    few = rank_entries(entries(6.0, 1.2), resamples=500).tables[0].standings
    many = rank_entries(entries(6.0, 1.2, 1.1, 1.0, 0.9), resamples=500).tables[0].standings
    p_few = next(each.p_value for each in few if each.entry.name == "1: skill 1.2")
    p_many = next(each.p_value for each in many if each.entry.name == "1: skill 1.2")
    assert p_few is not None
    assert p_many is not None
    assert p_many >= p_few


def test_other_subjects_or_another_split_unit_get_their_own_table() -> None:
    honest, leaky = entries(1.0)[0], entries(3.0, split_unit="image")[0]
    fewer = Entry("fewer people", honest.test.select(np.arange(100)))
    board = rank_entries([leaky, honest, replace(honest, name="again"), fewer], resamples=0)
    assert [len(table.standings) for table in board.tables] == [2, 1, 1]
    assert board.tables[-1].evaluation.warning
    assert "are not ranked with each other" in describe(board)[-1]


def test_subjects_in_another_spelling_are_the_same_subjects() -> None:
    ours = Entry("ours", study((6, 6), classes=("a", "b")))
    table = ours.test.table.assign(subject=[f"P{int(name[1:]):03d}" for name in ours.test.table["subject"]])
    theirs = Entry("theirs", replace(ours.test, table=table))

    board = rank_entries([ours, theirs], resamples=0)
    assert [len(each.standings) for each in board.tables] == [2]
    assert "'theirs': 12 ids of subjects or images differ" in describe(board)[-1]
    assert "'P000' with 'p0'" in describe(board)[-1]

    others = replace(ours.test, table=table.assign(subject="x" + table["subject"]))
    board = rank_entries([ours, Entry("others", others)], resamples=0)
    assert len(board.tables) == 2
    assert "Only in one of them: 'ours': 'p0', 'p1', 'p10' and 9 more; 'others': 'xP000'" in describe(board)[-1]


def test_classes_in_another_order_are_the_same_classes() -> None:
    (first,) = entries(1.0)
    turned = Predictions.from_table(first.test.table, classes=TWO[::-1], split_unit="subject")
    (table,) = rank_entries([first, Entry("turned", turned)], resamples=0).tables
    assert table.agreement.to_numpy().min() == 1


def test_the_best_by_validation_score_is_named() -> None:
    weak, strong = entries(0.5, 3.0)
    board = rank_entries([replace(weak, val=strong.test), replace(strong, val=weak.test)], resamples=0)
    assert board.tables[0].chosen == weak.name
    assert f"'{weak.name}' would be selected" in " ".join(describe(board))


def test_without_validation_the_first_is_called_optimistic() -> None:
    assert "evaluate it on new subjects" in " ".join(describe(rank_entries(entries(0.5, 3.0), resamples=0)))


def test_those_missed_by_all_are_named() -> None:
    (table,) = rank_entries(entries(2.0, 2.0), resamples=0).tables
    wrong = [set(each.entry.test.table["subject"]) - set(_right(each.entry.test)) for each in table.standings]
    assert set(table.missed) == wrong[0] & wrong[1]


def _right(predictions: Predictions) -> list[str]:
    from gyrus.inference.pooling import pool_by_subject

    pooled = pool_by_subject(predictions)
    return pooled.table["subject"][pooled.predicted == pooled.targets].tolist()


def test_what_cannot_be_ranked_is_refused() -> None:
    (first,) = entries(1.0)
    with pytest.raises(DataError, match="Two entries"):
        rank_entries([first, first])
    with pytest.raises(DataError, match="nothing to rank"):
        rank_entries([])
    with pytest.raises(UnknownNameError, match="metric 'accuracies'"):
        rank_entries([first], metric="accuracies")
    nameless = Entry("nameless", study((5, 5), classes=TWO, subjects=None))
    with pytest.raises(DataError):
        rank_entries([nameless], unit="subject", resamples=0)
    assert rank_entries([nameless], resamples=0).tables[0].unit == "image"
