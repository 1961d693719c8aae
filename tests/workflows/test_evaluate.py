"""What a run says of itself beyond its scores."""

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
from gyrus.evaluation.subgroups import Subgroups
from gyrus.inference.predictions import Predictions
from gyrus.runs.run_folder import Run
from gyrus.workflows.evaluate import healthy_class
from gyrus.workflows.image_quality import load_quality
from gyrus.workflows.train import train
from tests.support.command_line import gyrus
from tests.conftest import SMALL


def test_a_run_holds_choices_of_its_validation_part_and_groups(finished_run):
    run = Run.open(finished_run)
    assessment, groups = Assessment.load(run.assessment), Subgroups.load(run.subgroups)
    assert assessment.healthy == "Control"
    assert assessment.validation_count == Predictions.load(run.predictions("val")).table["subject"].nunique()
    assert [grouping.column for grouping in groups.groupings] == ["slice", "sharpness", "foreground SNR"]
    page = run.report.read_text()
    for words in ("Calibration and use", "Operating points", "For whom", "Decision curve", "Reliability"):
        assert words in page
    assert assessment.text().splitlines()[0] in run.classification_report.read_text()
    assert (run.figures / "reliability.png").exists()


def test_people_are_grouped_by_the_mean_quality_of_their_images(finished_run, phantom_folder):
    run = Run.open(finished_run)
    quality, test = load_quality(run), Predictions.load(run.predictions("test")).table
    assert set(quality.index) == set(test["sample"])
    own = test.loc[test["subject"] == test["subject"].iloc[0], "sample"]
    measured = [measure_quality(np.asarray(Image.open(phantom_folder / name)))["sharpness"] for name in own]
    assert quality.loc[own[0], "sharpness"] == pytest.approx(np.mean(measured), rel=0.01)
    sharpness = Subgroups.load(run.subgroups).groupings[1]
    assert (sharpness.column, sharpness.of) == ("sharpness", "subject")
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
def test_the_healthy_class_is_recognised_by_its_name_or_not_at_all(classes, expected):
    assert healthy_class(classes) == expected


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"evaluation.healthy": "Sane"}, "the classes are"),
        ({"evaluation.groups": ["age"]}, "the data have the columns"),
    ],
)
def test_what_could_not_be_judged_is_told_before_training(phantom_folder, tmp_path, setting, words):
    with pytest.raises(ConfigError, match=words):
        train("dementia-baseline", data=phantom_folder, out=tmp_path / "run", overrides={**SMALL, **setting})
    assert not (tmp_path / "run").exists()


def test_groups_of_people_come_from_the_columns_of_a_table(phantom_folder, tmp_path):
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
    sex = next(grouping for grouping in Subgroups.load(run.subgroups).groupings if grouping.column == "sex")
    assert (sex.column, sex.of) == ("sex", "subject")
    assert sum(group.count for group in sex.groups) == len(
        set(Predictions.load(run.predictions("test")).table["subject"])
    )


def test_an_audit_of_a_run_stands_in_its_report(finished_run, tmp_path):
    run = Run(shutil.copytree(finished_run, tmp_path / "run"))
    assert "were not audited" in run.report.read_text()
    result = gyrus("audit", "--run", run.folder, "--no-maps", "--check", "leakage", "--check", "duplicates")
    assert result.returncode == 0, result.stderr
    findings = Findings.load(run.audit / "findings.json")
    page = html.unescape(run.report.read_text())
    assert findings.verdict in page
    assert "were not audited" not in page
