"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gyrus.errors import ConfigError

Source = Annotated[str | None, typer.Option("--source", help="Kind of source, where it is not recognised rightly.")]
Classes = Annotated[
    str | None, typer.Option("--classes", help="Class names in their order, with commas between: CN,MCI,AD.")
]
Columns = Annotated[
    list[str] | None,
    typer.Option("--column", help="Which column of a table is what, as ROLE=NAME: label=diagnosis. May be repeated."),
]
SubjectRule = Annotated[
    str | None, typer.Option("--subject-rule", help="Rule that tells subjects from file names, or none.")
]
SubjectPattern = Annotated[
    str | None,
    typer.Option("--subject-pattern", help="Regular expression with a group (?P<subject>...), instead of a rule."),
]
Out = Annotated[Path, typer.Option("--out", help="Where to write.")]
Unit = Annotated[
    str | None, typer.Option("--unit", help="Judge by subject or by image; by subject where subjects are known.")
]
SplitUnitOption = Annotated[
    str | None,
    typer.Option("--split-unit", help="How the data behind a table of predictions were split: subject, scan or image."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]


def columns_of(assignments: list[str] | None) -> dict[str, str]:
    """Role to column name, from assignments ROLE=NAME.

    Raises:
        ConfigError: An assignment has another form.
    """
    columns = {}
    for assignment in assignments or []:
        role, equals, name = assignment.partition("=")
        if not (role and equals and name):
            raise ConfigError(f"--column '{assignment}' must have the form ROLE=NAME, for example label=diagnosis.")
        columns[role] = name
    return columns


def classes_of(text: str | None) -> list[str] | None:
    """Class names from a text with commas between."""
    return [name.strip() for name in text.split(",")] if text else None
