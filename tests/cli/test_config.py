"""``gyrus config`` as a user meets it."""

from __future__ import annotations

import json

from tests.support.command_line import refused, succeeded


def test_a_config_of_another_tool_becomes_a_recipe(tmp_path):
    path = tmp_path / "resnet50_config.json"
    path.write_text(json.dumps({"epochs": 3, "surprise": 1}))
    shown = succeeded("config", "import", path, "--out", tmp_path / "recipe.yaml")
    assert "training.epochs = 3" in shown
    assert "surprise: not a key" in shown
    assert (tmp_path / "recipe.yaml").exists()
    assert "/nowhere.json" in refused("config", "import", "/nowhere.json", "--out", tmp_path / "other.yaml")
