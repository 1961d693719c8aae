"""Figures: they say what they must, touch nothing global, and survive odd data."""

from __future__ import annotations

import re

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure
from PIL import Image

from gyrus.evaluation.evaluate import evaluate
from gyrus.reporting.evaluation_figures import draw_svg
from gyrus.reporting.report_content import draw_comparison, draw_scores, draw_training
from gyrus.types import SPLIT_WARNINGS
from tests.support.predictions import study
from tests.support.report_contents import history


def words(figure: Figure) -> str:
    """All text of a figure, as it stands in its SVG."""
    return " ".join(re.findall(r"<text[^>]*>([^<]*)</text>", draw_svg(figure)))


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
        assert "Moderate: undefined, there is no subject of class" in text


@pytest.mark.parametrize("unit", ["image", "scan"])
def test_results_of_a_leaky_split_carry_their_warning_in_every_figure(unit: str) -> None:
    predictions = study(split_unit=unit)
    evaluation = evaluate(predictions, resamples=10)
    for drawing in (*draw_scores(predictions, evaluation), draw_comparison({"run": evaluation})):
        assert SPLIT_WARNINGS[unit] in words(drawing.figure)
    clean = study()
    for drawing in draw_scores(clean, evaluate(clean, resamples=10)):
        assert "split" not in words(drawing.figure)


def test_training_curves_show_what_there_is() -> None:
    curves, rate = draw_training(history(), best_epoch=2)
    text = words(curves.figure)
    assert all(word in text for word in ("training", "validation", "accuracy", "kept: 2"))
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


def test_the_comparison_shows_both_scores_of_both_runs() -> None:
    pair = {
        "Split by person": evaluate(study(skill=0.5), resamples=50),
        "Split by image": evaluate(study(), resamples=50),
    }
    text = words(draw_comparison(pair).figure)
    for evaluation in pair.values():
        for scores in evaluation.scores.values():
            assert f"{scores.metrics['accuracy'].value:.2f}" in text
    assert "always saying the most frequent class" in text
    assert "most frequent" not in words(draw_comparison(pair, "macro_f1").figure)


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


def test_saved_figures_are_the_same_bytes_each_time(tmp_path) -> None:
    predictions = study()
    evaluation = evaluate(predictions, resamples=10)
    pairs = [draw_scores(predictions, evaluation)[1].save(tmp_path / str(n)) for n in range(2)]
    for first, second in zip(*pairs, strict=True):
        assert first.read_bytes() == second.read_bytes()
    with Image.open(pairs[0][0]) as image:
        assert image.info["dpi"] == pytest.approx((150, 150), abs=0.1)
        assert image.width == 525
    assert pairs[0][1].read_text().count("<svg") == 1


def test_nothing_global_is_touched() -> None:
    before = dict(mpl.rcParams)
    predictions = study()
    draw_scores(predictions, evaluate(predictions, resamples=10))
    draw_training(history())
    assert dict(mpl.rcParams) == before
