"""Comparison of runs, and of predictions of other tools."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from gyrus.datasets.targets import Target
from gyrus.errors import ConfigError, GyrusError, RunError
from gyrus.inference.number_predictions import NumberPredictions
from gyrus.inference.predictions import Predictions
from gyrus.runs.run_folder import Run
from gyrus.workflows.compare import compare, find_runs, leaderboard, read_entry


@pytest.fixture
def runs(finished_run: Path, tmp_path: Path) -> Path:
    """Two finished runs, one with a run inside it, and one that has just started."""
    for name in ("a", "b"):
        shutil.copytree(finished_run, tmp_path / "runs" / name / "run")
    shutil.copytree(finished_run, tmp_path / "runs" / "b" / "run" / "shuffled-labels")
    Run.create(tmp_path / "runs" / "started")
    return tmp_path / "runs"


def test_finished_runs_are_found_and_runs_inside_runs_left_out(runs):
    assert find_runs(runs) == ([runs / "a" / "run", runs / "b" / "run"], [runs / "started"])
    with pytest.raises(RunError, match="no finished run"):
        find_runs(runs / "started")


def test_runs_are_named_by_what_distinguishes_them(runs, tmp_path):
    found = compare([runs / "a" / "run", runs / "b" / "run"], out=tmp_path / "comparison", resamples=20)
    for name in ("a", "b"):
        assert name in found.text()
    assert found.report.is_file()
    ranked = leaderboard(runs, resamples=20)
    assert ranked.report.is_relative_to(runs / "leaderboard")
    assert ranked.unfinished == (runs / "started",)


def test_a_table_of_another_tool_needs_its_split_unit(finished_run, tmp_path):
    table = tmp_path / "table.csv"
    Predictions.load(Run(finished_run).predictions("test")).export(table)
    with pytest.raises(ConfigError, match="--split-unit"):
        read_entry(table, "other")
    entry = read_entry(table, "other", "subject")
    assert entry.facts == {"Model": "predictions of another tool"}


def test_classes_and_numbers_are_ranked_apart(runs, tmp_path):
    random = np.random.default_rng(0)
    for name, number in (("age", "age"), ("volume", "volume"), ("later", "age")):
        run = Run(shutil.copytree(runs / "a" / "run", runs / name / "run"))
        NumberPredictions.from_outputs(
            [f"s{place}" for place in range(12)],
            random.normal(size=(12, 1)),
            targets=random.normal(size=12),
            target=Target("number", number),
            split_unit="subject",
            subset="test",
            subjects=[f"p{place}" for place in range(12)],
            subject_kind="subject",
        ).save(run.predictions("test"))
    with pytest.raises(ConfigError, match=r"classes \(a\), the number 'age' \(age\).*gyrus leaderboard"):
        compare([runs / "a" / "run", runs / "age" / "run"], out=tmp_path / "comparison")
    assert not (tmp_path / "comparison").exists()

    found = leaderboard(runs, out=tmp_path / "board", resamples=20)
    boards = [found, *found.apart]
    assert [each.report.parent.relative_to(tmp_path / "board").as_posix() for each in boards] == [
        ".",
        "number-1",
        "number-2",  # the same number, but of other subjects: their true numbers differ
        "number-3",
    ]
    assert [len(each.leaderboard.standings) for each in found.apart] == [1, 1, 1]
    assert len(found.leaderboard.tables[0].standings) == 2

    by_error = leaderboard(runs, out=tmp_path / "errors", metric="rmse", resamples=20)
    assert by_error.without_metric == ("a", "b")
    assert len(by_error.apart) == 2
    with pytest.raises(GyrusError, match="metric"):
        leaderboard(runs, out=tmp_path / "none", metric="wrong")
