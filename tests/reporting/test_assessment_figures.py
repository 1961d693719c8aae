"""Figures of an assessment show calibration, net benefit, risk by coverage and subgroups."""

from __future__ import annotations

import pandas as pd

from gyrus.evaluation.assessment import Assessment, assess
from gyrus.evaluation.bootstrap import BootstrapConfig
from gyrus.evaluation.subgroups import evaluate_subgroups
from gyrus.reporting.assessment_figures import draw_assessment, draw_subgroups
from gyrus.types import SPLIT_WARNINGS
from tests.evaluation.test_assessment import pair
from tests.support.predictions import study
from tests.support.report_contents import words


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
