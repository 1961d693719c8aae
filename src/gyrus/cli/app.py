"""The command ``gyrus``. Libraries are imported when a command runs, so that ``--help`` is fast."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from gyrus.cli import (
    audit,
    auto,
    checklist,
    compare,
    config,
    crossval,
    data,
    demo,
    doctor,
    evaluate,
    explain,
    export,
    external_validation,
    features,
    hub,
    import_maps,
    models,
    predict,
    pretrain,
    recipes,
    runs,
    serve,
    train,
    tune,
)
from gyrus.cli.command import command, group
from gyrus.cli.signals import ended_by_signals
from gyrus.errors import BadFilesError, GyrusError, help_page
from gyrus.files import remove_abandoned
from gyrus.redaction import without_secrets
from gyrus.text import visible
from gyrus.training.worker import run_command

TRAINING = frozenset({"auto", "train", "crossval", "tune", "pretrain", "demo"})
"""Commands that train, which torchrun and SLURM may start in several processes."""

ABOUT = "Train brain-MRI classifiers whose scores you can trust."

FIRST_STEPS = """\b
First steps:
  gyrus demo                           the main task on synthetic heads, in a minute
  gyrus audit FOLDER                   find leakage and bad images in your data
  gyrus train --data FOLDER --out run  train, and measure on unseen subjects"""

WELCOME = f"""{ABOUT}
{FIRST_STEPS.removeprefix(chr(8))}

All commands: gyrus --help"""

app = group(
    ABOUT,
    name="gyrus",
    epilog=FIRST_STEPS,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
command(app, "demo")(demo.demo)
app.add_typer(data.app, name="data")
command(app, "audit")(audit.audit)
command(app, "features")(features.features)
command(app, "auto")(auto.auto)
command(app, "train")(train.train)
command(app, "crossval")(crossval.crossval)
command(app, "tune")(tune.tune)
command(app, "pretrain")(pretrain.pretrain)
command(app, "evaluate")(evaluate.evaluate)
command(app, "compare")(compare.compare)
command(app, "leaderboard")(compare.leaderboard)
command(app, "ensemble")(crossval.ensemble)
command(app, "predict")(predict.predict)
command(app, "test")(external_validation.external_validation)
app.add_typer(export.app, name="export")
app.add_typer(hub.app, name="hub")
command(app, "serve")(serve.serve)
command(app, "explain")(explain.explain)
command(app, "checklist")(checklist.checklist)
command(app, "models")(models.models)
app.add_typer(recipes.app, name="recipes")
app.add_typer(runs.app, name="runs")
app.add_typer(config.app, name="config")
command(app, "import-maps")(import_maps.import_maps)
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
    with ended_by_signals() as signals:
        remove_abandoned(Path(tempfile.gettempdir()))
        code = _exit_code()
    sys.exit(128 + signals[0] if signals else code)


def _exit_code() -> int | str | None:
    """Run the command; its exit code, after all of its output is written."""
    try:
        try:
            if not sys.argv[1:] and "_GYRUS_COMPLETE" not in os.environ:  # which asks for completions of the shell
                typer.echo(WELCOME)
                return 0
            if sys.argv[1:] and sys.argv[1] in TRAINING:
                run_command(partial(app, prog_name="gyrus"))
            else:
                app(prog_name="gyrus")
        finally:
            sys.stdout.flush()
    except SystemExit as end:
        # typer and rich end the process themselves when the reader of our output, such as `head`, closes the pipe.
        return 0 if isinstance(end.__context__, BrokenPipeError) else end.code
    except GyrusError as error:
        _print_error(str(error), error.report if isinstance(error, BadFilesError) else (), help_page(error))
    except BrokenPipeError:
        _drop_output()
        return 0
    except OSError as error:
        # Full disks, missing permissions and impossible paths, also of the output itself.
        where = "" if error.filename is None else f": {error.filename}"
        _print_error(f"{error.strerror or error}{where}.")
        _drop_output()
    except KeyboardInterrupt:
        return 130
    return 2


def _print_error(message: str, report: Sequence[str] = (), page: str = "") -> None:
    with suppress(OSError):  # a closed terminal
        for line in report:
            typer.echo(visible(line, keep="\n\t"), err=True)
        typer.secho("Error: ", fg="red", bold=True, nl=False, err=True)
        typer.echo(visible(without_secrets(message), keep="\n\t"), err=True)
        if page:
            typer.echo(f"See {page}", err=True)


def _drop_output() -> None:
    """Let Python end without another attempt to write output that cannot be written."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
