"""Configs and recipes."""

from __future__ import annotations

import subprocess
import sys

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
