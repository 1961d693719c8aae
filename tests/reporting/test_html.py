"""The page: whole, self-contained, escaped, and saying what it must."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from gyrus.evaluation.evaluate import evaluate
from gyrus.evaluation.text import cautions, verdict
from gyrus.reporting.html import render, write_report
from gyrus.reporting.report_content import Picture, draw_scores
from gyrus.types import SPLIT_WARNINGS
from tests.support.predictions import study
from tests.support.report_contents import comparison, content, typical

PAGES = {"report": typical, "comparison": comparison}
VOID = {"meta", "br", "img", "use"}


class Reader(HTMLParser):
    """Reads a page; fails where tags do not match."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.words: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attributes: list) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attributes}
        self.ids += [value for name, value in attributes if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attributes: list) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attributes}
        self.ids += [value for name, value in attributes if name == "id"]

    def handle_data(self, data: str) -> None:
        if not {"style", "title"} & set(self.open):
            self.words.append(data)


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert not reader.open
    return reader


def text(page: str) -> str:
    return " ".join(" ".join(read(page).words).split())


@pytest.mark.parametrize("make", PAGES.values(), ids=PAGES)
def test_the_page_is_whole_and_needs_no_network(make) -> None:
    page = render(make())
    reader = read(page)
    assert not re.search(r"https?:|//[a-z]|@import|\bsrc=", page)
    assert all(target.startswith("#") for target in re.findall(r"(?:url\(|href=\")([^)\"]*)", page))
    assert not {"script", "link", "iframe", "img"} & reader.tags
    assert len(reader.ids) == len(set(reader.ids))


def test_the_verdict_comes_before_all_numbers() -> None:
    made = typical()
    page = text(render(made))
    places = [page.index(sentence) for sentence in (*verdict(made.evaluation), *cautions(made.evaluation))]
    assert places == sorted(places)
    assert places[-1] < page.index("Scores") < page.index("Data and split") < page.index("Training")
    assert page.index("Training") < page.index("gyrus train --data DATA") < page.index("seed: 0")


def test_every_score_is_in_the_page() -> None:
    made = typical()
    page = text(render(made))
    for scores in made.evaluation.scores.values():
        for estimate in scores.metrics.values():
            assert f"{estimate.value:.2f}".replace("-", "−") in page
    assert "Not a medical device".lower() in page.lower()


@pytest.mark.parametrize("unit", SPLIT_WARNINGS)
def test_a_leaky_split_is_warned_of_before_the_verdict(unit: str) -> None:
    page = text(render(content(study(split_unit=unit))))
    words = SPLIT_WARNINGS[unit]
    if words:
        assert page.index(words) < page.index("the classifier gets")
        assert "better than that by more than chance" not in page
    else:
        assert "may be on both sides" not in page


def test_whatever_comes_from_outside_is_escaped() -> None:
    evil = "<script>alert('x')</script>"
    predictions = study(classes=("Non", evil, "<b>", '" onload="x'))
    pictures = tuple(map(Picture.of, draw_scores(predictions, evaluate(predictions, resamples=10))))
    page = render(
        content(
            predictions,
            score_pictures=pictures,
            title=evil,
            config_text=evil,
            command=evil,
            data=((evil, evil),),
            created="<img src=x>",
        )
    )
    reader = read(page)
    assert not {"script", "img"} & reader.tags
    assert not reader.attributes & {"onload", "onclick", "onerror"}
    assert evil in text(page)


def test_a_comparison_says_why_the_scores_differ() -> None:
    page = text(render(comparison()))
    assert "knowing the person is enough to be right" in page
    assert "Quote the scores of 'By person'." in page
    assert "By image: image-level split: subjects may be on both sides" in page


def test_a_comparison_of_alike_splits_ranks_nobody() -> None:
    made = comparison()
    alike = type(made)("Two", "now", (made.runs[0], made.runs[0]))
    assert "scores of different people are not ranked" in text(render(alike))


@pytest.mark.parametrize("people", [(20, 6, 1, 0), (9, 0, 0, 0), (1, 1, 0, 0)])
def test_too_few_people_make_a_page_with_words(people: tuple[int, ...]) -> None:
    page = text(render(content(study(people))))
    assert "nan" not in page.lower().replace("unanimous", "")
    assert "none" not in page.lower()
    assert "no interval" in page


def test_unknown_subjects_make_a_page_by_image_only() -> None:
    predictions = study(subjects=None, split_unit="image")
    page = text(render(content(predictions)))
    assert "by subject" not in page.lower().replace("nothing is scored by subject", "")
    assert "the intervals resample images" in page


def test_a_report_with_nothing_but_scores_is_a_page(tmp_path) -> None:
    empty = dict.fromkeys(("score_pictures", "training_pictures", "data", "split", "training", "environment"), ())
    write_report(tmp_path / "report.html", replace(typical(), **empty, config_text="", command=""))
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "To do it again" not in page
    assert "<h2>Scores</h2>" in page


def test_figures_of_two_runs_can_stand_in_one_page() -> None:
    predictions = study()
    drawing = draw_scores(predictions, evaluate(predictions, resamples=10))[0]
    ids = [set(read(Picture.of(drawing, prefix).svg).ids) for prefix in ("a-", "b-")]
    assert ids[0]
    assert not ids[0] & ids[1]


def test_a_matrix_of_many_classes_gets_the_whole_width() -> None:
    predictions = study((2,) * 12, classes=tuple(f"class {index}" for index in range(12)))
    matrix, curves = map(Picture.of, draw_scores(predictions, evaluate(predictions, resamples=10))[:2])
    assert matrix.is_wide
    assert not curves.is_wide
    assert render(replace(typical(), score_pictures=(matrix, curves))).count('<figure class="wide"') == 1


def test_neither_evaluation_nor_report_needs_torch_or_pyplot() -> None:
    code = (
        "import sys, gyrus.evaluation.evaluate, gyrus.reporting.html;"
        "assert not {'torch', 'lightning', 'sklearn', 'matplotlib.pyplot'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
