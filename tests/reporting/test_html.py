"""Pages are complete, self-contained and escaped, and the verdict comes first."""

from __future__ import annotations

import html
import re
import subprocess
import sys
from dataclasses import replace

import pytest

from gyrus.evaluation.evaluate import evaluate
from gyrus.evaluation.result import limitations, verdict
from gyrus.reporting.evaluation_figures import draw_scores
from gyrus.reporting.figures import Picture
from gyrus.reporting.html import render, write_page
from gyrus.types import SPLIT_WARNINGS
from tests.support.predictions import study
from tests.support.report_contents import comparison, content, page_text, read, typical

PAGES = {"report.html.j2": typical, "comparison.html.j2": comparison}
REPORT = "report.html.j2"


def test_the_first_screen_ends_with_the_first_limitation() -> None:
    made = content(study())
    page = render(REPORT, made)
    first = limitations(made.evaluation)[0]
    assert page.index(html.escape(first, quote=False)[:20]) < page.index('class="tiles"')


@pytest.mark.parametrize("template", PAGES)
def test_pages_are_complete_and_need_no_network(template: str) -> None:
    page = render(template, PAGES[template]())
    reader = read(page)
    assert not re.search(r"https?:|//[a-z]|@import|\bsrc=", page)
    assert all(target.startswith("#") for target in re.findall(r"(?:url\(|href=\")([^)\"]*)", page))
    assert not {"script", "link", "iframe", "img"} & reader.tags
    assert len(reader.ids) == len(set(reader.ids))


def test_the_verdict_comes_before_all_numbers() -> None:
    made = typical()
    page = page_text(render(REPORT, made))
    places = [page.index(sentence) for sentence in (*verdict(made.evaluation), *limitations(made.evaluation))]
    assert places == sorted(places)
    assert places[-1] < page.index("Score (95 % CI)") < page.index("Data Images") < page.index("Model small_cnn")
    assert page.index("Model small_cnn") < page.index("gyrus train --data DATA") < page.index("seed: 0")


def test_every_score_is_in_the_page() -> None:
    made = typical()
    page = page_text(render(REPORT, made))
    for scores in made.evaluation.scores.values():
        for estimate in scores.metrics.values():
            assert f"{estimate.value:.2f}".replace("-", "−") in page
    assert "Not a medical device".lower() in page.lower()


@pytest.mark.parametrize("unit", SPLIT_WARNINGS)
def test_the_warning_of_a_leaking_split_comes_before_the_verdict(unit: str) -> None:
    made = content(study(split_unit=unit))
    page = page_text(render(REPORT, made))
    words = SPLIT_WARNINGS[unit]
    if words:
        assert page.index(words) < page.index(verdict(made.evaluation)[0])
    else:
        assert not any(warning in page for warning in SPLIT_WARNINGS.values() if warning)


def test_all_text_from_the_data_is_escaped() -> None:
    evil = "<script>alert('x')</script>"
    predictions = study(classes=("Non", evil, "<b>", '" onload="x'))
    pictures = tuple(map(Picture.from_drawing, draw_scores(predictions, evaluate(predictions, resamples=10))))
    page = render(
        REPORT,
        content(
            predictions,
            score_pictures=pictures,
            title=evil,
            config_text=evil,
            command=evil,
            data=((evil, evil),),
            created="<img src=x>",
        ),
    )
    reader = read(page)
    assert not {"script", "img"} & reader.tags
    assert not reader.attributes & {"onload", "onclick", "onerror"}
    assert evil in page_text(page)


@pytest.mark.parametrize("counts", [(20, 6, 1, 0), (9, 0, 0, 0), (1, 1, 0, 0)])
def test_pages_of_few_subjects_have_words_instead_of_nan(counts: tuple[int, ...]) -> None:
    page = page_text(render(REPORT, content(study(counts))))
    assert "nan" not in page.lower().replace("unanimous", "")
    assert "none" not in page.lower()
    assert "exact interval" in page or "conservative bound" in page or "within the classes" in page


def test_unknown_subjects_make_a_page_by_image_only() -> None:
    predictions = study(subjects=None, split_unit="image")
    page = page_text(render(REPORT, content(predictions)))
    assert "By subject" not in page
    assert "bootstrap resamples of images" in page


def test_empty_sections_are_left_out(tmp_path) -> None:
    empty = dict.fromkeys(("score_pictures", "training_pictures", "data", "split", "training", "environment"), ())
    write_page(tmp_path / "report.html", REPORT, replace(typical(), **empty, config_text="", command=""))
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Reproduction" not in page
    assert '<h2 id="scores">Scores</h2>' in page


def test_neither_evaluation_nor_report_needs_torch_or_pyplot() -> None:
    code = (
        "import sys, gyrus.evaluation.evaluate, gyrus.reporting.run_report, gyrus.reporting.crossval_report;"
        "assert not {'torch', 'lightning', 'sklearn', 'matplotlib.pyplot'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_links_of_the_contents_have_targets() -> None:
    page = render(REPORT, typical())
    targets = re.findall(r'<a href="#([^"]*)"', page)
    assert {"scores", "training", "reproduction"} <= set(targets) <= set(read(page).ids)
    assert "calibration" not in targets  # without an assessment


def test_wide_drawings_get_the_whole_width() -> None:
    wide = Picture("Title", "Caption.", "<svg></svg>", is_wide=True)
    page = render(REPORT, replace(typical(), score_pictures=(wide, replace(wide, is_wide=False))))
    assert page.count('<figure class="wide"') == 1


def test_the_comparison_lists_its_runs():
    page = render("comparison.html.j2", comparison())
    assert re.findall(r'<a href="#([^"]*)"', page) == ["scores", "run-1", "run-2"]
    assert {"scores", "run-1", "run-2"} <= set(read(page).ids)
