"""``gyrus recipes``: the configs that come with Gyrus."""

from __future__ import annotations

from typing import Annotated

import typer

from gyrus.cli.command import command, group
from gyrus.cli.terminal import console, table

app = group("List the recipes (configs that come with Gyrus), or show one.", no_args_is_help=False)


@app.callback(invoke_without_command=True)
def list_recipes(context: typer.Context) -> None:
    """List the recipes (configs that come with Gyrus), or show one."""
    if context.invoked_subcommand:
        return
    import gyrus

    rows = []
    for name in gyrus.recipes():
        config = gyrus.load_config(name)
        assert config.about is not None
        rows.append([name, config.about.project, config.model.name, config.about.published or "-", config.about.title])
    console.print(table(["recipe", "project", "model", "published score", "description"], rows))
    console.print("Most published scores are inflated; `gyrus recipes show NAME` shows how they were measured.")


@command(app, "show")
def show_recipe(name: Annotated[str, typer.Argument(help="Name of a recipe.")]) -> None:
    """Show a recipe, its source and its published score.

    The flaws of the published score and the changes against the original are listed.
    """
    import gyrus
    from gyrus.registry import look_up

    path = look_up(name, gyrus.recipes(), "recipe")
    about = gyrus.load_config(name).about
    assert about is not None
    published = f"{about.published} ({about.measured})" if about.published and about.measured else about.published
    facts = {"Follows": about.project, "Expects": about.expects, "Published": published}
    if not about.published:
        facts["Measured"] = about.measured
    lines = [about.title, "", *[f"{name:11}{text}" for name, text in facts.items() if text]]
    for heading, items in (("Flaws of the published score", about.wrong), ("Changes, and why", about.changed)):
        lines += ["", heading, *[f"  - {item}" for item in items]] if items else []
    body = path.read_text(encoding="utf-8").split("\n\n", 1)[1]
    console.print("\n".join([*lines, "", f"The recipe ({path.name})", "", body]))
