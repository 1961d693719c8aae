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
Bids = Annotated[
    list[str] | None,
    typer.Option("--bids", help="Of a BIDS data set, ENTITY=VALUE: suffix=T1w, ses=01, derivatives=NAME. Repeat it."),
]
Orientation = Annotated[
    str | None, typer.Option("--orientation", help="Of volumes whose headers do not say it: RAS, LPS ...")
]
Spacing = Annotated[
    str | None, typer.Option("--spacing", help="Likewise mm along each axis, with commas between: 1,1,1.")
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
    return _assigned(assignments, "--column", "ROLE=NAME, for example label=diagnosis")


def bids_of(assignments: list[str] | None) -> dict[str, str]:
    """Entity to value, from assignments ENTITY=VALUE.

    Raises:
        ConfigError: An assignment has another form.
    """
    return _assigned(assignments, "--bids", "ENTITY=VALUE, for example suffix=T1w")


def spacing_of(text: str | None) -> tuple[float, float, float] | None:
    """Three lengths from a text with commas between.

    Raises:
        ConfigError: They are not three numbers above 0.
    """
    if text is None:
        return None
    try:
        first, second, third = (float(number) for number in text.split(","))
    except ValueError:
        first = second = third = 0.0
    if min(first, second, third) <= 0:
        raise ConfigError(f"A spacing is three lengths in mm above 0, such as 1,1,1; got '{text}'.")
    return first, second, third


def _assigned(assignments: list[str] | None, option: str, form: str) -> dict[str, str]:
    values = {}
    for assignment in assignments or []:
        name, equals, value = assignment.partition("=")
        if not (name and equals and value):
            raise ConfigError(f"{option} '{assignment}' must have the form {form}.")
        values[name] = value
    return values


def classes_of(text: str | None) -> list[str] | None:
    """Class names from a text with commas between."""
    return [name.strip() for name in text.split(",")] if text else None
