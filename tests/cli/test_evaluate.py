"""``gyrus evaluate`` as a user meets it."""

from __future__ import annotations

import json
import shutil

from tests.support.command_line import refused, succeeded


def test_a_run_is_evaluated_again(finished_run, tmp_path):
    run = shutil.copytree(finished_run, tmp_path / "run")
    shown = succeeded("evaluate", run, "--resamples", 20)
    assert f"Report: {run / 'report.html'}" in shown
    assert json.loads((run / "metrics.json").read_text())["resamples"] == 20


def test_a_table_of_predictions_is_evaluated(finished_run, tmp_path):
    table = shutil.copy(next(finished_run.glob("predictions/test.*")), tmp_path)
    shown = succeeded("evaluate", table, "--out", tmp_path / "out", "--resamples", 20, "--interval", "percentile")
    assert f"Report: {tmp_path / 'out'}" in shown


def test_mistakes_are_reported(finished_run, tmp_path):
    assert "no run" in refused("evaluate", tmp_path)
    assert "--out" in refused("evaluate", finished_run, "--out", tmp_path / "out")
    assert "interval" in refused("evaluate", finished_run, "--interval", "normal")
