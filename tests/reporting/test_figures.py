"""Drawings are saved reproducibly and embedded in pages with unique ids."""

from __future__ import annotations

import threading

import matplotlib as mpl
import pytest
from PIL import Image

from gyrus.evaluation.evaluate import evaluate
from gyrus.reporting.evaluation_figures import draw_scores
from gyrus.reporting.figures import (
    Drawing,
    Picture,
    _legible_texts,
    _without_glyphs,
    figure_style,
    font_family,
    names_without_glyphs,
    new_figure,
    save_drawings,
)
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


def test_names_without_a_glyph_are_marks_with_a_key_in_a_png_and_stay_names_in_a_page(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("gyrus.reporting.figures.OTHER_FONTS", ())  # as on a system with DejaVu Sans only
    for cached in (font_family, _without_glyphs):
        cached.cache_clear()
    names = ["阿尔茨海默", "مرض", "🧠 tumour"]
    figure = new_figure(3.0, 2.0)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], label=names[2])
    axes.set_xticks([0, 1], names[:2])
    axes.legend()
    (picture,) = save_drawings([Drawing("names", "Names", "Caption.", figure)], tmp_path)  # warnings are errors here
    png, svg = tmp_path / "names.png", tmp_path / "names.svg"
    assert all(name in svg.read_text(encoding="utf-8") for name in names)
    assert [label.get_text() for label in axes.get_xticklabels()] == names[:2], "the figure is as it was"
    with _legible_texts(figure, names_without_glyphs(figure)):
        figure.canvas.draw()
        assert axes.get_xticklabels()[0].get_text() == "[1]"
        assert axes.get_xticklabels()[1].get_text() == names[1], "DejaVu Sans contains Arabic"
        assert axes.get_legend().get_texts()[0].get_text() == "[2] tumour"
    key = "The PNG file shows [1] for 阿尔茨海默, [2] for 🧠: no installed font contains these characters."
    assert picture.caption == f"Caption. {key}"
    with Image.open(png) as written:
        assert written.info["Description"] == key
    for cached in (font_family, _without_glyphs):
        cached.cache_clear()


def test_classes_with_hostile_names_are_drawn(tmp_path) -> None:
    classes = ("$x^{$", "阿尔茨海默", "[/b]", "<script>")
    predictions = study(classes=classes)
    for drawing in draw_scores(predictions, evaluate(predictions, resamples=10)):
        drawing.save(tmp_path)


def test_threads_that_draw_leave_the_settings_of_matplotlib_as_they_were() -> None:
    before = {key: value for key, value in mpl.rcParams.items() if key != "backend"}
    second_waits, first_ends = threading.Event(), threading.Event()

    def second() -> None:
        second_waits.set()
        with figure_style():
            assert first_ends.is_set()

    thread = threading.Thread(target=second)
    with figure_style():
        thread.start()
        assert second_waits.wait(10)
        thread.join(0.1)
        first_ends.set()
    thread.join(10)
    assert not thread.is_alive()
    assert {key: value for key, value in mpl.rcParams.items() if key != "backend"} == before
