"""Scores of ordered classes: in evaluations, comparisons, operating points and figures, from simulated stages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gyrus.datasets.targets import Target
from gyrus.errors import ConfigError, UnknownNameError
from gyrus.evaluation.assessment import assess, operating_classes
from gyrus.evaluation.comparison import compare
from gyrus.evaluation.evaluate import evaluate
from gyrus.evaluation.leaderboard import Entry, rank_entries
from gyrus.evaluation.metrics import METRICS, ORDERED_METRICS
from gyrus.evaluation.result import Evaluation, verdict
from gyrus.inference.predictions import Predictions
from gyrus.reporting.evaluation_figures import draw_scores
from tests.support.predictions import study

STAGES = ("Non", "Very Mild", "Mild", "Moderate")
ORDERED = Target("ordered")


def graded(sharpness: float, *, seed: int = 0, count: int = 80, prefix: str = "p", subset: str = "test") -> Predictions:
    """Subjects whose stage a score shows with noise: errors are mostly to a neighbouring stage."""
    random = np.random.default_rng(seed)
    truth = np.arange(count) % 4
    seen = truth + random.normal(scale=1 / sharpness, size=count)
    logits = -((seen[:, None] - np.arange(4)) ** 2)
    names = [f"{prefix}{row:03}" for row in range(count)]
    targets = [STAGES[index] for index in truth]
    return Predictions.from_logits(
        names,
        logits,
        classes=STAGES,
        split_unit="subject",
        subset=subset,
        subjects=names,
        targets=targets,
        target=ORDERED,
    )


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    return evaluate(graded(2.0), resamples=200)


def test_stages_have_further_scores_with_intervals_and_other_classes_do_not(evaluation, tmp_path: Path) -> None:
    scores = evaluation.headline
    assert list(scores.metrics) == [*METRICS, *ORDERED_METRICS]
    for name in ORDERED_METRICS:
        estimate = scores.metrics[name]
        assert estimate.low is not None
        assert estimate.low < estimate.value < estimate.high
    assert list(scores.by_cut) == ["Very Mild", "Mild", "Moderate"]
    assert scores.metrics["cut_auc"].value == pytest.approx(np.mean([each.value for each in scores.by_cut.values()]))
    evaluation.save(tmp_path / "metrics.json")
    assert Evaluation.load(tmp_path / "metrics.json") == evaluation
    text = evaluation.text()
    assert "at least Mild" in text
    assert "Quadratic-weighted kappa" in text
    assert "agree more than by chance" in " ".join(verdict(evaluation))
    plain = evaluate(study(), resamples=0).headline
    assert list(plain.metrics) == list(METRICS)
    assert plain.by_cut == {}


def test_a_group_of_one_stage_has_no_score_of_the_cuts() -> None:
    predictions = graded(2.0)
    alone = predictions.select(np.flatnonzero(predictions.targets == 1))
    scores = evaluate(alone, resamples=10).headline
    assert scores.metrics["cut_auc"].value is None
    assert scores.metrics["stage_error"].value is not None


def test_guesses_are_not_called_better_than_chance() -> None:
    sentences = " ".join(verdict(evaluate(graded(0.01, seed=3), resamples=200)))
    assert "do not agree more than by chance" in sentences


def test_perfect_stages_have_bounds_and_no_false_certainty() -> None:
    scores = evaluate(graded(1000.0), resamples=100).headline
    assert scores.metrics["stage_error"].value == 0
    assert scores.metrics["stage_error"].high > 0
    assert scores.by_cut["Mild"].low < 1
    assert scores.metrics["quadratic_kappa"].low is None


@pytest.mark.parametrize("metric", ORDERED_METRICS)
def test_the_better_classifier_is_ranked_first(metric: str) -> None:
    better, worse = graded(3.0), graded(0.3, seed=1)
    board = rank_entries([Entry("worse", worse), Entry("better", better)], metric=metric, resamples=100)
    assert [each.entry.name for each in board.tables[0].standings] == ["better", "worse"]
    difference = compare(better, worse, metric=metric, resamples=200)
    assert difference.p_value is not None
    assert difference.p_value < 0.05
    assert (difference.estimate.value > 0) == ORDERED_METRICS[metric].higher_is_better


def test_predictions_without_an_order_are_ranked_beside_those_with_one() -> None:
    ordered = graded(3.0)
    table = ordered.table[[*ordered.table.columns[:3], *[f"logit:{name}" for name in sorted(STAGES)]]]
    plain = Predictions.from_table(table, classes=sorted(STAGES), split_unit="subject")
    board = rank_entries([Entry("plain", plain), Entry("ordered", ordered)], metric="stage_error", resamples=0)
    scores = [each.evaluation.headline.metrics["stage_error"].value for each in board.tables[0].standings]
    assert scores[0] == scores[1]
    with pytest.raises(UnknownNameError, match="stage_error"):
        rank_entries([Entry("plain", plain)], metric="stage_error", resamples=0)


def test_a_table_of_another_tool_is_read_in_the_order_of_its_stages(tmp_path: Path) -> None:
    columns = ["sample", "target", *[f"logit:{name}" for name in sorted(STAGES)]]
    graded(2.0).table[columns].to_csv(tmp_path / "other.csv", index=False)
    found = Predictions.from_file(tmp_path / "other.csv", split_unit="subject")
    assert found.classes == STAGES
    assert found.target.is_ordered
    assert not Predictions.from_file(
        tmp_path / "other.csv", split_unit="subject", classes=sorted(STAGES)
    ).target.is_ordered


def test_operating_points_are_at_the_chosen_cut() -> None:
    val, test = graded(2.0, prefix="v", subset="val"), graded(2.0, seed=5)
    found = assess(val, test, at_least="Mild", resamples=0)
    assert {point.point.positive for point in found.points} == {("Mild", "Moderate")}
    assert found.curve.positive == ("Mild", "Moderate")
    assert operating_classes(found).startswith("at least 'Mild' is positive")
    assert assess(val, test, resamples=0).points[0].point.positive == STAGES[1:]
    healthy = assess(val, test, healthy="Non", resamples=0)
    assert operating_classes(healthy) == "'Non' is negative, all other classes are positive"
    with pytest.raises(ConfigError):
        assess(val, test, at_least="Non", resamples=0)


def test_figures_show_the_cuts(evaluation) -> None:
    names = [drawing.name for drawing in draw_scores(graded(2.0), evaluation)]
    assert names == [f"{kind}_subject" for kind in ("confusion", "roc", "roc_cuts")]
