"""The command ``gyrus`` itself: help, version, completion, exit codes, and what is imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from gyrus.cli.app import app
from tests.support.command_line import gyrus, refused

GYRUS = Path(sys.executable).with_name("gyrus")


def all_commands(command: object, name: str = "") -> list[str]:
    """The names of a command and of all below it."""
    below = getattr(command, "commands", {}).items()
    return [name, *(found for word, child in below for found in all_commands(child, f"{name} {word}".strip()))]


COMMANDS = all_commands(typer.main.get_command(app))


def test_a_mistake_ends_a_real_process_with_2_and_no_traceback(tmp_path):
    result = subprocess.run([GYRUS, "evaluate", tmp_path], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("Error: There is no run in")
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("wrong", [["trian"], ["train", "--recip", "x"], ["train", "--seed", "one"], ["evaluate"]])
def test_a_wrong_word_ends_with_2_and_no_traceback(wrong):
    assert "Usage: gyrus" in refused(*wrong)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command):
    result = gyrus(*command.split(), "--help")
    assert result.returncode == 0, result.stderr
    assert "Usage: gyrus" in result.stdout


def test_the_summaries_are_not_cut_off(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for group in ("", "data", "recipes", "runs", "config"):
        assert "..." not in gyrus(*group.split(), "--help").stdout.split("Commands:")[1]


def test_version():
    assert gyrus("--version").stdout.startswith("gyrus ")


# ---------------------------------------------------------------------------------------------------------------------
# Completion
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/bin/bash").exists(), reason="needs bash")
def test_completion_is_installed_for_bash_and_lists_commands_and_options(tmp_path):
    environment = {**os.environ, "HOME": str(tmp_path)}

    def bash(script: str) -> str:
        # The command after it keeps bash from replacing itself: the shell is recognised by the parent process.
        words = ["/bin/bash", "--norc", "-c", f"{script}; exit $?"]
        result = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        return result.stdout

    assert "bash completion installed" in bash(f"{GYRUS} --install-completion")
    (script,) = (tmp_path / ".bash_completions").iterdir()
    assert str(script) in (tmp_path / ".bashrc").read_text(encoding="utf-8")
    assert "complete -o default -F _gyrus_completion gyrus" in bash(f"{GYRUS} --show-completion")

    def complete(*words: str) -> list[str]:
        typed = " ".join(f"'{word}'" for word in words)
        call = f"COMP_WORDS=({typed}); COMP_CWORD={len(words) - 1}; _gyrus_completion {GYRUS}"
        return bash(f"source {script}; {call}; echo ${{COMPREPLY[@]}}").split()

    assert {"train", "crossval", "predict", "data"} <= set(complete("gyrus", ""))
    assert complete("gyrus", "cross") == ["crossval"]
    assert complete("gyrus", "train", "--rec") == ["--recipe"]
    assert complete("gyrus", "train", "--on-bad-file", "") == ["fail", "skip"]


# ---------------------------------------------------------------------------------------------------------------------
# What a command imports
# ---------------------------------------------------------------------------------------------------------------------

HEAVY = {
    *("captum", "huggingface_hub", "jinja2", "lightning", "matplotlib", "monai", "nibabel", "numpy", "pandas"),
    *("pyarrow", "scipy.ndimage", "scipy.sparse", "scipy.special", "scipy.stats", "skimage", "sklearn", "timm"),
    *("torch", "torchvision"),
}
TABLES = {"numpy", "pandas", "pyarrow"}


def imported(arguments: list[str], folder: Path) -> set[str]:
    """The heavy libraries that a command imports, in a process of its own."""
    code = (
        "import sys\n"
        "from gyrus.cli.app import app\n"
        "try:\n"
        "    app(prog_name='gyrus')\n"
        "except SystemExit as end:\n"
        "    assert not end.code\n"
        "print(*sys.modules, file=sys.stderr)\n"
    )
    words = [sys.executable, "-c", code, *arguments]
    result = subprocess.run(words, capture_output=True, text=True, check=False, cwd=folder)
    assert result.returncode == 0, result.stderr
    return HEAVY & set(result.stderr.split())


@pytest.mark.parametrize("command", ["--version", "recipes show dementia-baseline", "recipes", "models"])
def test_commands_that_need_no_data_import_nothing_heavy(command, tmp_path):
    assert imported(command.split(), tmp_path) <= {"numpy"}


def test_help_imports_nothing_heavy():
    code = (
        "import sys, typer\n"
        "from gyrus.cli.app import app\n"
        "app.pretty_exceptions_enable = False\n"
        f"for command in {COMMANDS!r}:\n"
        "    try:\n"
        "        app([*command.split(), '--help'], prog_name='gyrus')\n"
        "    except SystemExit:\n"
        "        pass\n"
        "print(*sys.modules, file=sys.stderr)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not HEAVY & set(result.stderr.split())


def test_runs_and_configs_are_listed_without_heavy_libraries(finished_run, tmp_path):
    assert imported(["runs", "list", str(finished_run.parent)], tmp_path) <= {"numpy"}
    (tmp_path / "resnet50_config.json").write_text('{"epochs": 3}')
    assert imported(["config", "import", "resnet50_config.json"], tmp_path) <= {"numpy"}


def test_a_scan_of_images_needs_tables_only(phantom_folder, tmp_path):
    assert imported(["data", "scan", str(phantom_folder)], tmp_path) <= TABLES


def test_a_prediction_needs_torch_and_its_network_only(finished_run, phantom_folder, tmp_path):
    image = next(phantom_folder.rglob("*.png"))
    assert imported(["predict", str(finished_run), str(image), "--out", "p.csv"], tmp_path) <= {*TABLES, "torch"}


def test_an_evaluation_needs_no_trainer(finished_run, tmp_path):
    assert not {"lightning", "timm", "torchvision"} & imported(["evaluate", str(finished_run)], tmp_path)


def test_gyrus_alone_names_the_next_commands():
    result = gyrus()
    assert result.returncode == 0
    for command in ("gyrus demo", "gyrus audit FOLDER", "gyrus train --data FOLDER", "gyrus --help"):
        assert command in result.stdout


def test_an_error_ends_with_the_page_that_helps(tmp_path):
    (tmp_path / "data" / "a").mkdir(parents=True)
    (tmp_path / "data" / "a" / "x.png").write_bytes(b"no image")
    message = refused("data", "split", tmp_path / "data", "--out", tmp_path / "split.json")
    assert message.endswith("See docs/data.md#unusable-images")
