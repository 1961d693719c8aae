"""Signals, closed pipes and full disks end a command in words, with the exit code of a Unix program."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from gyrus.cli.signals import ended_by_signals
from gyrus.errors import GyrusError
from gyrus.runs.run_folder import Run
from gyrus.workflows.crossval_folder import open_folder
from tests.support.command_line import gyrus, refused

GYRUS = Path(sys.executable).with_name("gyrus")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_removes_temporary_files_and_sets_the_exit_code(tmp_path, number):
    code = """
        import signal, sys
        from pathlib import Path
        import gyrus.cli.app
        from gyrus.files import temporary_folder

        def app(prog_name):
            with temporary_folder(Path(sys.argv[1])) as folder:
                (folder / "decoded.npy").write_text("pixels")
                print("ready", flush=True)
                while True:
                    signal.pause()

        signal.signal(signal.SIGINT, signal.default_int_handler)
        gyrus.cli.app.app = app
        gyrus.cli.app.main()
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert len(list(tmp_path.iterdir())) == 2
        process.send_signal(number)
        assert process.communicate(timeout=60)[1] == ""
    assert process.returncode == 128 + number
    assert list(tmp_path.iterdir()) == []


def test_a_signal_that_is_ignored_stays_ignored_and_handlers_are_restored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ended_by_signals() as arrived:
            os.kill(os.getpid(), signal.SIGHUP)
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGTERM)
            assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL  # a second one ends the process at once
        assert arrived == [signal.SIGTERM]
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_that_cannot_be_written_ends_with_2():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([GYRUS, "recipes"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "Error: No space left on device.\n")


def test_a_closed_pipe_is_no_error():
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([GYRUS, "recipes"], stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_impossible_paths_are_told_in_words(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "nowhere").symlink_to(tmp_path / "missing" / "folder")
    long = tmp_path / ("x" * 300)
    for out in (tmp_path / "file" / "run", Path("/proc/run"), long, tmp_path / "nowhere"):
        for write in (Run.create, lambda path: open_folder(path, {}, 1)):
            with pytest.raises(GyrusError, match=f"(Cannot write|) {re.escape(str(out))}"):
                write(out)
    assert refused("data", "phantom", long).startswith(f"Error: Cannot write {long}: File name too long")


def test_any_error_of_the_system_is_told_in_words(monkeypatch):
    def fail(**_: object) -> None:
        raise PermissionError(13, "Permission denied", "/somewhere")

    monkeypatch.setattr("gyrus.cli.app.app", fail)
    result = gyrus("recipes")
    assert (result.returncode, result.stderr) == (2, "Error: Permission denied: /somewhere.\n")
