"""The workflows for Snakemake and DVC call commands that exist, with options that exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer
import yaml

from gyrus.cli.app import app
from gyrus.workflows.experiment_config import recipes

FOLDER = Path(__file__).parents[2] / "examples" / "workflows"


def snakemake_commands() -> Iterator[str]:
    text = (FOLDER / "Snakefile").read_text(encoding="utf-8")
    for line in re.findall(r'shell:\s+"([^"]+)"', text):
        yield re.sub(r"\{[^}]*\}", "filled", line)


def dvc_commands() -> Iterator[str]:
    stages = yaml.safe_load((FOLDER / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    params = yaml.safe_load((FOLDER / "params.yaml").read_text(encoding="utf-8"))
    for stage in stages.values():
        assert set(stage.get("params", [])) <= set(params)
        yield re.sub(r"\$\{(\w+)\}", lambda name: str(params[name[1]]), stage["cmd"])


@pytest.mark.parametrize("line", [*snakemake_commands(), *dvc_commands()])
def test_every_command_is_understood(line: str) -> None:
    called = line.split("&& ")[-1]
    program, *arguments = shlex.split(called)
    assert program == "gyrus"
    command = typer.main.get_command(app)
    context = click.Context(command, info_name="gyrus")
    while hasattr(command, "resolve_command"):
        name, command, arguments = command.resolve_command(context, arguments)
        if name == "export":
            arguments = ["bundle", *arguments]
        context = command.context_class(command, info_name=name, parent=context)
    command.parse_args(context, list(arguments))


def test_recipes_of_the_workflows_exist() -> None:
    text = (FOLDER / "Snakefile").read_text(encoding="utf-8")
    named = re.findall(r'"([^"]+)"', re.search(r"RECIPES = \[([^\]]*)\]", text)[1])
    named.append(yaml.safe_load((FOLDER / "params.yaml").read_text(encoding="utf-8"))["recipe"])
    assert named
    assert set(named) <= set(recipes())


def test_outputs_of_one_rule_are_inputs_of_the_next() -> None:
    stages = yaml.safe_load((FOLDER / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    made = {output for stage in stages.values() for output in stage["outs"]}
    needed = {need for stage in stages.values() for need in stage["deps"]}
    assert needed - made == {"slices"}
