"""Listing, showing, comparing and deleting run folders."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from gyrus import audit, evaluate, explain
from gyrus.errors import GyrusError, RunError
from gyrus.evaluation.result import Evaluation
from gyrus.runs.run_folder import Run
from gyrus.workflows.manage_runs import diff_runs, list_runs, remove_run, show_run
from gyrus.workflows.train import resume


@pytest.fixture
def runs(finished_run: Path, tmp_path: Path) -> tuple[Path, Path, Path]:
    """A finished run, one with other settings and another split, and one that has just started."""
    first = Path(shutil.copytree(finished_run, tmp_path / "runs" / "first"))
    second = Path(shutil.copytree(finished_run, tmp_path / "runs" / "deep" / "second"))
    config = (second / "config.yaml").read_text()
    (second / "config.yaml").write_text(config.replace("epochs: 2", "epochs: 7"))
    split = json.loads((second / "split.json").read_text())
    split["subjects"]["test"].append(split["subjects"]["train"].pop())
    (second / "split.json").write_text(json.dumps(split))
    started = Run.create(tmp_path / "runs" / "started")
    return first, second, started.folder


def test_runs_are_listed_at_any_depth_and_in_any_state(runs):
    found = {each.folder: each for each in list_runs(runs[0].parent)}
    assert set(found) == set(runs)
    accuracy = Evaluation.load(Run(runs[0]).metrics).headline.metrics["accuracy"].value
    assert found[runs[0]].scores["accuracy"] == accuracy
    first, started = found[runs[0]], found[runs[2]]
    assert (first.model, first.split, first.status) == ("baseline-cnn", "subject", "finished")
    assert (started.status, started.data, started.scores["accuracy"]) == ("started", "", None)
    with pytest.raises(RunError, match="There is no folder"):
        list_runs(runs[0] / "nowhere")


def test_facts_and_scores_of_a_run_are_shown(runs):
    facts = dict(show_run(runs[0]))
    assert facts["Split"].startswith("by subject")
    assert facts["Best epoch"] in ("1", "2")
    assert {"Model", "Data", "Train", "Val", "Test", "Test accuracy", "Report"} <= set(facts)
    assert "Split" not in dict(show_run(Run(runs[2])))
    with pytest.raises(RunError, match="no run"):
        show_run(runs[0].parent)


def test_differences_of_two_runs_are_named(runs):
    found = diff_runs(runs[0], runs[1])
    assert found.settings == (("training.epochs", 2, 7),)
    assert found.data == (
        "train: 1 subjects only in the first, 0 only in the second",
        "test: 0 subjects only in the first, 1 only in the second",
    )
    assert found.environment == found.scores == ()
    assert diff_runs(runs[0], runs[2]).data == (f"{runs[2]} has no data yet",)


def test_nothing_is_deleted_if_one_folder_is_no_run(runs, tmp_path):
    with pytest.raises(RunError, match="no run"):
        remove_run(runs[0], tmp_path)
    with Run(runs[0]).locked(), pytest.raises(RunError, match="Another process"):
        remove_run(runs[0])
    assert runs[0].exists()
    remove_run(runs[0], Run(runs[2]))
    assert [run.exists() for run in runs] == [False, True, False]


def test_a_run_is_marked_and_holds_nothing_that_is_not_ours(finished_run, runs):
    for folder in (finished_run, runs[2]):
        assert Run(folder).is_marked
        assert Run(folder).foreign_files == ()
    facts = json.loads((runs[0] / "run.json").read_text())
    del facts["schema"]  # version 0.1 wrote none
    (runs[0] / "run.json").write_text(json.dumps(facts))
    assert Run(runs[0]).is_marked


def test_folders_of_other_programs_are_not_deleted(runs):
    others = [
        ("run.json", '{"status": "finished"}'),
        ("run.json", '{"created": "", "updated": "", "command": [], "status": "finished", "schema": "other/1"}'),
        ("run.json", "[]"),
        ("run.json", "no JSON"),
        ("environment.json", None),
        ("environment.json", '{"name": "conda"}'),
    ]
    for number, (name, content) in enumerate(others):
        folder = Run.create(runs[0].parent / f"other-{number}").folder
        (folder / name).unlink() if content is None else (folder / name).write_text(content)
        with pytest.raises(GyrusError):
            remove_run(runs[2], folder, force=True)
        assert folder.exists()
        assert runs[2].exists()


def test_files_of_users_in_a_run_are_named_and_not_deleted(runs, tmp_path):
    own = ["notes.txt", "figures/slide.pptx", "explanation/notes.md", "deep/run/run.json", "model.safetensors.bak"]
    for name in own:
        (runs[0] / name).parent.mkdir(parents=True, exist_ok=True)
        (runs[0] / name).write_text("mine")
    (runs[0] / "linked").symlink_to(tmp_path)
    with pytest.raises(RunError, match="6 files that Gyrus did not write") as caught:
        remove_run(runs[2], runs[0])
    assert all(name in str(caught.value) for name in [*own, "linked"])
    assert runs[2].exists(), "nothing is deleted where one run must not be"
    (runs[0] / "linked").unlink()
    remove_run(runs[0], force=True)
    assert not runs[0].exists()
    link = tmp_path / "link"
    link.symlink_to(runs[2])
    with pytest.raises(RunError, match="is a link"):
        remove_run(link)


def test_nothing_is_written_through_links_that_lead_out_of_a_run(runs, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    shutil.rmtree(runs[0] / "figures", ignore_errors=True)
    (runs[0] / "figures").symlink_to(outside)
    (runs[2] / "figures").symlink_to(outside)
    with pytest.raises(RunError, match="is a link that leads out of"):
        resume(runs[2])
    for action in (evaluate, explain, lambda run: audit(run=run), lambda run: remove_run(run, force=True)):
        with pytest.raises(GyrusError, match="is a link that leads out of"):
            action(runs[0])
    assert list(outside.iterdir()) == []
    assert runs[0].exists()
