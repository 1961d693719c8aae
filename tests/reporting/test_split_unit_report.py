"""The comparison of splits by subject and by image explains why the scores differ."""

from __future__ import annotations

import re
from dataclasses import replace

from gyrus.datasets.splits import Split
from gyrus.evaluation.evaluate import evaluate, evaluate_baselines
from gyrus.reporting.html import render
from gyrus.reporting.split_unit_report import Comparison, draw_comparison, report_comparison, shared_subjects
from gyrus.types import SPLIT_WARNINGS
from tests.support.predictions import study
from tests.support.report_contents import comparison, page_text, words


def test_the_comparison_shows_both_scores_of_both_runs() -> None:
    pair = {
        "Split by subject": evaluate(study(skill=0.5), resamples=50),
        "Split by image": evaluate(study(), resamples=50),
    }
    text = words(draw_comparison(pair).figure)
    for evaluation in pair.values():
        for scores in evaluation.scores.values():
            assert f"{scores.metrics['accuracy'].value:.2f}" in text
    assert "majority class" in text
    assert "majority" not in words(draw_comparison(pair, "macro_f1").figure)


def test_a_comparison_explains_why_the_scores_differ() -> None:
    page = page_text(render("comparison.html.j2", comparison()))
    assert "recognising the subject is enough to be right" in page
    assert "Report the scores of 'By subject'." in page
    assert f"By image: {SPLIT_WARNINGS['image']}" in page
    assert re.search(r"Accuracy by image: \d+ % in '[^']+', \d+ % in '[^']+'\.", page)


def test_a_comparison_begins_with_the_baselines_on_new_subjects() -> None:
    made = comparison()
    run = made.runs[0]
    baselines = evaluate_baselines(
        run.predictions, {"nearest-neighbour": ("", study(skill=0.0))}, unit="subject", resamples=50
    )
    first = replace(made, runs=(replace(run, baselines=baselines), made.runs[1])).sentences[0]
    assert first.startswith(f"'{run.name}': not better than always predicting the majority class")


def test_runs_with_the_same_split_are_not_ranked() -> None:
    made = comparison()
    alike = Comparison("Two", (made.runs[0], made.runs[0]))
    assert "scores on different subjects are not ranked" in page_text(render("comparison.html.j2", alike))


def test_the_report_counts_test_subjects_in_the_training_set(tmp_path) -> None:
    samples = {"train": ("a", "b"), "val": (), "test": ("c",)}
    subjects = {"train": ("1", "2"), "val": (), "test": ("2",)}
    split = Split(samples, subjects, unit="image", method="holdout", seed=0, manifest_digest="")
    assert shared_subjects(split) == (1, 1)
    runs = [replace(each, split=split) for each in comparison().runs]
    text = report_comparison(runs, tmp_path / "report.html")
    assert "By image: 1 of 1 test subjects are also in the training set." in text
    assert all(estimate.text() in text for estimate in [runs[0].evaluation.headline.metrics["accuracy"]])
    assert {path.name for path in tmp_path.iterdir()} == {"figures", "report.html"}
    assert "gyrus train" in page_text((tmp_path / "report.html").read_text())
