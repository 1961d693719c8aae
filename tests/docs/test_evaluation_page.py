"""The pages on evaluation say what is so."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path

from gyrus.evaluation.assessment import Assessment
from gyrus.evaluation.calibration_metrics import CALIBRATION_ERRORS
from gyrus.evaluation.calibrators import CALIBRATORS
from gyrus.evaluation.conformal import CONFORMAL
from gyrus.evaluation.metrics import CLASS_METRICS, METRICS
from gyrus.evaluation.result import Estimate, Evaluation, Scores
from gyrus.evaluation.thresholds import GOALS

DOCS = Path(__file__).parents[2] / "docs"


def test_the_examples_run(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "evaluation.md").read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    for block in blocks:
        exec(block, {})
    printed = capsys.readouterr().out
    assert "By subject (3 subjects)" in printed
    assert "Chosen on 80 subjects of the validation set" in printed


def test_the_schema_names_every_field_and_metric() -> None:
    page = (DOCS / "metrics-schema.md").read_text(encoding="utf-8")
    names = [field.name for value in (Evaluation, Scores, Estimate) for field in fields(value)]
    for name in [*names, *METRICS, *CLASS_METRICS, Evaluation.SCHEMA]:
        assert f"`{name}`" in page


def test_the_page_names_every_choice() -> None:
    page = (DOCS / "evaluation.md").read_text(encoding="utf-8")
    for name in [*CALIBRATION_ERRORS, *CALIBRATORS, *GOALS, *CONFORMAL, Assessment.SCHEMA]:
        assert f"`{name}`" in page


def test_the_example_of_the_schema_can_be_loaded(tmp_path: Path) -> None:
    page = (DOCS / "metrics-schema.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    assert json.loads(example)["schema"] == Evaluation.SCHEMA
    (tmp_path / "metrics.json").write_text(example, encoding="utf-8")
    evaluation = Evaluation.load(tmp_path / "metrics.json")
    assert evaluation.headline.metrics["accuracy"].value == 1.0
    assert evaluation.warning == json.loads(example)["warning"]
