from __future__ import annotations

import errno
import math
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from gyrus.errors import GyrusError, UnknownNameError
from gyrus.files import (
    FOREIGN_AGE,
    atomic_path,
    digest,
    new_folder,
    read_json,
    refuse_links,
    remove_abandoned,
    remove_files,
    temporary_folder,
    write_json,
    write_text,
)
from gyrus.registry import look_up


def test_a_failed_write_keeps_the_old_file_and_leaves_no_other(tmp_path):
    path = tmp_path / "notes.txt"
    write_text(path, "old")

    def fail() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise ValueError("stopped")

    with pytest.raises(ValueError, match="stopped"):
        fail()
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["notes.txt"]


def test_a_folder_that_is_a_file_is_told_in_words(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(GyrusError, match="Cannot write"):
        write_text(tmp_path / "file" / "notes.txt", "x")


def test_json_has_null_for_nan_and_reads_back(tmp_path):
    write_json(tmp_path / "a.json", {"x": math.nan, "y": [1.5, (2, math.nan)], "ü": "ß"})
    assert read_json(tmp_path / "a.json") == {"x": None, "y": [1.5, [2, None]], "ü": "ß"}


@pytest.mark.parametrize("content", [None, "{"])
def test_a_missing_or_broken_json_is_told_in_words(tmp_path, content):
    if content:
        (tmp_path / "a.json").write_text(content)
    with pytest.raises(GyrusError, match=r"a\.json"):
        read_json(tmp_path / "a.json")


def test_digests_ignore_the_order_of_keys_only():
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert digest({"a": [1, 2]}) != digest({"a": [2, 1]})


def test_a_wrong_name_gets_the_nearest_and_the_list():
    with pytest.raises(UnknownNameError, match="Did you mean 'cosine'\\? Known: constant, cosine"):
        look_up("cosin", {"constant": 1, "cosine": 2}, "schedule")


# ---------------------------------------------------------------------------------------------------------------------
# What killed processes leave behind
# ---------------------------------------------------------------------------------------------------------------------

WRITE = """
    import os, signal, sys
    from pathlib import Path
    from gyrus.files import atomic_path, new_folder, temporary_folder

    folder, end = Path(sys.argv[1]), sys.argv[2]
    with atomic_path(folder / "a.json") as one, new_folder(folder / "copy") as two, temporary_folder(folder) as three:
        one.write_text("half")
        (two / "image.png").write_text("half")
        (three / "decoded.npy").write_text("pixels")
        if end == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        print("written", flush=True)
        sys.stdin.readline()
"""


def _writer(folder: Path, end: str) -> subprocess.Popen[str]:
    """A process that is writing a file, a new folder and a temporary folder."""
    command = [sys.executable, "-c", textwrap.dedent(WRITE), str(folder), end]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def abandoned(tmp_path) -> list[Path]:
    """What a killed process has left."""
    with _writer(tmp_path, "kill") as process:
        process.communicate(timeout=60)
    left = sorted(tmp_path.iterdir())
    assert len(left) == 5  # a file, and two folders with their marks
    return left


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.usefixtures("abandoned")
def test_the_next_write_removes_what_a_killed_process_has_left(tmp_path):
    write_text(tmp_path / "other.txt", "whole")
    assert _names(tmp_path) == ["other.txt"]


def test_files_of_living_processes_stay_and_those_of_others_are_no_matter(tmp_path):
    own = [".gyrus-notes", ".a.json-abcdefgh", "gyrus-results", ".gyrus-0123abcd-notrandom"]
    for name in own:
        (tmp_path / name).write_text("mine")
    with _writer(tmp_path, "wait") as process:
        assert process.stdout is not None
        process.stdout.readline()
        before = sorted(tmp_path.rglob("*"))
        remove_abandoned(tmp_path)
        assert sorted(tmp_path.rglob("*")) == before
        process.communicate("go on\n", timeout=60)
    assert _names(tmp_path) == sorted([*own, "a.json", "copy"])


def test_files_of_another_machine_are_removed_after_days_only(tmp_path, abandoned, monkeypatch):
    monkeypatch.setattr("gyrus.files._machine", lambda: "ffffffff")
    remove_abandoned(tmp_path)
    assert sorted(tmp_path.iterdir()) == abandoned
    for path in abandoned:
        os.utime(path, (0, path.stat().st_mtime - FOREIGN_AGE - 60))
    write_text(tmp_path / "sub" / ".." / "other.txt", "whole")  # a folder is searched once per process and name
    assert _names(tmp_path) == ["other.txt", "sub"]


@pytest.mark.usefixtures("abandoned")
def test_a_folder_with_nothing_but_abandoned_files_counts_as_empty(tmp_path):
    with new_folder(tmp_path) as folder:
        (folder / "image.png").write_text("whole")
    assert _names(tmp_path) == ["image.png"]


def test_abandoned_files_are_removed_where_the_new_folder_is_refused(tmp_path, abandoned):
    write_text(tmp_path / "copy" / "image.png", "whole")
    with pytest.raises(GyrusError, match="not an empty folder"), new_folder(tmp_path / "copy"):
        pass
    assert not any(path.exists() for path in abandoned)


def test_links_under_the_name_of_a_temporary_file_are_not_followed(tmp_path, abandoned):
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "scan.nii").write_text("mine")
    folders = [path for path in abandoned if path.suffix == ".folder"]
    for folder in folders:
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
        folder.symlink_to(tmp_path / "scans")
    remove_abandoned(tmp_path)
    assert (tmp_path / "scans" / "scan.nii").read_text() == "mine"


def test_a_temporary_folder_is_private_and_short_lived(tmp_path):
    with temporary_folder(tmp_path) as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "decoded.npy").write_text("pixels")
    assert _names(tmp_path) == []


def test_a_full_disk_is_told_with_a_way_out(tmp_path):
    for writer in (atomic_path, new_folder):
        with (
            pytest.raises(GyrusError, match=r"No space left on device\. Free some space"),
            writer(tmp_path / "a"),
        ):
            raise OSError(errno.ENOSPC, "No space left on device")
    assert _names(tmp_path) == []


def test_links_that_lead_out_are_refused_and_others_are_not(tmp_path: Path) -> None:
    folder, outside = tmp_path / "run", tmp_path / "outside"
    (folder / "deep" / "figures").mkdir(parents=True)
    outside.mkdir()
    (outside / "data.bin").touch()
    refuse_links(tmp_path / "missing")
    (folder / "inside").symlink_to(folder / "deep")
    (folder / "data.bin").symlink_to(outside / "data.bin")  # is replaced, not written through
    refuse_links(folder)
    link = tmp_path / "link"
    link.symlink_to(folder)
    refuse_links(link)
    for name in ("deep/figures/more", "deep/.lock"):
        (folder / name).symlink_to(outside)
        with pytest.raises(GyrusError, match="is a link that leads out of"):
            refuse_links(folder)
        (folder / name).unlink()


def test_only_files_of_the_given_kinds_are_removed(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    for name in ("a/one.png", "a/b/two.png", "a/notes.txt", "mine.png"):
        (tmp_path / name).touch()
    (tmp_path / "a" / "link").symlink_to(tmp_path)
    remove_files(tmp_path / "a", (".png",))
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["link", "notes.txt"]
    assert (tmp_path / "mine.png").exists()
    remove_files(tmp_path / "missing", (".png",))
