"""Training curves show what the history holds."""

from __future__ import annotations

import pytest

from gyrus.reporting.training_figures import draw_training
from tests.support.report_contents import history, words


def test_training_curves_show_what_there_is() -> None:
    curves, rate = draw_training(history(), best_epoch=2)
    text = words(curves.figure)
    assert all(word in text for word in ("training", "validation", "accuracy", "selected: 2"))
    assert "ROC" not in text  # all NaN
    assert "Learning rate" in words(rate.figure)
    assert len(draw_training(history().drop(columns="lr"))) == 1


def test_each_class_has_its_curve() -> None:
    table = history().assign(**{f"val_f1_{name}": 0.5 for name in ("Non", "a $b$", "C")})
    drawings = draw_training(table)
    assert [drawing.name for drawing in drawings] == ["training_curves", "class_curves", "learning_rate"]
    assert all(name in words(drawings[1].figure) for name in ("Non", "a $b$", "C"))


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_very_short_training_can_be_seen(epochs: int) -> None:
    axes = draw_training(history(epochs))[0].figure.axes[0]
    assert axes.lines[0].get_marker() == "o"
