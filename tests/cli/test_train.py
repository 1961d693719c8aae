"""``gyrus train`` as a user meets it."""

from __future__ import annotations

import pytest

import gyrus as api
from gyrus.errors import ConfigError
from tests.support.command_line import SETTINGS, gyrus, refused, succeeded


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every training ends with a message about its arguments."""
    for verb in ("train", "train_both", "train_seeds", "resume"):

        def stop(*arguments: object, verb: str = verb, **options: object) -> None:
            raise ConfigError(f"{verb} {arguments} {options}")

        monkeypatch.setattr(api, verb, stop, raising=False)


def test_a_run_ends_with_its_scores_and_its_report(phantom_folder, tmp_path):
    run = tmp_path / "run"
    secret = "hunter2"
    address = f"postgresql://ann:{secret}@host/mlflow?sslpassword={secret}"
    options = ("--set", f"training.tracking.mlflow={address}", "--set", "training.loggers=[tensorboard]")
    trained = gyrus(
        "train", "--recipe", "dementia-baseline", "--data", phantom_folder, "--out", run, *SETTINGS, *options
    )
    assert secret not in trained.stdout + trained.stderr
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.name for path in files if secret.encode() in path.read_bytes()] == []
    assert "postgresql://ann:***@host/mlflow" in (run / "config.yaml").read_text()
    assert "postgresql://ann:***@host/mlflow" in succeeded("runs", "show", run)
    assert trained.returncode == 0, trained.stderr
    assert f"Report: {run / 'report.html'}" in trained.stdout
    assert (run / "classification_report.txt").read_text(encoding="utf-8").splitlines()[0] in trained.stdout
    assert "has finished" in refused("train", "--resume", run)


@pytest.mark.usefixtures("asked")
def test_options_are_fields_of_the_config(tmp_path):
    arguments = ("train", "--data", "x", "--out", tmp_path / "run")
    assert "'evaluation.shuffled_labels': True" in refused(*arguments, "--shuffled-labels")
    assert "'overrides': {}" in refused(*arguments)
    text = refused(*arguments, "--classes", "A,B", "--on-bad-file", "skip", "--seed", 3, "--set", "training.epochs=2")
    for word in ("train (None,)", "'data.classes': ['A', 'B']", "'data.on_bad_file': 'skip'", "'seed': 3", "'x'"):
        assert word in text
    assert "'training.epochs': 2" in text


@pytest.mark.usefixtures("asked")
def test_seeds_both_and_resume_have_functions_of_their_own(tmp_path):
    arguments = ("train", "--data", "x", "--out", tmp_path / "run")
    assert "train_seeds" in refused(*arguments, "--seeds", "0,1")
    assert "'seeds': [0, 1]" in refused(*arguments, "--seeds", "0,1")
    both = refused(*arguments, "--split-unit", "both")
    assert "train_both" in both
    assert "split.unit" not in both
    assert "resume" in refused("train", "--resume", tmp_path)


@pytest.mark.parametrize("more", [["--seed", 1], ["--column", "label=x"], ["--shuffled-labels"], ["--classes", "A"]])
def test_a_run_is_resumed_with_its_own_config(tmp_path, more):
    assert "no other option" in refused("train", "--resume", tmp_path, *more)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "DATA"], "--out"),
        (["--data", "DATA", "--out", "OUT", "--recipe", "dementia-basline"], "'dementia-baseline'"),
        (["--data", "DATA", "--out", "OUT", "--recipe", "dementia-baseline", "--config", "x.yaml"], "not both"),
        (["--data", "DATA", "--out", "OUT", "--set", "training.epoch=1"], "'epochs'"),
        (["--data", "DATA", "--out", "OUT", "--set", "training.epochs"], "NAME=VALUE"),
        (["--data", "/nowhere", "--out", "OUT"], "/nowhere"),
        (["--out", "OUT"], "--data"),
        (["--resume", "OUT"], "no run"),
        (["--data", "DATA", "--out", "OUT", "--column", "label"], "ROLE=NAME"),
        (["--data", "DATA", "--out", "OUT", "--config", "/nowhere.yaml"], "/nowhere.yaml"),
        (["--data", "DATA", "--out", "OUT", "--seeds", "0,one"], "whole numbers"),
        (["--data", "DATA", "--out", "OUT", "--seeds", "0,1", "--seed", "1"], "neither --seed"),
        (["--data", "DATA", "--out", "OUT", "--on-bad-file", "ignore"], "--on-bad-file"),
    ],
)
def test_mistakes_are_reported_and_leave_nothing_behind(phantom_folder, tmp_path, arguments, words):
    places = {"DATA": phantom_folder, "OUT": tmp_path / "out"}
    assert words in refused("train", *[places.get(argument, argument) for argument in arguments])
    assert not (tmp_path / "out").exists()
