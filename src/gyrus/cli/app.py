"""The command ``gyrus``. Nothing heavy is imported until a command runs."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from gyrus.cli import (
    audit,
    compare,
    config,
    crossval,
    data,
    demo,
    doctor,
    evaluate,
    explain,
    models,
    predict,
    recipes,
    runs,
    train,
    tune,
)
from gyrus.errors import BadFilesError, GyrusError

app = typer.Typer(
    name="gyrus",
    help="Brain MRI in, a classifier people can trust out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # Rich's frames around the help would take longer to import than all the rest.
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo")(demo.demo)
app.add_typer(data.app, name="data")
app.command("audit")(audit.audit)
app.command("train")(train.train)
app.command("crossval")(crossval.crossval)
app.command("tune")(tune.tune)
app.command("evaluate")(evaluate.evaluate)
app.command("compare")(compare.compare)
app.command("leaderboard")(compare.leaderboard)
app.command("ensemble")(crossval.ensemble)
app.command("predict")(predict.predict)
app.command("explain")(explain.explain)
app.command("models")(models.models)
app.add_typer(recipes.app, name="recipes")
app.add_typer(runs.app, name="runs")
app.add_typer(config.app, name="config")
app.command("doctor")(doctor.doctor)


def _version(*, value: bool) -> None:
    if value:
        from gyrus import __version__

        typer.echo(f"gyrus {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=lambda value: _version(value=value), is_eager=True, help="Show it.")
    ] = False,
) -> None:
    """Brain MRI in, a classifier people can trust out."""


def main() -> None:
    """Run the command line. A mistake of the user's is one message and exit code 2, never a traceback."""
    try:
        app(prog_name="gyrus")
    except GyrusError as error:
        if isinstance(error, BadFilesError):
            for line in error.report:
                typer.echo(line, err=True)
        typer.secho("Error: ", fg="red", bold=True, nl=False, err=True)
        typer.echo(str(error), err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        typer.echo("Interrupted.", err=True)
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read our output, such as `head`, has had enough of it.
        sys.stderr.close()
        sys.exit(0)
