"""``gyrus predict`` as a user meets it."""

from __future__ import annotations

import pandas as pd

from tests.support.command_line import refused, succeeded


def test_predictions_are_written_in_every_format(finished_run, phantom_folder, tmp_path):
    image = sorted(phantom_folder.rglob("*.png"))[0]
    for suffix in ("csv", "parquet", "json"):
        out = tmp_path / f"predictions.{suffix}"
        assert str(out) in succeeded("predict", finished_run, image, phantom_folder / "Control", "--out", out)
    table = pd.read_csv(tmp_path / "predictions.csv")
    assert table["sample"].is_unique
    assert str(image) in set(table["sample"])
    assert set(table["predicted"]) <= {"Control", "Dementia"}
    total = table["probability:Control"] + table["probability:Dementia"]
    assert total.sub(1).abs().max() < 1e-6
    others = pd.read_parquet(tmp_path / "predictions.parquet"), pd.read_json(tmp_path / "predictions.json")
    assert len(others[0]) == len(others[1]) == len(table)


def test_mistakes_are_reported(finished_run, tmp_path):
    assert "no run" in refused("predict", tmp_path, "x.png", "--out", tmp_path / "p.csv")
    assert ".parquet" in refused("predict", finished_run, "x.png", "--out", tmp_path / "p.xlsx")
    twice = refused("predict", finished_run, "x.png", "--with", finished_run, "--out", tmp_path / "p.csv")
    assert "named twice" in twice
    assert not list(tmp_path.iterdir())
