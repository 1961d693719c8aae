"""Figures of scores show all numbers, change no global state, and work with unusual data."""

from __future__ import annotations

import re

import matplotlib as mpl
import pandas as pd
import pytest

from gyrus.evaluation.assessment import Assessment, assess
from gyrus.evaluation.bootstrap import BootstrapConfig
from gyrus.evaluation.evaluate import evaluate
from gyrus.evaluation.subgroups import evaluate_subgroups
from gyrus.reporting.evaluation_figures import draw_assessment, draw_scores, draw_subgroups
from gyrus.reporting.split_unit_report import draw_comparison
from gyrus.reporting.training_figures import draw_training
from gyrus.types import SPLIT_WARNINGS
from tests.evaluation.test_assessment import pair
from tests.support.predictions import study
from tests.support.report_contents import history, words


def test_the_confusion_matrix_has_every_count_and_class() -> None:
    predictions = study()
    evaluation = evaluate(predictions, resamples=10)
    text = words(draw_scores(predictions, evaluation)[0].figure)
    scores = evaluation.scores["subject"]
    assert all(f"{name} ({count})" in text for name, count in scores.class_counts.items())
    assert all(re.search(rf"\b{cell}\b", text) for row in scores.confusion for cell in row)
    assert "Predicted class" in text


def test_the_roc_curves_have_their_areas_and_intervals() -> None:
    predictions = study((20, 15, 12, 0))
    evaluation = evaluate(predictions, resamples=50)
    for drawing, unit in zip(draw_scores(predictions, evaluation)[1::2], ("subject", "image"), strict=True):
        text = words(drawing.figure)
        assert drawing.name == f"roc_{unit}"
        for name in ("Non", "Very Mild", "Mild"):
            assert evaluation.scores[unit].by_class[name]["roc_auc"].text(2) in text
        assert "Moderate: undefined, no subject of class" in text


@pytest.mark.parametrize("unit", ["image", "scan"])
def test_results_of_a_leaky_split_carry_their_warning_in_every_figure(unit: str) -> None:
    predictions = study(split_unit=unit)
    evaluation = evaluate(predictions, resamples=10)
    for drawing in (*draw_scores(predictions, evaluation), draw_comparison({"run": evaluation})):
        assert SPLIT_WARNINGS[unit] in words(drawing.figure)
    clean = study()
    for drawing in draw_scores(clean, evaluate(clean, resamples=10)):
        assert "split" not in words(drawing.figure)


@pytest.mark.parametrize(
    "classes",
    [("$a_1$", "$", "50 %", "<script>"), ("a class with quite a long name", "b", "c", "d")],
)
def test_odd_class_names_stay_what_they_are(classes: tuple[str, ...]) -> None:
    predictions = study(classes=classes)
    for drawing in draw_scores(predictions, evaluate(predictions, resamples=10)):
        text = words(drawing.figure)
        assert all(name.replace("<", "&lt;").replace(">", "&gt;") in text for name in classes)


def test_many_classes_have_lines_of_their_own() -> None:
    classes = tuple(f"class {index}" for index in range(12))
    predictions = study((3,) * 12, classes=classes)
    axes = draw_scores(predictions, evaluate(predictions, resamples=10))[1].figure.axes[0]
    assert len({(line.get_color(), str(line._dash_pattern)) for line in axes.lines[1:]}) == 12


def test_nothing_global_is_touched() -> None:
    before = dict(mpl.rcParams)
    predictions = study()
    draw_scores(predictions, evaluate(predictions, resamples=10))
    draw_training(history())
    assert dict(mpl.rcParams) == before


def assessed(healthy: str | None = "Non", **changes: object) -> Assessment:
    return assess(*pair(**changes), healthy=healthy, resamples=20)


def test_an_assessment_has_three_drawings_with_standard_axes() -> None:
    drawings = {drawing.name: words(drawing.figure) for drawing in draw_assessment(assessed())}
    assert list(drawings) == ["reliability", "decision_curve", "risk_coverage"]
    assert "Calibrated on the validation set" in drawings["reliability"]
    assert all(name in drawings["decision_curve"] for name in ("Treat all", "Treat none", "Threshold probability"))
    assert "Error rate" in drawings["risk_coverage"]


def test_without_a_healthy_class_there_is_no_decision_curve() -> None:
    assert "decision_curve" not in [drawing.name for drawing in draw_assessment(assessed(healthy=None))]


def test_the_warning_of_a_leaking_split_is_in_every_figure() -> None:
    for drawing in draw_assessment(assessed(split_unit="image")):
        assert SPLIT_WARNINGS["image"].split(": ")[1] in words(drawing.figure)


def test_each_subgroup_has_a_row_with_its_number() -> None:
    predictions = study()
    columns = pd.DataFrame({"sex": ["f", "m"] * 105}, index=predictions.table["sample"])
    (drawing,) = draw_subgroups(evaluate_subgroups(predictions, columns, bootstrap=BootstrapConfig(20)), "")
    axes = drawing.figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["sex f (42)", "sex m (42)"]
    assert axes.get_xlabel() == "Accuracy"


def test_no_subgroups_make_no_drawing() -> None:
    assert draw_subgroups((), "") == ()
