"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gyrus.errors import ConfigError

if TYPE_CHECKING:
    from gyrus.workflows.experiment_config import DataConfig

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
Recipe = Annotated[str | None, typer.Option("--recipe", help="A recipe; `gyrus recipes` lists them.")]
Config = Annotated[Path | None, typer.Option("--config", help="A YAML or JSON file.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="Any field of the config, as training.epochs=5. May be repeated.")
]
OnBadFile = Annotated[
    Literal["fail", "skip"] | None, typer.Option("--on-bad-file", help="Whether unusable files stop the run.")
]
OnBadNewFile = Annotated[Literal["fail", "skip"], typer.Option("--on-bad-file", help="Whether unusable files stop it.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")]
Subjects = Annotated[
    Literal["known", "inferred"] | None,
    typer.Option("--subjects", help="inferred: find people from the pixels, where names do not tell them."),
]
Weights = Annotated[
    Literal["equal", "validation"],
    typer.Option("--weights", help="Of several runs: all alike, or fitted on the validation set that all share."),
]
Space = Annotated[str | None, typer.Option("--space", help="A search space: neuroflux, or a YAML file.")]
Ranges = Annotated[
    list[str] | None,
    typer.Option("--range", help="FIELD=LOW:HIGH, FIELD=LOW:HIGH:log or FIELD=A|B|C. May be repeated."),
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


def new_data(
    *,
    source: str | None,
    column: list[str] | None,
    bids: list[str] | None,
    orientation: str | None,
    spacing: str | None,
    on_bad_file: Literal["fail", "skip"],
) -> DataConfig:
    """How to read images that a trained classifier is asked about.

    Raises:
        ConfigError: An option has another form.
    """
    from gyrus.workflows.experiment_config import DataConfig

    return DataConfig(
        source=source,
        columns=columns_of(column),
        bids=bids_of(bids),
        orientation=orientation,
        spacing=spacing_of(spacing),
        on_bad_file=on_bad_file,
    )


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


def data_fields(
    *,
    on_bad_file: str | None,
    source: str | None,
    classes: str | None,
    column: list[str] | None,
    subjects: str | None,
    subject_rule: str | None,
    subject_pattern: str | None,
    bids: list[str] | None,
    orientation: str | None,
    spacing: str | None,
) -> dict[str, object]:
    """The fields of a config that the options about the data set, by dotted name; None where one was not given."""
    return {
        "data.on_bad_file": on_bad_file,
        "data.source": source,
        "data.classes": classes_of(classes),
        "data.columns": columns_of(column) or None,
        "data.subjects": subjects,
        "data.subject_rule": subject_rule,
        "data.subject_pattern": subject_pattern,
        "data.bids": bids_of(bids) or None,
        "data.orientation": orientation,
        "data.spacing": spacing_of(spacing),
    }


def overrides_of(fields: dict[str, object], settings: list[str] | None) -> dict[str, object]:
    """Overrides of a config, by dotted name: the options that were given, then those of ``--set``."""
    from gyrus.configuration import read_assignments

    given = {name: value for name, value in fields.items() if value is not None}
    return given | read_assignments(settings or [])
