"""``gyrus recipes``: the configs that come with Gyrus."""

from __future__ import annotations

from typing import Annotated

import typer

from gyrus.cli.terminal import console, table

app = typer.Typer(help="The configs that come with Gyrus.", invoke_without_command=True, rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def list_recipes(context: typer.Context) -> None:
    """List the configs that come with Gyrus; `gyrus recipes show NAME` tells all of one."""
    if context.invoked_subcommand:
        return
    from gyrus.workflows.experiment_config import load_config
    from gyrus.workflows.experiment_config import recipes as find

    rows = []
    for name in find():
        config = load_config(name)
        assert config.about is not None
        rows.append([name, config.about.project, config.model.name, config.about.published or "-", config.about.title])
    console.print(table(["recipe", "project", "model", "published", "what it is"], rows))
    console.print(
        "What was published was measured in the ways that `gyrus recipes show NAME` tells; most are inflated."
    )


@app.command("show")
def show(name: Annotated[str, typer.Argument(help="A recipe.")]) -> None:
    """Say where a recipe comes from, what is wrong with its published score, what is changed, and print it."""
    from gyrus.registry import look_up
    from gyrus.workflows.experiment_config import load_config
    from gyrus.workflows.experiment_config import recipes as find

    path = look_up(name, find(), "recipe")
    about = load_config(name).about
    assert about is not None
    lines = [about.title, "", f"Follows    {about.project}", f"Expects    {about.expects}"]
    lines.append(f"Published  {about.published}" + (f" ({about.measured})" if about.measured else ""))
    for heading, items in (("What is wrong with that", about.wrong), ("What is changed, and why", about.changed)):
        lines += ["", heading, *[f"  - {item}" for item in items]] if items else []
    console.print("\n".join(lines))
    body = path.read_text(encoding="utf-8").split("\n\n", 1)[1]
    console.print(f"\nThe recipe ({path.name})\n\n{body}")
