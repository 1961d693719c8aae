"""``import gyrus``: every command is a function, every name is documented, and options and keywords agree."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer

import gyrus
from gyrus.cli.app import app
from gyrus.cli.options import TrainingDataOptions

API = (Path(__file__).parents[1] / "docs" / "api.md").read_text(encoding="utf-8")

FUNCTIONS = {
    "test": "external_validation",
    "recipes": "recipes",
    "recipes show": "load_config",
    "runs list": "list_runs",
    "runs show": "show_run",
    "runs diff": "diff_runs",
    "runs rm": "remove_run",
    "config import": "import_config",
    "export bundle": "export",
    "export verify": "verify_bundle",
    "export bids": "export_bids",
    "hub push": "push_bundle",
    "hub pull": "pull_bundle",
}
"""Commands whose function has another name: in Python the name of the group belongs to the name of the function."""

DATA = {field.name for field in fields(TrainingDataOptions)}
"""Options that say how to read data: fields of ``data=DataConfig(...)``, of overrides, or keywords of ``scan``."""

SHARED = {
    "recipe": "config",  # one argument: a recipe's name or the path of a file
    "setting": "overrides",
    "column": "columns",
    "channel": "channels",
    "no_ordered": "ordered",  # ordered=False
    "table": "people",
    "quiet": "display",
    "others": "run",  # --with: a sequence of runs
    "method": "methods",
    "check": "checks",
    "rule": "rules",
    "step": "steps",
    "objective": "objectives",
    "candidate": "candidates",
}
"""Options with another name in Python, for every command."""

WORKERS = {"jobs", "cluster"}
"""Options of the commands whose work splits into tasks; in Python ``with gyrus.workers(jobs=2):``."""

CONFIGS: dict[str, list[type]] = {
    "tune": [gyrus.StudyConfig],
    "explain": [gyrus.ExplainConfig, gyrus.MethodSettings],
    "pretrain": [gyrus.Masking],
    "data split": [gyrus.SplitConfig],
}
"""Commands whose options are, in Python, fields of a config that the function takes."""

EXCEPTIONS = {
    "train": {
        "seed": "a field of the config: overrides={'seed': 1}",
        "split_unit": "a field of the config, split.unit; train_both for both",
        "on_duplicates": "a field of the config, split.on_duplicates",
        "shuffled_labels": "a field of the config, evaluation.shuffled_labels",
        "seeds": "train_seeds",
        "resume": "resume",
        "dry_run": "plan_training",
    },
    "crossval": {
        "seed": "a field of the config",
        "split_unit": "a field of the config, split.unit; crossval_both for both",
        **dict.fromkeys(("space", "ranges", "trials", "inner_folds"), "choose=NestedTuning(StudyConfig(...))"),
    },
    "auto": {"dry_run": "plan_auto"},
    "pretrain": {"seed": "a field of the config"},
    "tune": {"ranges": "read_space(space, ranges)", "on_duplicates": "a field of the config, split.on_duplicates"},
    "explain": {"region_names": "Atlas(labels, region_names)"},
    "data scan": {"out": "Manifest.save"},
    "data split": {
        "path": "split(scan(path))",
        "out": "Split.save",
        "split_unit": "SplitConfig(unit=...)",
    },
    "data prepare": {"balance": "refused, with the reason"},
    "serve": {
        "token_file": "token",
        **dict.fromkeys(
            ("batch", "max_files", "max_held_mb", "max_mb", "max_unpacked_mb", "memory_mb", "queue", "seconds"),
            "fields of ServingLimits",
        ),
    },
    "recipes show": {"name": "load_config(name)"},
    "runs diff": {"every": "RunDifference.environment is there always"},
    "runs rm": {"yes": "Python does not ask"},
}
"""Options that have no keyword of their name, and what stands for them in Python."""

PYTHON_ONLY = {
    "config": "the settings, which are options of the command",
    "study": "the settings, which are options of the command",
    "masking": "the settings, which are options of the command",
    "begun": "the command counts the time since it was started",
    "choose": "the settings of nested tuning, which are options of the command",
    "overrides": "fields of the config by name, as options or --set",
    "data": "DataConfig, whose fields are options",
    "display": "progress, which the command shows unless --quiet is given",
    "progress": "progress, which the command shows",
    "token": "the content of --token-file",
    "limits": "ServingLimits, whose fields are options",
    "labelled": "predict and preview read without labels",
    "manifest": "data that were scanned",
}
"""Keywords that are no option of their name, and why."""


def commands(command: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every command below a group by its name, and groups that do something on their own."""
    below = getattr(command, "commands", {})
    if not below or getattr(command, "invoke_without_command", False):
        yield name, command
    for word, child in below.items():
        yield from commands(child, f"{name} {word}".strip())


