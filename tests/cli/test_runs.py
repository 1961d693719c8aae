"""``gyrus runs`` as a user meets it."""

from __future__ import annotations

import json
import shutil

import pytest

from gyrus.configuration import differences
from gyrus.runs.run_folder import Run
from tests.support.command_line import gyrus, refused


@pytest.fixture
def runs(finished_run, tmp_path):
    """A finished run, one with other settings and data, and one that has just begun."""
    first = shutil.copytree(finished_run, tmp_path / "runs" / "first")
    second = shutil.copytree(finished_run, tmp_path / "runs" / "deep" / "second")
    config = (second / "config.yaml").read_text()
    (second / "config.yaml").write_text(config.replace("epochs: 2", "epochs: 7"))
    split = json.loads((second / "split.json").read_text())
    moved = split["subjects"]["train"].pop()
    split["subjects"]["test"].append(moved)
    (second / "split.json").write_text(json.dumps(split))
    Run.create(tmp_path / "runs" / "begun")
    return first, second, tmp_path / "runs" / "begun"


def test_list_tells_every_run_however_far_it_has_come(runs):
    lines = gyrus("runs", "list", runs[0].parent).stdout.splitlines()
    assert len(lines) == 4
    text = {line.split()[0]: line for line in lines[1:]}
    assert set(text) == {"first", "deep/second", "begun"}
    accuracy = json.loads((runs[0] / "metrics.json").read_text())["scores"]["subject"]["metrics"]["accuracy"]["value"]
    assert f"{accuracy:.3f}" in text["first"]
    assert "finished" in text["first"]
    assert "subject" in text["first"]
    assert "started" in text["begun"]


def test_list_of_an_empty_or_missing_folder(tmp_path):
    assert "No runs" in gyrus("runs", "list", tmp_path).stdout
    assert "/nowhere" in refused("runs", "list", "/nowhere")


def test_show_tells_data_split_and_scores(runs):
    shown = gyrus("runs", "show", runs[0]).stdout
    for word in ("finished", "baseline-cnn", "by subject", "Test accuracy", "report.html", "Train"):
        assert word in shown
    assert "started" in gyrus("runs", "show", runs[2]).stdout
    assert "no run" in refused("runs", "show", runs[0].parent)


def test_diff_names_settings_and_people_that_differ(runs):
    shown = gyrus("runs", "diff", runs[0], runs[1]).stdout
    assert "training.epochs: 2 | 7" in shown
    assert "train: 1 subjects only in the first, 0 only in the second" in shown
    assert "test: 0 subjects only in the first, 1 only in the second" in shown
    assert "seed" not in shown
    same = gyrus("runs", "diff", runs[0], runs[0], "--all").stdout
    assert same.count("the same") == 4


def test_diff_of_a_run_that_has_just_begun(runs):
    assert "has no data yet" in gyrus("runs", "diff", runs[0], runs[2]).stdout


def test_rm_deletes_runs_and_nothing_else(runs, tmp_path):
    assert gyrus("runs", "rm", runs[1], "--yes").returncode == 0
    assert not runs[1].exists()
    assert runs[0].exists()
    assert "no run" in refused("runs", "rm", tmp_path, "--yes")
    assert "no run" in refused("runs", "rm", runs[0], tmp_path, "--yes")
    assert runs[0].exists(), "nothing is deleted where one of the names is wrong"


def test_rm_leaves_a_run_alone_that_is_being_written(runs):
    with Run.open(runs[0]).locked():
        assert "Another process" in refused("runs", "rm", runs[0], "--yes")
    assert runs[0].exists()


def test_differences_name_what_is_inside_lists():
    one = {"steps": [{"size": 1}, {"name": "a"}], "k": [1, 2]}
    other = {"steps": [{"size": 2}, {"name": "a"}], "k": [1, 3], "new": 1}
    assert differences(one, other) == [("steps.0.size", 1, 2), ("k", [1, 2], [1, 3]), ("new", None, 1)]
    assert differences(one, one) == []
