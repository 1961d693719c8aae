from __future__ import annotations

import pytest

from gyrus.errors import RunError
from gyrus.runs.run_folder import Run


def test_a_run_starts_in_an_empty_folder_and_records_its_status(tmp_path):
    run = Run.create(tmp_path / "run")
    assert run.status == "started"
    run.mark("finished", best_epoch=3)
    assert Run.open(tmp_path / "run").status == "finished"


def test_existing_files_are_never_overwritten(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match=r"is not an empty folder\. Give a new folder"):
        Run.create(tmp_path)
    Run.create(tmp_path / "run")
    with pytest.raises(RunError, match="--resume"):
        Run.create(tmp_path / "run")


def test_a_missing_or_unfinished_run_is_refused_with_advice(tmp_path):
    with pytest.raises(RunError, match="There is no run"):
        Run.open(tmp_path)
    Run.create(tmp_path / "run")
    with pytest.raises(RunError, match="gyrus train --resume"):
        Run.open(tmp_path / "run")


def test_two_processes_cannot_write_into_one_run(tmp_path):
    run = Run.create(tmp_path / "run")
    with run.locked(), pytest.raises(RunError, match="Another process"), Run(run.folder).locked():
        pass


@pytest.mark.parametrize(
    ("place", "title"),
    [("heads", "heads"), ("both/subject", "both/subject"), ("folds/repeat-0/fold-3", "repeat-0/fold-3")],
)
def test_the_titles_of_runs_that_gyrus_has_named_are_distinct(tmp_path, place, title):
    assert Run(tmp_path / place).title == title
