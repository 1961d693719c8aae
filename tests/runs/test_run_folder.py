from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from gyrus.configuration import Section
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
    Run.create(tmp_path / "run", Section())
    with pytest.raises(RunError, match="--resume"):
        Run.create(tmp_path / "run", Section())


def _create_until(folder: Path, event: int) -> list[str]:
    """Create a run, and stop before one of the changes to the file system; the changes that were made."""
    changes = []

    def stop(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **keywords: Any) -> Any:
            if len(changes) == event:
                raise Stopped
            changes.append(name)
            return function(*arguments, **keywords)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in ("mkdir", "replace"):
            patch.setattr(Path, name, stop(name, getattr(Path, name)))
        patch.setattr("gyrus.files.tempfile.mkstemp", stop("mkstemp", tempfile.mkstemp))
        patch.setattr(Path, "unlink", lambda *_, **__: None)  # a killed process does not clean up either
        with suppress(Stopped):
            Run.create(folder, Section())
            changes.append("complete")
    return changes


class Stopped(BaseException):
    pass


def test_a_run_that_was_killed_while_it_was_created_can_be_created_again(tmp_path):
    for event in range(30):
        folder = tmp_path / str(event)
        changes = _create_until(folder, event)
        run = Run(folder)
        if run.exists:
            assert run.config.is_file(), changes  # it can be resumed
        else:
            Run.create(folder, Section())
        if "complete" in changes:
            break
    assert changes.count("mkstemp") == 3
    assert not run.is_half_made


@pytest.mark.parametrize(
    "names", [["config.yaml"], ["environment.json", "config.yaml", "notes.txt"], ["run.json", "x"]]
)
def test_a_folder_with_files_of_the_user_is_not_half_made(tmp_path, names):
    for name in names:
        (tmp_path / name).write_text("{}")
    with pytest.raises(RunError, match="is not an empty folder"):
        Run.create(tmp_path, Section())


def test_a_run_of_an_earlier_version_without_config_is_half_made(tmp_path):
    for name in (".lock", "environment.json", "run.json"):
        (tmp_path / name).write_text('{"status": "started", "created": "2026"}')
    assert Run(tmp_path).is_half_made
    assert Run.create(tmp_path, Section()).config.is_file()


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


def test_every_file_of_a_run_is_known_as_its_own(tmp_path):
    run = Run.create(tmp_path / "run")
    files = [getattr(run, name) for name, value in vars(Run).items() if type(value).__name__ == "_File"]
    for path in files:
        if path.suffix:  # others are folders
            path.parent.mkdir(exist_ok=True)
            path.touch()
    assert run.foreign_files == ()
