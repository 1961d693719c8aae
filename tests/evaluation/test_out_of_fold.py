"""What is said about the folds of a cross-validation."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from gyrus.errors import DataError
from gyrus.evaluation.evaluate import evaluate
from gyrus.evaluation.out_of_fold import (
    fold_notes,
    fold_scores,
    join_folds,
    require_all_tested,
    summarise_folds,
    summary_text,
)
from gyrus.inference.predictions import Predictions


def fold(number: int, targets: str, logits: list[float]) -> Predictions:
    names = [f"{number}-{row}" for row in range(len(targets))]
    both = np.column_stack([np.zeros(len(logits)), logits])
    words = {"classes": ["n", "s"], "split_unit": "subject", "subset": "test"}
    return Predictions.from_logits(names, both, subjects=names, targets=list(targets), **words)


RANKED_WITHIN = [fold(0, "nnss", [-9, -8, -7, -6]), fold(1, "nnss", [6, 7, 8, 9])]
"""Two networks that each rank their own people without a fault, on scales of their own."""

WITHOUT_A_CLASS = [fold(0, "nns", [-1, -2, 1]), fold(1, "nns", [-1, 1, 2]), fold(2, "nnn", [-1, -2, -3])]


def summarised(tables: list[Predictions]):
    scores = fold_scores({(0, number): evaluate(table, resamples=0) for number, table in enumerate(tables)})
    pooled = evaluate(join_folds(tables), resamples=0)
    return scores, pooled, summarise_folds(scores, [pooled])


def test_mean_and_sd_are_over_folds_and_pooled_is_over_subjects():
    scores, pooled, summary = summarised(RANKED_WITHIN)
    line = summary.query("unit == 'subject' and metric == 'macro_roc_auc'").iloc[0]
    everybody = join_folds(RANKED_WITHIN)
    assert (line["mean"], line["sd"], line["defined"]) == (1.0, 0.0, 2)
    assert line["pooled"] == pytest.approx(roc_auc_score(everybody.targets, everybody.probabilities[:, 1]))
    assert line["pooled"] == 0.75
    accuracy = scores.query("unit == 'subject'")["accuracy"]
    assert summary.query("unit == 'subject' and metric == 'accuracy'")["sd"].item() == pytest.approx(accuracy.std())
    notes = " ".join(fold_notes(summary, pooled, 2))
    assert "1.000 as the mean of the folds and 0.750 pooled" in notes
    assert "not independent" in notes


def test_a_class_with_fewer_subjects_than_folds_is_named_and_no_number_is_nan():
    scores, pooled, summary = summarised(WITHOUT_A_CLASS)
    notes = " ".join(fold_notes(summary, pooled, 3))
    assert "Class 's' has 2 subjects for 3 folds: at least 1 fold tests none of it" in notes
    assert summary.query("unit == 'subject' and metric == 'macro_roc_auc'")["defined"].item() == 2
    assert np.isnan(scores.query("fold == 2")["macro_roc_auc"]).all()
    text = summary_text(summary, pooled)
    assert "nan" not in text.lower()
    assert " 2/3 " in text


def test_a_class_of_one_subject_cannot_be_evaluated():
    _, pooled, summary = summarised([fold(0, "nns", [-1, -2, 1]), fold(1, "nnn", [-1, 1, 2])])
    assert "has 1 subject: the fold that tests it has none to train on" in " ".join(fold_notes(summary, pooled, 2))


def test_repeats_show_their_range():
    scores, first, _ = summarised(RANKED_WITHIN)
    second = evaluate(join_folds([fold(0, "nnss", [1, -8, -7, -6])]), resamples=0)
    summary = summarise_folds(scores, [first, second])
    line = summary.query("unit == 'subject' and metric == 'accuracy'").iloc[0]
    assert (line["pooled_lowest"], line["pooled_highest"]) == (0.25, 0.5)
    assert "repeats 0.250 to 0.500" in summary_text(summary, first)


def test_out_of_fold_predictions_name_the_fold_and_hold_everyone_once():
    everybody = join_folds(RANKED_WITHIN)
    assert everybody.table["fold"].tolist() == [0] * 4 + [1] * 4
    assert everybody.subset == "out-of-fold"
    with pytest.raises(DataError, match="more than once"):
        join_folds([RANKED_WITHIN[0], RANKED_WITHIN[0]])
    with pytest.raises(DataError, match="1 sample is in the test set of no fold, the first is 'x'"):
        require_all_tested(everybody, [*everybody.table["sample"], "x"])
