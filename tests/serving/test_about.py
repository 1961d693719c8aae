"""What the page of a bundle states about its scores."""

from __future__ import annotations

from gyrus.evaluation.evaluate import evaluate
from gyrus.serving import about
from tests.evaluation.test_ordered_classes import graded


def test_only_scores_from_0_to_1_have_a_bar():
    shown = {score["title"]: score["from_0_to_1"] for score in about._headline(evaluate(graded(2.0), resamples=0))}
    assert [title for title, bar in shown.items() if not bar] == [
        "Quadratic-weighted kappa",
        "Mean absolute error in stages",
    ]
    assert shown["Accuracy"]
