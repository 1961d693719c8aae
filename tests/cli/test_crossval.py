"""``gyrus crossval`` and what takes its folder."""

from __future__ import annotations

import shutil

import pandas as pd

from tests.cli.test_app import SETTINGS, gyrus, refused

QUICK = [*SETTINGS, "--set", "training.epochs=1", "--set", "evaluation.baselines=false"]


def test_cross_validate_compare_predict(phantom_folder, tmp_path):
    folds, image = tmp_path / "folds", sorted(phantom_folder.rglob("*.png"))[0]
    options = ("--data", phantom_folder, "--recipe", "dementia-baseline", "--folds", 2, "--out", folds, *QUICK)
    found = gyrus("crossval", *options)
    assert found.returncode == 0, found.stderr
    assert "2 folds, each person in one" in found.stdout
    assert f"Report: {folds / 'report.html'}" in found.stdout
    assert gyrus("compare", folds, "--out", tmp_path / "comparison", "--resamples", 20).returncode == 0

    out = tmp_path / "answers.csv"
    answered = gyrus("predict", folds, image, "--tta", 1, "--out", out)
    assert answered.returncode == 0, answered.stderr
    assert len(pd.read_csv(out)) == 1

    assert "The test sets differ" in refused("ensemble", folds, "--out", tmp_path / "x")
    assert "different are: seed" in refused("crossval", *options, "--seed", 3)
    assert "not both" in refused("crossval", *options, "--config", tmp_path / "x.yaml")


def test_runs_are_judged_together(finished_run, tmp_path):
    copy = shutil.copytree(finished_run, tmp_path / "copy")
    found = gyrus("ensemble", finished_run, copy, "--out", tmp_path / "both")
    assert found.returncode == 0, found.stderr
    assert f"Report: {tmp_path / 'both' / 'report.html'}" in found.stdout
    answered = gyrus(
        "predict", finished_run, finished_run / "x.png", "--with", finished_run, "--out", tmp_path / "a.csv"
    )
    assert "named twice" in answered.stderr
