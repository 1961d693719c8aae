from __future__ import annotations

import pandas as pd
from safetensors.numpy import load_file

from gyrus.datasets.splits import Split
from gyrus.executor import workers
from gyrus.workflows.display import Silent
from gyrus.workflows.train_seeds import train_seeds
from tests.conftest import SMALL


def test_seeds_share_the_split_and_show_their_spread(phantom_folder, tmp_path):
    overrides = {**SMALL, "training.epochs": 1}
    arguments = {"seeds": [0, 1], "data": phantom_folder, "out": tmp_path / "seeds", "overrides": overrides}
    repeats = train_seeds("dementia-baseline", **arguments)
    splits = [Split.load(run.split) for run in repeats.runs.values()]
    assert splits[0].samples == splits[1].samples
    weights = [load_file(run.weights) for run in repeats.runs.values()]
    assert any((value != weights[1][name]).any() for name, value in weights[0].items())
    by_image = pd.read_csv(repeats.table).query("unit == 'image'")["accuracy"]
    assert f"{by_image.mean():.3f}" in repeats.text()
    before = repeats.runs[0].weights.stat().st_mtime_ns
    assert train_seeds("dementia-baseline", **arguments).runs[0].weights.stat().st_mtime_ns == before


def test_seeds_that_train_at_once_give_the_same_runs(phantom_folder, tmp_path):
    messages = []

    class Lines(Silent):
        def say(self, text):
            messages.append(text)

    overrides = {**SMALL, "training.epochs": 1, "evaluation.baselines": False}
    arguments = {"seeds": [0, 1], "data": phantom_folder, "overrides": overrides, "display": Lines()}
    here = train_seeds("dementia-baseline", out=tmp_path / "here", **arguments)
    messages.clear()
    with workers(jobs=2):
        there = train_seeds("dementia-baseline", out=tmp_path / "there", **arguments)
    pd.testing.assert_frame_equal(here.scores, there.scores, check_exact=True)
    assert [line for line in messages if line.startswith("Seed")] == ["Seed 0:", "Seed 1:"]
    for seed, run in here.runs.items():
        for name in ("weights", "split", "config", "metrics"):
            assert getattr(run, name).read_bytes() == getattr(there.runs[seed], name).read_bytes(), name
        assert run.facts["command"] == there.runs[seed].facts["command"]
