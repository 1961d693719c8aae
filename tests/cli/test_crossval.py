"""``gyrus crossval`` and ``gyrus ensemble`` as a user meets them."""

from __future__ import annotations

import shutil

import pandas as pd

from tests.support.command_line import SETTINGS, refused, succeeded

QUICK = [*SETTINGS, "--set", "training.epochs=1", "--set", "evaluation.baselines=false"]


def test_cross_validate_compare_predict(phantom_folder, tmp_path):
    folds, image = tmp_path / "folds", sorted(phantom_folder.rglob("*.png"))[0]
    options = ("--data", phantom_folder, "--recipe", "dementia-baseline", "--folds", 2, "--out", folds, *QUICK)
    shown = succeeded("crossval", *options)
    assert "2 folds" in shown
    assert f"Report: {folds / 'report.html'}" in shown
    succeeded("compare", folds, "--out", tmp_path / "comparison", "--resamples", 20)

    out = tmp_path / "predictions.csv"
    succeeded("predict", folds, image, "--tta", 1, "--out", out)
    assert len(pd.read_csv(out)) == 1

    assert "The test sets differ" in refused("ensemble", folds, "--out", tmp_path / "x")
    assert "which differs in seed" in refused("crossval", *options, "--seed", 3)
    assert "not both" in refused("crossval", *options, "--config", tmp_path / "x.yaml")


def test_runs_are_evaluated_together(finished_run, tmp_path):
    copy = shutil.copytree(finished_run, tmp_path / "copy")
    shown = succeeded("ensemble", finished_run, copy, "--out", tmp_path / "both")
    assert f"Report: {tmp_path / 'both' / 'report.html'}" in shown