COMMANDS = dict(commands(typer.main.get_command(app)))


def function_of(command: str) -> str:
    """The name of a command's function."""
    return FUNCTIONS.get(command, command.removeprefix("data ").replace("-", "_"))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_function(command):
    assert function_of(command) in gyrus.__all__
    assert callable(getattr(gyrus, function_of(command)))


def fields_of(config: type) -> Iterable[str]:
    """The names of the fields of a config; those of pydantic are built late and have no signature before."""
    return getattr(config, "model_fields", None) or inspect.signature(config).parameters


@pytest.mark.parametrize("command", COMMANDS)
def test_options_and_keywords_agree(command):
    keywords = set(inspect.signature(getattr(gyrus, function_of(command))).parameters)
    settings = {name for config in CONFIGS.get(command, []) for name in fields_of(config)}
    options = {parameter.name for parameter in COMMANDS[command].params} - {"help"} - WORKERS
    exceptions = set(EXCEPTIONS.get(command, {}))
    assert exceptions <= options, "an exception that is none"
    if {"data", "overrides", "manifest"} & keywords:
        exceptions |= DATA - keywords
    reached = {name if name in keywords | settings else SHARED.get(name, name) for name in options - exceptions}
    assert reached <= keywords | settings, "options without a keyword"
    assert keywords - reached <= set(PYTHON_ONLY), "keywords without an option"


@pytest.mark.parametrize("name", gyrus.__all__)
def test_every_public_name_is_there_and_documented(name):
    value = getattr(gyrus, name)
    if name != "__version__":
        assert name in dir(gyrus)
        assert f"::: {gyrus._PUBLIC[name]}.{name}\n" in API, f"docs/api.md lacks {name}"
    if inspect.isfunction(value) or inspect.isclass(value):
        assert value.__doc__
        assert value.__name__ == name


def test_what_is_documented_is_there():
    for path in re.findall(r"^::: (\S+)$", API, re.MULTILINE):
        module, _, name = path.rpartition(".")
        assert hasattr(sys.modules.get(module) or __import__(module, fromlist=["x"]), name), path


def test_a_wrong_name_gets_the_nearest():
    with pytest.raises(AttributeError, match=r"no attribute 'crosval'. Did you mean 'crossval'\?"):
        _ = gyrus.crosval
    assert not hasattr(gyrus, "nothing_of_this_kind")


def run(code: str) -> str:
    """What a program prints in a process of its own."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_import_is_instant():
    printed = run("import sys, gyrus; dir(gyrus); print(*sys.modules)")
    assert not {"numpy", "pandas", "torch", "pydantic", "yaml", "typer"} & set(printed.split())


@pytest.mark.parametrize("first", ["import gyrus", "import gyrus.audit.findings, gyrus.models.model_table"])
def test_functions_with_the_name_of_a_package_can_be_called(first):
    code = (
        f"{first}\n"
        "import inspect, gyrus\n"
        "from gyrus import audit, models\n"
        "print(len(gyrus.models()) == len(models()) > 0)\n"
        "print(inspect.signature(gyrus.audit) == inspect.signature(audit), *inspect.signature(audit).parameters)\n"
        "import gyrus.audit.findings\n"
        "print(gyrus.audit.findings.__name__)\n"
    )
    first_line, second, third = run(code).splitlines()
    assert first_line == "True"
    assert second.startswith("True path split run")
    assert third == "gyrus.audit.findings"
