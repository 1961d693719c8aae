from __future__ import annotations

import csv
import math

from hypothesis import given
from hypothesis import strategies as st

from gyrus.training.config import EarlyStopping
from gyrus.training.history import History


def history(accuracies, losses=None) -> History:
    losses = losses or [1.0] * len(accuracies)
    return History(
        tuple(
            {"epoch": number, "val_accuracy": accuracy, "val_loss": loss}
            for number, (accuracy, loss) in enumerate(zip(accuracies, losses, strict=True), start=1)
        )
    )


def test_best_epoch_is_counted_from_one():
    assert history([]).best_epoch("val_accuracy") is None
    assert history([0.2, 0.7, 0.5]).best_epoch("val_accuracy") == 2
    assert history([0.2, 0.7, 0.5], [0.9, 0.8, 0.3]).best_epoch("val_loss") == 3


def test_ties_go_to_the_lower_loss_then_to_the_earlier_epoch():
    assert history([0.7, 0.7, 0.7], [0.5, 0.4, 0.4]).best_epoch("val_accuracy") == 2


def test_undefined_scores_are_worst():
    assert history([math.nan, 0.1, math.nan]).best_epoch("val_accuracy") == 2
    assert history([math.nan, math.nan]).best_epoch("val_accuracy") == 1


@given(st.lists(st.floats(0, 1) | st.just(math.nan), min_size=1))
def test_best_epoch_has_the_best_score(accuracies):
    best = history(accuracies).best_epoch("val_accuracy")
    defined = [value for value in accuracies if not math.isnan(value)]
    assert not defined or accuracies[best - 1] == max(defined)


def test_early_stopping_counts_epochs_since_the_best():
    rule = EarlyStopping(patience=2)
    assert not history([0.5, 0.4]).should_stop(rule, "val_accuracy")
    assert history([0.5, 0.4, 0.5]).should_stop(rule, "val_accuracy")
    assert not history([0.5, 0.4, 0.6, 0.5]).should_stop(rule, "val_accuracy")
    assert not history([0.5, 0.4, 0.5]).should_stop(None, "val_accuracy")


def test_early_stopping_has_its_own_monitor_and_least_gain():
    rule = EarlyStopping(monitor="val_loss", patience=2, min_delta=0.1)
    assert history([0.1, 0.2, 0.3], [1.0, 0.95, 0.91]).should_stop(rule, "val_accuracy")
    assert not history([0.1, 0.2, 0.3], [1.0, 0.95, 0.89]).should_stop(rule, "val_accuracy")


def test_csv_keeps_every_digit(tmp_path):
    history([1 / 3, math.nan]).write_csv(tmp_path / "history.csv")
    with (tmp_path / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert float(rows[0]["val_accuracy"]) == 1 / 3
    assert rows[1]["val_accuracy"] == ""


def test_the_last_epoch_counts_as_the_best_whatever_it_scores():
    rows = tuple({"epoch": number, "val_loss": loss} for number, loss in ((1, 0.2), (2, 0.1), (3, 0.9)))
    assert History(rows).best_epoch("epoch") == 3
    assert History(rows).best_epoch("val_loss") == 2


def test_lower_errors_of_numbers_are_better_and_higher_correlations():
    rows = ({"val_mae": 5.0, "val_r2": 0.1, "val_loss": 1.0}, {"val_mae": 4.0, "val_r2": 0.0, "val_loss": 1.0})
    found = History(rows)
    assert (found.best_epoch("val_mae"), found.best_epoch("val_r2")) == (2, 1)
    assert History((*rows, rows[0])).should_stop(EarlyStopping(patience=1), "val_mae")
