"""The script for a GPU that is at hand for minutes works, here on whatever device there is."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"


@pytest.fixture
def gpu(monkeypatch):
    spec = importlib.util.spec_from_file_location("benchmark_of_gpus", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "benchmark_of_gpus", module)
    spec.loader.exec_module(module)
    return module


def test_a_small_form_measures_every_way_and_names_what_is_left_out(gpu, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(gpu.LONGEST, "compiled", 1e9)
    small = ["--size", "16", "--steps", "2", "--epochs", "1", "--out", str(tmp_path / "gpu.json")]
    results = gpu.main([*small, "--networks", "baseline-cnn", "--recipes", "dementia-conv5"])
    row = results["networks"]["baseline-cnn"]
    assert row["batch"] == 32
    assert row["shape"] == (1, 16, 16)
    assert all(row[way] > 0 for way in ("bare eager", "gyrus", "gyrus with augmentation"))
    assert list(results["recipes"]) == ["dementia-conv5"]
    assert results["left out"] == ["compiled: baseline-cnn"]
    assert not results["failed"]
    shown = capsys.readouterr().out
    assert f"| baseline-cnn | 1 x 16 x 16 | 32 | {row['precision']} | {row['bare eager']:.1f} |" in shown
    assert "left out for lack of time: compiled: baseline-cnn" in shown
    assert json.loads((tmp_path / "gpu.json").read_text())["networks"]["baseline-cnn"]["gyrus"] == row["gyrus"]


def test_every_network_has_the_size_of_its_recipe(gpu):
    cases = {name: gpu.case_of(name, *chosen, None) for name, chosen in gpu.NETWORKS.items()}
    assert cases["resnet50"].shape[1:] == cases["convnext-2d"].shape[1:] == (224, 224)
    assert cases["convnext-3d"].shape == (1, 20, 224, 224)
    assert cases["convnext-3d"].recipe.augmentation.steps
