"""``gyrus compare`` and ``gyrus leaderboard`` as a user meets them."""

from __future__ import annotations

import shutil

from gyrus.runs.run_folder import Run
from tests.support.command_line import refused, succeeded


def test_runs_are_ranked(finished_run, tmp_path):
    runs = [shutil.copytree(finished_run, tmp_path / "runs" / name) for name in ("a", "b")]
    Run.create(tmp_path / "runs" / "started")
    out = tmp_path / "comparison"
    shown = succeeded("compare", *runs, "--out", out, "--resamples", 20, "--metric", "balanced_accuracy")
    assert "Report: " in shown
    shown = succeeded("leaderboard", tmp_path / "runs", "--resamples", 20)
    assert f"Left out, not finished: {tmp_path / 'runs' / 'started'}" in shown
    assert str(tmp_path / "runs" / "leaderboard") in shown


def test_mistakes_are_reported(finished_run, tmp_path):
    assert "'accuracy'" in refused("compare", finished_run, "--metric", "acuracy", "--out", tmp_path / "x")
    assert "/nowhere" in refused("leaderboard", "/nowhere")
    assert not (tmp_path / "x").exists()
