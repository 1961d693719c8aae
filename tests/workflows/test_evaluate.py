"""Evaluation of runs and of tables of predictions."""

from __future__ import annotations

import html
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from gyrus.audit.findings import Findings
from gyrus.audit.image_quality import measure_quality
from gyrus.errors import ConfigError
from gyrus.evaluation.assessment import Assessment
from gyrus.evaluation.result import Evaluation
from gyrus.evaluation.subgroups import Subgroups
from gyrus.inference.predictions import Predictions
from gyrus.runs.run_folder import Run
from gyrus.workflows.evaluate import evaluate, healthy_class, report_page
from gyrus.workflows.saved_outputs import load_quality
from gyrus.workflows.train import train
from tests.conftest import SMALL
from tests.support.command_line import gyrus


def test_a_run_has_an_assessment_and_subgroups(finished_run):
    run = Run.open(finished_run)
    assessment, groups = Assessment.load(run.assessment), Subgroups.load(run.subgroups)
    assert assessment.healthy == "Control"
    assert assessment.validation_count == Predictions.load(run.predictions("val")).table["subject"].nunique()
    assert [table.column for table in groups.tables] == ["slice", "sharpness", "foreground SNR"]
    page = run.report.read_text()
    for words in (
        "Calibration and decision thresholds",
        "Operating points",
        "Subgroups",
        "Decision curve",
        "Reliability",
    ):
        assert words in page
    assert assessment.text().splitlines()[0] in run.classification_report.read_text()
    assert (run.figures / "reliability.png").exists()


def test_subjects_are_grouped_by_the_mean_quality_of_their_images(finished_run, phantom_folder):
    run = Run.open(finished_run)
    quality, test = load_quality(run), Predictions.load(run.predictions("test")).table
    assert set(quality.index) == set(test["sample"])
    own = test.loc[test["subject"] == test["subject"].iloc[0], "sample"]
    measured = [measure_quality(np.asarray(Image.open(phantom_folder / name)))["sharpness"] for name in own]
    assert quality.loc[own[0], "sharpness"] == pytest.approx(np.mean(measured), rel=0.01)
    sharpness = Subgroups.load(run.subgroups).tables[1]
    assert (sharpness.column, sharpness.unit) == ("sharpness", "subject")
    assert sharpness.p_value is not None


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (("Mild_Demented", "Non_Demented"), "Non_Demented"),
        (("AD", "CN", "MCI"), "CN"),
        (("Healthy Control", "Sick"), "Healthy Control"),
        (("NC", "CN"), None),
        (("PTE", "LO"), None),
    ],
)
def test_the_healthy_class_is_recognised_by_its_name(classes, expected):
    assert healthy_class(classes) == expected


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"evaluation.healthy": "Sane"}, "the classes are"),
        ({"evaluation.groups": ["age"]}, "the data have the columns"),
    ],
)
def test_an_evaluation_that_would_fail_is_refused_before_training(phantom_folder, tmp_path, setting, words):
    with pytest.raises(ConfigError, match=words):
        train("dementia-baseline", data=phantom_folder, out=tmp_path / "run", overrides={**SMALL, **setting})
    assert not (tmp_path / "run").exists()


def test_subgroups_come_from_the_columns_of_a_table(phantom_folder, tmp_path):
    paths = sorted(phantom_folder.rglob("*.png"))
    people = {path.stem.rsplit("_", 1)[0]: number for number, path in enumerate(paths)}
    rows = [
        {
            "path": str(path),
            "label": path.parent.name,
            "subject": path.stem.rsplit("_", 1)[0],
            "sex": "FM"[sorted(people).index(path.stem.rsplit("_", 1)[0]) % 2],
        }
        for path in paths
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "data.csv", index=False)
    run = train(
        "dementia-baseline",
        data=tmp_path / "data.csv",
        out=tmp_path / "run",
        overrides={**SMALL, "training.epochs": 1},
    )
    sex = next(table for table in Subgroups.load(run.subgroups).tables if table.column == "sex")
    assert (sex.column, sex.unit) == ("sex", "subject")
    assert sum(group.count for group in sex.groups) == len(
        set(Predictions.load(run.predictions("test")).table["subject"])
    )


def test_the_audit_of_a_run_is_part_of_its_report(finished_run, tmp_path):
    run = Run(shutil.copytree(finished_run, tmp_path / "run"))
    assert "have not been audited" in run.report.read_text()
    result = gyrus("audit", "--run", run.folder, "--no-maps", "--check", "leakage", "--check", "duplicates")
    assert result.returncode == 0, result.stderr
    findings = Findings.load(run.audit / "findings.json")
    page = html.unescape(run.report.read_text())
    assert findings.verdict in page
    assert "have not been audited" not in page


def test_a_run_is_evaluated_again_with_other_settings(finished_run, tmp_path):
    run = Run(shutil.copytree(finished_run, tmp_path / "run"))
    before = Evaluation.load(run.metrics)
    again = evaluate(run.folder, level=0.8, interval="percentile")
    assert (again.level, again.interval, again.resamples) == (0.8, "percentile", before.resamples)
    assert again == Evaluation.load(run.metrics)
    assert report_page(run.folder) == run.report
    with pytest.raises(ConfigError, match="for tables of predictions"):
        evaluate(run, split_unit="image")
    with pytest.raises(ConfigError, match="level"):
        evaluate(run, level=1.5)


def test_a_table_of_another_tool_is_evaluated_beside_it_by_default(finished_run, tmp_path):
    table = tmp_path / "other.csv"
    Predictions.load(Run(finished_run).predictions("test")).export(table)
    with pytest.raises(ConfigError, match="--split-unit"):
        evaluate(table)
    found = evaluate(table, split_unit="subject", resamples=20)
    assert report_page(table) == tmp_path / "other-evaluation" / "report.html"
    assert report_page(table).is_file()
    assert found == Evaluation.load(tmp_path / "other-evaluation" / "metrics.json")
    evaluate(table, split_unit="subject", resamples=20, out=tmp_path / "own")
    assert (tmp_path / "own" / "report.html").is_file()
