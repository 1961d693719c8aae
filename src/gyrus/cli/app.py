"""The command ``gyrus``. Libraries are imported when a command runs, so that ``--help`` is fast."""

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
from gyrus.cli.command import command, group
from gyrus.errors import BadFilesError, GyrusError

ABOUT = "Train brain-MRI classifiers whose scores you can trust."

app = group(
    ABOUT,
    name="gyrus",
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
command(app, "demo")(demo.demo)
app.add_typer(data.app, name="data")
command(app, "audit")(audit.audit)
command(app, "train")(train.train)
command(app, "crossval")(crossval.crossval)
command(app, "tune")(tune.tune)
command(app, "evaluate")(evaluate.evaluate)
command(app, "compare")(compare.compare)
command(app, "leaderboard")(compare.leaderboard)
command(app, "ensemble")(crossval.ensemble)
command(app, "predict")(predict.predict)
command(app, "explain")(explain.explain)
command(app, "models")(models.models)
app.add_typer(recipes.app, name="recipes")
app.add_typer(runs.app, name="runs")
app.add_typer(config.app, name="config")
command(app, "doctor")(doctor.doctor)


def _print_version(*, value: bool) -> None:
    if value:
        from gyrus import __version__

        typer.echo(f"gyrus {__version__}")
        raise typer.Exit


@app.callback(help=ABOUT)
def _common(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=lambda value: _print_version(value=value), is_eager=True, help="Show the version."
        ),
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line. A user's mistake ends with one message and exit code 2, without a traceback."""
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
        # The reader of our output, such as `head`, has closed the pipe.
        sys.stderr.close()
        sys.exit(0)
