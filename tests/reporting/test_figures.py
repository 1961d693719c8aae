"""Drawings are saved reproducibly and embedded in pages with unique ids."""

from __future__ import annotations

import pytest
from PIL import Image

from gyrus.evaluation.evaluate import evaluate
from gyrus.reporting.evaluation_figures import draw_scores
from gyrus.reporting.figures import Picture
from tests.support.predictions import study
from tests.support.report_contents import read


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


def test_figures_of_two_runs_can_stand_in_one_page() -> None:
    predictions = study()
    drawing = draw_scores(predictions, evaluate(predictions, resamples=10))[0]
    ids = [set(read(Picture.from_drawing(drawing, prefix).svg).ids) for prefix in ("a-", "b-")]
    assert ids[0]
    assert not ids[0] & ids[1]


def test_a_matrix_of_many_classes_gets_the_whole_width() -> None:
    predictions = study((2,) * 12, classes=tuple(f"class {index}" for index in range(12)))
    matrix, curves = map(Picture.from_drawing, draw_scores(predictions, evaluate(predictions, resamples=10))[:2])
    assert matrix.is_wide
    assert not curves.is_wide
