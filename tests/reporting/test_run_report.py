"""The report of a run is the same from results in hand and from the folder."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from gyrus.evaluation.evaluate import evaluate
from gyrus.evaluation.result import Estimate
from gyrus.evaluation.visit_scores import VisitScores
from gyrus.reporting.html import write_page
from gyrus.reporting.run_report import RunResults, report_predictions, report_run
from gyrus.runs.run_folder import Run
from tests.support.predictions import study
from tests.support.report_contents import page_text, typical


@pytest.fixture
def run_copy(finished_run: Path, tmp_path: Path) -> Run:
    return Run(Path(shutil.copytree(finished_run, tmp_path / finished_run.name)))


def test_a_run_is_reported_again_from_its_folder(run_copy: Run) -> None:
    first, card = run_copy.report.read_text(encoding="utf-8"), run_copy.card.read_text(encoding="utf-8")
    run_copy.report.unlink()
    run_copy.card.unlink()
    report_run(run_copy)
    assert run_copy.report.read_text(encoding="utf-8") == first
    assert run_copy.card.read_text(encoding="utf-8") == card


def test_the_report_shows_the_results_given(run_copy: Run) -> None:
    results = RunResults.load(run_copy)
    bare = RunResults(results.predictions, results.evaluation, results.manifest, results.split, results.history)
    report_run(run_copy, bare)
    text = page_text(run_copy.report.read_text(encoding="utf-8"))
    assert "Baselines, by" not in text
    assert "Operating points" not in text
    assert "Test subjects in training set 0 of" in text
    assert "gyrus audit --run" in text


def test_predictions_without_a_run_have_a_page(tmp_path: Path) -> None:
    predictions = study()
    page = report_predictions(predictions, evaluate(predictions, resamples=20), tmp_path)
    text = page_text(page.read_text(encoding="utf-8"))
    assert "Test set: 42 subjects, 210 images, 4 classes." in text
    assert "gyrus audit" not in text


def test_a_report_without_explanation_needs_no_torch() -> None:
    code = "import sys, gyrus.reporting.run_report; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_scores_by_visit_and_by_person_have_a_table(tmp_path):
    visits = VisitScores(
        7, 4, 1, {"accuracy": Estimate(0.571, 0.2, 0.9)}, {"accuracy": Estimate(0.667, 0.1, 1.0)}, ("a note",)
    )
    page = write_page(tmp_path / "page.html", "report.html.j2", replace(typical(), visit_scores=visits))
    text = page_text(page.read_text(encoding="utf-8"))
    for words in ("7 visits of 4 subjects", "3 subjects whose label does not change", "0.57", "0.67", "A note."):
        assert words in text
    assert 'id="visits"' not in write_page(tmp_path / "other.html", "report.html.j2", typical()).read_text()
