"""Configs and recipes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from gyrus.errors import ConfigError
from gyrus.workflows.experiment_config import load_config, recipes


def test_every_recipe_can_be_read():
    assert "dementia-baseline" in recipes()
    for name in recipes():
        about = load_config(name).about
        assert about
        assert about.title
        assert about.expects


def test_the_data_are_an_override_of_their_own(tmp_path):
    assert load_config("dementia-baseline", {"data.path": "x"}, data=tmp_path).data.path == str(tmp_path)
    assert load_config(None, {"data.path": "x"}).data.path == "x"


def test_a_config_based_on_another_holds_only_the_fields_that_differ(tmp_path):
    base, own = tmp_path / "base.yaml", tmp_path / "own.yaml"
    base.write_text("based_on: small-cnn3d\ntraining: {epochs: 7}\n", encoding="utf-8")
    own.write_text("based_on: base.yaml\ntraining: {optimiser: {lr: 0.5}}\n", encoding="utf-8")
    recipe, config = load_config("small-cnn3d"), load_config(own)
    assert (config.training.epochs, config.training.optimiser.lr) == (7, 0.5)
    assert config.training.optimiser.weight_decay == recipe.training.optimiser.weight_decay
    assert config.model == recipe.model


@pytest.mark.parametrize(
    ("base", "words"), [("own.yaml", "based on itself"), ("smal-cnn3d", "small-cnn3d"), ("7", "7")]
)
def test_a_base_that_cannot_be_used_is_refused(tmp_path, base, words):
    own = tmp_path / "own.yaml"
    own.write_text(f"based_on: {base}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=words):
        load_config(own)


def test_the_recipes_for_dementia_differ_from_the_general_one_in_their_task_only():
    general, dementia = load_config("small-cnn3d"), load_config("oasis-heads-cnn")
    assert dementia.model_copy(update={"about": general.about, "data": general.data}) == general
    assert (general.data.merge, dementia.data.merge_missing) == ({}, "skip")


@pytest.mark.parametrize("value", [None, {}])
def test_a_mapping_of_a_recipe_can_be_removed(value):
    fields = {f"data.{name}": value for name in ("merge", "columns", "bids")}
    data = load_config("oasis-heads-cnn", fields).data
    assert (data.merge, data.columns, data.bids) == ({}, {}, {})


def test_classes_that_the_user_merges_must_exist_in_every_recipe():
    merge = {"data.merge": {"Sick": ["MCI", "AD"]}}
    assert load_config("oasis-heads-cnn", merge).data.merge_missing == "fail"
    assert load_config("oasis-heads-cnn", {**merge, "data.merge_missing": "skip"}).data.merge_missing == "skip"


HEAVY = ("torch", "scipy", "sklearn", "skimage", "pandas", "matplotlib", "lightning", "timm", "nibabel", "pyarrow")
READ_ALL = """
import sys
from gyrus.workflows.experiment_config import load_config, recipes
from gyrus.workflows.manage_runs import list_runs
for name in recipes():
    load_config(name)
assert list_runs(sys.argv[1])[0].scores["accuracy"] is not None
print(*sys.modules)
"""


def test_configs_and_run_folders_are_read_without_heavy_libraries(finished_run):
    command = [sys.executable, "-c", READ_ALL, str(finished_run)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & set(HEAVY)
