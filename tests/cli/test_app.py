"""The command line as a user meets it, on real files."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pandas as pd
import pytest
import typer

from gyrus.cli.app import app, main
from gyrus.datasets.manifest import Manifest
from gyrus.datasets.splits import Split
from gyrus.extras import install_command
from tests.conftest import SMALL
from tests.support.options import set_options

GYRUS = Path(sys.executable).with_name("gyrus")
SETTINGS = set_options(SMALL)


def gyrus(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command in this process, which has paid for its imports already."""
    out, err = io.StringIO(), io.StringIO()
    words = [str(argument) for argument in arguments]
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["gyrus", *words])
        try:
            main()
            code = 0
        except SystemExit as exit_:
            code = int(exit_.code or 0)
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())


def refused(*arguments: object) -> str:
    """The message of a command that must end with exit code 2 and no traceback."""
    result = gyrus(*arguments)
    assert result.returncode == 2, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    return " ".join(result.stderr.split())


def test_a_mistake_ends_a_real_process_with_2_and_no_traceback(tmp_path):
    result = subprocess.run([GYRUS, "evaluate", tmp_path], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("Error: There is no run in")
    assert "Traceback" not in result.stderr


def all_commands(command: object, name: str = "") -> list[str]:
    """The names of a command and of all below it."""
    below = getattr(command, "commands", {}).items()
    return [name, *(found for word, child in below for found in all_commands(child, f"{name} {word}".strip()))]


@pytest.mark.parametrize("command", all_commands(typer.main.get_command(app)))
def test_every_command_explains_itself(command):
    result = gyrus(*command.split(), "--help")
    assert result.returncode == 0, result.stderr
    assert "Usage: gyrus" in result.stdout


def test_help_imports_nothing_heavy_and_judging_no_trainer():
    code = "import sys, gyrus.cli.app; print(*sys.modules); import gyrus.workflows.train; print(*sys.modules)"
    lines = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    for_help, for_judging = (set(line.split()) for line in lines)
    assert not {"torch", "numpy", "pandas", "lightning", "timm", "matplotlib", "sklearn"} & for_help
    assert not {"lightning", "timm", "torchvision", "sklearn"} & for_judging


def test_scan_says_what_the_data_consist_of(phantom_folder, tmp_path):
    result = gyrus("data", "scan", phantom_folder, "--out", tmp_path / "manifest.parquet")
    assert result.returncode == 0, result.stderr
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "Dementia 12 48" in lines
    assert "all 24 96" in lines
    assert "Subjects: by bids" in lines
    assert len(Manifest.load(tmp_path / "manifest.parquet")) == 96


def test_scan_names_every_bad_file(phantom_folder, tmp_path):
    bad = shutil.copytree(phantom_folder, tmp_path / "data")
    for path, content in zip(sorted(bad.rglob("*.png")), (b"", b"not an image"), strict=False):
        path.write_bytes(content)
    result = gyrus("data", "scan", bad)
    assert result.stdout.count("Problem: ") == 2
    message = refused("data", "split", bad, "--out", tmp_path / "split.json")
    assert message.count("slice-") == 2
    assert "--on-bad-file skip" in message


def test_split_writes_what_it_shows(phantom_folder, tmp_path):
    result = gyrus("data", "split", phantom_folder, "--out", tmp_path / "split.json", "--seed", 3)
    assert result.returncode == 0, result.stderr
    split = Split.load(tmp_path / "split.json")
    assert split.seed == 3
    assert str(len(split.samples["train"])) in result.stdout


def test_phantoms_of_every_layout_can_be_trained_on_or_scanned(tmp_path):
    for layout in ("folder", "train-test", "id-slice", "csv", "parquet"):
        options = ("--subjects", 8, "--slices", 3, "--size", 32, "--classes", 2, "--layout", layout)
        assert gyrus("data", "phantom", tmp_path / layout, *options).returncode == 0
        scanned = gyrus("data", "scan", tmp_path / layout)
        assert "all" in scanned.stdout, scanned.stderr
    assert "not an empty folder" in refused("data", "phantom", tmp_path / "csv")


def test_train_evaluate_predict(phantom_folder, tmp_path):
    run = tmp_path / "run"
    trained = gyrus("train", "--recipe", "dementia-baseline", "--data", phantom_folder, "--out", run, *SETTINGS)
    assert trained.returncode == 0, trained.stderr
    assert f"Report: {run / 'report.html'}" in trained.stdout

    evaluated = gyrus("evaluate", run, "--resamples", 20)
    assert evaluated.returncode == 0, evaluated.stderr
    assert json.loads((run / "metrics.json").read_text())["resamples"] == 20

    image = sorted(phantom_folder.rglob("*.png"))[0]
    for suffix in ("csv", "parquet", "json"):
        out = tmp_path / f"answers.{suffix}"
        result = gyrus("predict", run, image, phantom_folder / "Control", "--out", out)
        assert result.returncode == 0, result.stderr
    answers = pd.read_csv(tmp_path / "answers.csv")
    assert answers["sample"].is_unique
    assert str(image) in set(answers["sample"])
    assert set(answers["predicted"]) <= {"Control", "Dementia"}
    total = answers["probability:Control"] + answers["probability:Dementia"]
    assert total.sub(1).abs().max() < 1e-6
    assert len(pd.read_parquet(tmp_path / "answers.parquet")) == len(pd.read_json(tmp_path / "answers.json"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "--data", "DATA"], "--out"),
        (["train", "--data", "DATA", "--out", "OUT", "--recipe", "dementia-basline"], "'dementia-baseline'"),
        (["train", "--data", "DATA", "--out", "OUT", "--set", "training.epoch=1"], "'epochs'"),
        (["train", "--data", "DATA", "--out", "OUT", "--set", "training.epochs"], "NAME=VALUE"),
        (["train", "--data", "/nowhere", "--out", "OUT"], "/nowhere"),
        (["train", "--out", "OUT"], "--data"),
        (["train", "--resume", "OUT"], "no run"),
        (["train", "--resume", "OUT", "--seed", "1", "--data", "x"], "no other option"),
        (["train", "--data", "DATA", "--out", "OUT", "--column", "label"], "ROLE=NAME"),
        (["train", "--data", "DATA", "--out", "OUT", "--config", "/nowhere.yaml"], "/nowhere.yaml"),
        (["evaluate", "OUT"], "no run"),
        (["predict", "OUT", "x.png", "--out", "answers.csv"], "no run"),
        (["predict", "OUT", "x.png", "--out", "answers.xlsx"], ".parquet"),
        (["data", "split", "DATA", "--out", "OUT", "--val", "2"], "less than 1"),
        (["data", "phantom", "OUT", "--subjects", "0"], "subjects"),
        (["data", "phantom", "OUT", "--layout", "fodler"], "'folder'"),
        (["data", "scan", "DATA", "--subject-pattern", "("], "regular expression"),
    ],
)
def test_mistakes_are_told_in_words_and_leave_nothing_behind(phantom_folder, tmp_path, arguments, words):
    places = {"DATA": phantom_folder, "OUT": tmp_path / "out"}
    assert words in refused(*[places.get(argument, argument) for argument in arguments])
    assert not (tmp_path / "out").exists()


def test_models_recipes_doctor_and_version_list_what_is_here(monkeypatch):
    assert "baseline-cnn" in gyrus("models").stdout
    assert "dementia-baseline" in gyrus("recipes").stdout
    shown = gyrus("recipes", "show", "dementia-exp8").stdout
    assert "The attention was taken over the batch" in shown
    assert "attention-blocks" in shown
    assert "'dementia-exp8'" in refused("recipes", "show", "dementia-exp88")
    facts = gyrus("doctor").stdout
    assert "torch" in facts
    assert "MISSING" not in facts
    monkeypatch.setattr("gyrus.runs.run_folder.installed_version", lambda name: None if name == "optuna" else "1.0")
    assert f"not installed; for gyrus tune: {install_command('tuning')}" in " ".join(gyrus("doctor").stdout.split())
    assert gyrus("--version").stdout.startswith("gyrus ")
