"""The model card has the content of the report in the sections of Mitchell et al. 2019."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from gyrus.evaluation.bootstrap import BootstrapConfig
from gyrus.evaluation.result import verdict
from gyrus.evaluation.subgroups import evaluate_subgroups
from gyrus.reporting.html import render
from gyrus.reporting.model_card import render_card
from tests.support.predictions import study
from tests.support.report_contents import content, typical

SECTIONS = [
    "Model details",
    "Intended use",
    "Factors",
    "Metrics",
    "Evaluation data",
    "Training data",
    "Quantitative analyses",
    "Ethical considerations",
    "Caveats and recommendations",
]


def test_sections_of_the_paper_in_their_order() -> None:
    card = render_card(typical())
    assert [line[3:] for line in card.splitlines() if line.startswith("## ")] == SECTIONS


def test_every_fact_of_a_list_has_a_line_of_its_own() -> None:
    predictions = study()
    sex = pd.DataFrame({"sex": "F"}, index=predictions.table["sample"])
    tables = evaluate_subgroups(predictions, sex, bootstrap=BootstrapConfig(resamples=10))
    assert "\n- Subgroups by sex" in render_card(replace(typical(), subgroups=tables))


def test_scores_and_verdict_are_those_of_the_evaluation() -> None:
    card, evaluation = render_card(typical()), typical().evaluation
    accuracy = evaluation.headline.metrics["accuracy"]
    assert f"| Accuracy | {accuracy.value:.2f} | {accuracy.low:.2f}–{accuracy.high:.2f} |" in card
    assert all(sentence in card for sentence in verdict(evaluation))


def test_warning_of_a_leaking_split_is_in_the_card() -> None:
    leaky = content(study(split_unit="image"))
    assert leaky.evaluation.warning in render_card(leaky)
    assert leaky.evaluation.warning not in render_card(typical())


def test_names_with_signs_are_not_escaped_as_in_a_page() -> None:
    predictions = study(classes=("A & B", "C < D", "E", "F"))
    assert "A & B" in render_card(content(predictions))
    assert "&amp;" not in render_card(content(predictions))


HOSTILE = ("[/b]*x*", "a|b`c`", "![x](http://evil)", "<img src=x onerror=alert(1)>\n# Title\x1b[31m")


def test_hostile_names_are_text_in_card_report_and_page() -> None:
    hostile = content(study(classes=HOSTILE))
    card = render_card(hostile)
    assert "<img" not in card.replace("\\<img", "")
    assert "![x](" not in card
    assert "\n# Title" not in card
    rows = [line for line in card.splitlines() if line.startswith("| a")]
    assert len({line.replace("\\|", "").count("|") for line in rows}) == 1, "a name makes no columns"
    text = hostile.evaluation.text()
    page = render("report.html.j2", hostile)
    assert "<img src=x" not in page
    for output in (card, text):
        assert "\x1b" not in output
    assert "\n# Title" not in text
