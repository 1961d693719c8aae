"""The hints about optional dependencies name our own distribution."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from gyrus import extras
from gyrus.extras import DISTRIBUTION, install_command, missing_dependency

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.mark.parametrize(
    ("editable", "command"), [(True, "pip install -e '.[dicom]'"), (False, "pip install 'gyrus-mri[dicom]'")]
)
def test_the_command_fits_the_kind_of_installation(editable, command, monkeypatch):
    monkeypatch.setattr(extras, "_is_editable", lambda: editable)
    install_command.cache_clear()
    try:
        assert install_command("dicom") == command
        assert command in str(missing_dependency("Reading DICOM files", "dicom"))
    finally:
        install_command.cache_clear()


def test_the_distribution_is_the_declared_one():
    assert PROJECT["name"] == DISTRIBUTION


def test_every_hint_in_code_and_docs_names_it_and_a_declared_extra():
    texts = [*ROOT.glob("src/gyrus/**/*.py"), *ROOT.glob("docs/*.md"), ROOT / "README.md"]
    for path in texts:
        text = path.read_text(encoding="utf-8")
        assert "gyrus[" not in text.replace("gyrus-mri[", ""), f"{path} names the distribution of a stranger"
        for extra in PROJECT["optional-dependencies"]:
            text = text.replace(f"gyrus-mri[{extra}]", "")
        assert "gyrus-mri[" not in text.replace("gyrus-mri[...]", "").replace("}[{extra}]", ""), path


def test_tuning_without_optuna_says_what_to_install(tmp_path):
    """In a process of its own, in which optuna seems not to be installed."""
    code = (
        "import sys; sys.modules['optuna'] = None\n"
        "from gyrus.cli.app import main\n"
        f"sys.argv = ['gyrus', 'tune', '--data', 'slices', '--out', {str(tmp_path / 'study')!r}]\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert "Tuning requires an optional dependency" in done.stderr
    assert "Traceback" not in done.stderr
