"""Options that several commands share, in groups.

A group is a frozen dataclass whose fields are options. A command takes a group as one argument; see
:mod:`gyrus.cli.command`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from gyrus.errors import ConfigError

if TYPE_CHECKING:
    from gyrus.workflows.experiment_config import DataConfig

Unit = Annotated[
    Literal["subject", "image"] | None,
    typer.Option("--unit", help="Unit of evaluation: subject or image. By default subject, if subjects are known."),
]
PredictionsSplitUnit = Annotated[
    Literal["subject", "scan", "image"] | None,
    typer.Option("--split-unit", help="How the data behind a table of predictions were split."),
]
TrainingSplitUnit = Annotated[
    Literal["subject", "image", "both"] | None,
    typer.Option(
        "--split-unit",
        help="What the split keeps together: subject (default), image (leaks), or both to compare the two scores.",
    ),
]
OnDuplicates = Annotated[
    Literal["stop", "drop", "keep"] | None,
    typer.Option(
        "--on-duplicates",
        help="At identical files in two given subsets: stop (default), drop the training copies, or keep them; every "
        "result then carries a warning.",
    ),
]
OnBadFile = Annotated[
    Literal["fail", "skip"] | None,
    typer.Option("--on-bad-file", help="At unusable files: fail (default), or skip them."),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")]
Engine = Annotated[
    Literal["auto", "torch", "openvino", "onnxruntime"],
    typer.Option(
        "--engine",
        help="What runs the network: torch, openvino (CPU), onnxruntime (bundles), or auto: the one that is faster.",
    ),
]
Weights = Annotated[
    Literal["equal", "validation"],
    typer.Option("--weights", help="Weights of several runs: equal, or fitted on the validation set that they share."),
]
Space = Annotated[str | None, typer.Option("--space", help="Search space: neuroflux, or a YAML file.")]
Ranges = Annotated[
    list[str] | None,
    typer.Option(
        "--range",
        help="Range of a config field: FIELD=LOW:HIGH, FIELD=LOW:HIGH:log or FIELD=A|B|C. Repeatable.",
    ),
]
FigureFile = Annotated[Path, typer.Option("--out", help="Figure to write: .png, .svg or .pdf.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]


@dataclass(frozen=True)
class WorkerOptions:
    """Where the work runs. Results do not depend on it."""

    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            help="Number of processes of this machine. By default images are read by threads of one process, and "
            "networks are trained one after the other.",
        ),
    ] = None
    cluster: Annotated[
        str | None,
        typer.Option("--cluster", help="Address of a Dask scheduler whose workers do the work: tcp://host:8786."),
    ] = None

    def running(self) -> AbstractContextManager[None]:
        """The work of a ``with`` block runs there.

        Raises:
            GyrusError: An option is wrong, or the cluster cannot be used.
        """
        from gyrus.executor import workers

        return workers(self.jobs, self.cluster)


@dataclass(frozen=True)
class ReadingOptions:
    """How to read images."""

    source: Annotated[
        str | None, typer.Option("--source", help="Kind of data source, if it is not recognised correctly.")
    ] = None
    column: Annotated[
        list[str] | None,
        typer.Option("--column", help="Column of a table, as ROLE=NAME (for example label=diagnosis). Repeatable."),
    ] = None
    files: Annotated[
        list[str] | None,
        typer.Option(
            "--files",
            help="Use only files whose name matches this pattern, such as '*_t1.nii.gz'; with a slash, the path below "
            "the root; of DICOM series also their description. Repeatable.",
        ),
    ] = None
    channel: Annotated[
        list[str] | None,
        typer.Option(
            "--channel",
            help="Several files of a session as the channels of one image, as NAME=PATTERN (for example t1='*_T1w'). "
            "Repeatable, in the order of the channels.",
        ),
    ] = None
    missing_channel: Annotated[
        Literal["refuse", "leave-out", "learn"] | None,
        typer.Option(
            "--missing-channel",
            help="At a session without a file of a channel: refuse it (default), leave it out, or learn to do without.",
        ),
    ] = None
    bids: Annotated[
        list[str] | None,
        typer.Option(
            "--bids",
            help="Filter of a BIDS data set, as ENTITY=VALUE: suffix=T1w, ses=01, derivatives=NAME. Repeatable.",
        ),
    ] = None
    orientation: Annotated[
        str | None,
        typer.Option("--orientation", help="Orientation of volumes whose header lacks it (for example RAS)."),
    ] = None
    spacing: Annotated[
        str | None,
        typer.Option("--spacing", help="Voxel size in mm of volumes whose header lacks it (for example 1,1,1)."),
    ] = None
    hdf5_dataset: Annotated[
        str | None,
        typer.Option("--hdf5-dataset", help="Dataset with the image in HDF5 files (for example reconstruction_esc)."),
    ] = None
    window: Annotated[
        str | None,
        typer.Option(
            "--window",
            help="Gray values that become black and white in images with more than 8 bits (for example 0,4095).",
        ),
    ] = None

    table: Annotated[
        Path | None,
        typer.Option("--table", help="Table with one row per subject (age, sex ...), joined to the images by id."),
    ] = None

    def fields(self) -> dict[str, Any]:
        """The options that were given, under their names in :class:`gyrus.DataConfig`.

        Raises:
            ConfigError: An option has another form.
        """
        fields = {
            "source": self.source,
            "table": str(self.table) if self.table else None,
            "columns": assignments(self.column, "--column", "ROLE=NAME, for example label=diagnosis"),
            "files": tuple(self.files or ()),
            "channels": assignments(self.channel, "--channel", "NAME=PATTERN, for example t1='*_T1w'"),
            "missing_channel": self.missing_channel,
            "bids": assignments(self.bids, "--bids", "ENTITY=VALUE, for example suffix=T1w"),
            "orientation": self.orientation,
            "spacing": lengths(self.spacing),
            "hdf5_dataset": self.hdf5_dataset,
            "window": two_numbers(self.window, "--window"),
        }
        return {name: value for name, value in fields.items() if value}

    def config(self) -> DataConfig:
        """The options as a config.

        Raises:
            ConfigError: An option has another form.
        """
        from gyrus.workflows.experiment_config import DataConfig

        return DataConfig(**self.fields())


@dataclass(frozen=True)
class NewDataOptions(ReadingOptions):
    """How to read new images, whose labels are not needed."""

    on_bad_file: OnBadFile = None

    def fields(self) -> dict[str, Any]:
        """The options that were given, under their names in :class:`gyrus.DataConfig`."""
        return super().fields() | ({"on_bad_file": self.on_bad_file} if self.on_bad_file else {})


@dataclass(frozen=True)
class DataOptions(ReadingOptions):
    """How to read a data set with labels and subjects."""

    target: Annotated[
        str | None,
        typer.Option("--target", help="Column of a number to predict instead of classes (for example age)."),
    ] = None
    classes: Annotated[
        str | None,
        typer.Option("--classes", help="Class names in order, separated by commas (for example CN,MCI,AD)."),
    ] = None
    ordered: Annotated[
        str | None,
        typer.Option(
            "--ordered",
            help="Classes that are stages, from the lowest to the highest: 'CN<MCI<AD' (quote the signs). Known orders "
            "are recognised.",
        ),
    ] = None
    no_ordered: Annotated[
        bool, typer.Option("--no-ordered", help="Treat the classes as unordered, also if their order is known.")
    ] = False
    subject_rule: Annotated[
        str | None,
        typer.Option("--subject-rule", help="Rule that finds the subject in a file name; none: subjects are unknown."),
    ] = None
    subject_pattern: Annotated[
        str | None,
        typer.Option(
            "--subject-pattern", help="Instead of a rule, a regular expression with a group (?P<subject>...)."
        ),
    ] = None
    label_changes: Annotated[
        Literal["refuse", "baseline", "last", "each", "exclude"] | None,
        typer.Option(
            "--label-changes",
            help="If the label of a subject changes between visits: refuse (default), use that of the baseline or of "
            "the last visit, let each visit keep its own, or exclude the subject.",
        ),
    ] = None

    visits: Annotated[
        Literal["each", "first", "last", "stable"] | None,
        typer.Option(
            "--visits",
            help="Visits of a subject that are used: each with its own label, the first, the last, or all of the "
            "subjects whose label never changes.",
        ),
    ] = None
    conversion: Annotated[
        str | None,
        typer.Option(
            "--conversion",
            help="Predict from the baseline who converts within some months, as FROM:TO:MONTHS (for example "
            "MCI:AD:36); subjects who are followed for less are left out.",
        ),
    ] = None

    def fields(self) -> dict[str, Any]:
        """The options that were given, under their names in :class:`gyrus.DataConfig`.

        Raises:
            ConfigError: An option has another form.
        """
        fields = {
            "target": self.target,
            "visits": self.visits,
            "conversion": conversion(self.conversion),
            "classes": [name.strip() for name in self.classes.split(",")] if self.classes else None,
            "subject_rule": self.subject_rule,
            "subject_pattern": self.subject_pattern,
            "label_changes": self.label_changes,
        }
        given = {name: value for name, value in fields.items() if value}
        return super().fields() | given | self._order()

    def _order(self) -> dict[str, Any]:
        from gyrus.datasets.class_order import parse_order

        if self.ordered and self.no_ordered:
            raise ConfigError("Give either --ordered or --no-ordered, not both.")
        if self.no_ordered:
            return {"ordered": False}
        return {"ordered": parse_order(self.ordered)} if self.ordered else {}


@dataclass(frozen=True)
class TrainingDataOptions(DataOptions):
    """How to read a data set that a classifier is trained on."""

    subjects: Annotated[
        Literal["known", "inferred"] | None,
        typer.Option("--subjects", help="inferred: find subjects from the pixels, if file names do not name them."),
    ] = None
    table_columns: Annotated[
        str | None,
        typer.Option(
            "--table-columns",
            help="Columns that the classifier uses, separated by commas (for example age,sex); site:category states "
            "that a column holds categories.",
        ),
    ] = None
    on_bad_file: OnBadFile = None

    def fields(self) -> dict[str, Any]:
        """The options that were given, under their names in :class:`gyrus.DataConfig`.

        Raises:
            ConfigError: An option has another form.
        """
        fields = {
            "subjects": self.subjects,
            "table_columns": self._table_columns(),
            "on_bad_file": self.on_bad_file,
        }
        return super().fields() | {name: value for name, value in fields.items() if value}

    def _table_columns(self) -> dict[str, Any] | None:
        if self.table_columns is None:
            return None
        from gyrus.datasets.table_features import column_kinds

        return dict(column_kinds(self.table_columns.split(",")))


@dataclass(frozen=True)
class ConfigOptions:
    """A config: a recipe or a file, with some fields changed."""

    recipe: Annotated[str | None, typer.Option("--recipe", help="Name of a recipe; `gyrus recipes` lists them.")] = None
    config: Annotated[Path | None, typer.Option("--config", help="Config file, YAML or JSON.")] = None
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", help="Set a field of the config (for example training.epochs=5). Repeatable."),
    ] = None

    @property
    def chosen(self) -> str | Path | None:
        """The recipe or the file.

        Raises:
            ConfigError: Both are given.
        """
        if self.recipe and self.config:
            raise ConfigError("Give either --recipe or --config, not both.")
        return self.recipe or self.config

    def overrides(self, data: DataOptions | None = None, **fields: object) -> dict[str, Any]:
        """Overrides of the config by dotted name. Those of ``--set`` come last.

        Args:
            data: Options of the data set.
            fields: Other fields, with ``__`` for the dot; None where an option was not given.

        Raises:
            ConfigError: An option has another form.
        """
        from gyrus.configuration import read_assignments

        given = {f"data.{name}": value for name, value in (data.fields() if data else {}).items()}
        given |= {name.replace("__", "."): value for name, value in fields.items() if value is not None}
        return given | read_assignments(self.setting or [])


@dataclass(frozen=True)
class ExperimentOptions(ConfigOptions):
    """A config and the data set to train on."""

    data: Annotated[
        str | None, typer.Option("--data", help="Data set: folder, table, Parquet file, or hf:owner/name.")
    ] = None


def assignments(texts: list[str] | None, option: str, form: str) -> dict[str, str]:
    """A mapping from texts of the form NAME=VALUE.

    Raises:
        ConfigError: A text has another form.
    """
    values = {}
    for text in texts or []:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise ConfigError(f"{option} '{text}' must have the form {form}.")
        values[name] = value
    return values


def conversion(text: str | None) -> dict[str, Any] | None:
    """The fields of a conversion from a text of the form FROM:TO:MONTHS.

    Raises:
        ConfigError: The text has another form.
    """
    if text is None:
        return None
    start, end, months = (*text.split(":"), "", "", "")[:3]
    if text.count(":") != 2 or not (start and end and months.isdecimal()):
        raise ConfigError(f"--conversion '{text}' must have the form FROM:TO:MONTHS, for example MCI:AD:36.")
    names = (tuple(name.strip() for name in part.split(",")) for part in (start, end))
    return {"start": next(names), "end": next(names), "months": int(months)}


def lengths(text: str | None, option: str = "--spacing") -> tuple[float, float, float] | None:
    """Three lengths in mm from a text with commas.

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
        raise ConfigError(f"{option} must be three lengths in mm above 0, for example 1,1,1; got '{text}'.")
    return first, second, third


def two_numbers(text: str | None, option: str) -> tuple[float, float] | None:
    """Two numbers from a text with a comma, the lower one first.

    Raises:
        ConfigError: They are not two rising numbers.
    """
    if text is None:
        return None
    try:
        low, high = (float(number) for number in text.split(","))
    except ValueError:
        low = high = 0.0
    if not low < high:
        raise ConfigError(f"{option} must be two numbers, the lower one first, for example 0,4095; got '{text}'.")
    return low, high


def whole_numbers(text: str | None, option: str) -> list[int]:
    """Numbers from a text with commas.

    Raises:
        ConfigError: They are not whole numbers.
    """
    try:
        return [int(number) for number in text.split(",")] if text else []
    except ValueError as error:
        raise ConfigError(
            f"{option} must be whole numbers with commas between, such as 0,1,2, got '{text}'."
        ) from error
