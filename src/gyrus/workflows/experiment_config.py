"""The config of an experiment, and the recipes: configs that come with Gyrus."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AliasChoices, BeforeValidator, Field, field_validator, model_validator

from gyrus.configuration import Difference, Section, differences, overlaid, parse, read_document, with_overrides
from gyrus.datasets.conversion import ConversionConfig
from gyrus.datasets.label_changes import LabelChanges
from gyrus.datasets.patches import PatchConfig
from gyrus.datasets.slice_stacks import StackConfig
from gyrus.datasets.slices import SliceConfig
from gyrus.datasets.splits import SplitConfig
from gyrus.datasets.table_features import ColumnKind, HarmoniseConfig
from gyrus.datasets.visits import Visits
from gyrus.errors import ConfigError, RunError
from gyrus.evaluation.result import Interval
from gyrus.models.config import ModelConfig
from gyrus.redaction import document_without_secrets
from gyrus.registry import look_up
from gyrus.runs.run_folder import Run
from gyrus.training.config import (
    AUTOMATIC,
    MAY_CHANGE,
    NUMBER_LOSS_NAMES,
    NUMBER_MONITORS,
    NumberLoss,
    TrainingConfig,
)
from gyrus.transforms.augmentation.config import AugmentationConfig
from gyrus.transforms.preprocessing import PreprocessingConfig
from gyrus.types import MissingChannel

Value = TypeVar("Value")

Mapped = Annotated[dict[str, Value], BeforeValidator(lambda value: {} if value is None else value)]
"""A mapping; null is an empty one, so that ``data.merge=null`` removes the mapping of a recipe."""

BASED_ON = "based_on"
"""The field of a config file that names the recipe, or the file, whose fields it changes."""


class DataConfig(Section):
    """The data, and how to read them; see :func:`gyrus.datasets.scan.scan`."""

    path: str | None = Field(None, description="folder, table, parquet file, or hf:owner/name")
    source: str | None = Field(None, description="kind of source; null: recognised")
    target: str | None = Field(
        None, min_length=1, description="column of a number to predict, for example age; null: classes"
    )
    classes: tuple[str, ...] | None = Field(None, description="class names in the order of the model's outputs")
    ordered: bool | tuple[str, ...] | None = Field(
        None,
        description="whether the classes are stages: their names from the lowest to the highest; true: in the order of "
        "classes, of known names or of numbers; false; null: if the names are known, such as CN, MCI, AD",
    )
    columns: Mapped[str] = Field(default_factory=dict, description="role to name of a column of a table")
    merge: Mapped[tuple[str, ...]] = Field(
        default_factory=dict, description="classes to merge, for example {Dementia: [Mild, Moderate]}"
    )
    merge_missing: Literal["fail", "skip"] = Field(
        "fail", description="if the data lack a class of merge: fail, or merge the others, with a note"
    )
    subject_rule: str | None = Field(None, description="name of the rule that reads the subject from the file name")
    subject_pattern: str | None = Field(None, description="regular expression with a group named subject")
    subjects: Literal["known", "inferred"] = Field(
        "known",
        description="inferred: from the pixels, if names do not identify subjects; every result reports it",
    )
    label_changes: LabelChanges = Field(
        "refuse",
        description="subjects whose label differs between visits: refuse, baseline or last (label of that visit), each "
        "(every visit keeps its own), exclude",
    )
    visits: Visits | None = Field(
        None,
        description="visits of a subject that are used: each (every visit keeps its label), first, last, or stable "
        "(all visits of subjects whose label never changes); null: all, and label_changes decides",
    )
    conversion: ConversionConfig | None = Field(
        None, description="predict from the baseline who converts, for example {from: MCI, to: AD, months: 36}"
    )
    on_bad_file: Literal["fail", "skip"] = Field("fail", description="whether an unusable file stops the run")
    stack: StackConfig | None = Field(None, description="stack the slices of each scan; null: single slices")
    slices: SliceConfig | None = Field(None, description="slices of volumes as samples; null: whole volumes")
    patches: PatchConfig | None = Field(None, description="train on random patches; null: on whole images")
    files: tuple[str, ...] = Field(
        (), description="patterns of file names, for example [*_t1.nii.gz], or of DICOM series; empty: all files"
    )
    channels: Mapped[str] = Field(
        default_factory=dict,
        description="name to pattern of files, for example {t1: '*_T1w', flair: '*_FLAIR'}: a sample is a session with "
        "one file for each, as the channels of one image; empty: each file is a sample",
    )
    missing_channel: MissingChannel = Field(
        "refuse",
        description="a session without a file of a channel: refuse (report it), leave-out, or learn (the channel is "
        "empty, and channels are dropped at random in training, so that the network can do without)",
    )
    channel_dropout: float = Field(
        0.25, ge=0, lt=1, description="with missing_channel: learn, the probability of dropping a channel in training"
    )
    bids: Mapped[str] = Field(default_factory=dict, description="entity to value: suffix, ses, desc, derivatives")
    orientation: str | None = Field(None, description="orientation of volumes whose header lacks it, for example RAS")
    spacing: tuple[float, float, float] | None = Field(
        None, description="their voxel spacing, mm along each array axis"
    )
    hdf5_dataset: str | None = Field(
        None, description="dataset with the image in HDF5 files, for example reconstruction_esc; null: recognised"
    )
    window: tuple[float, float] | None = Field(
        None,
        description="gray values that become 0 and 255 in gray images with more than 8 bits, for example [0, 4095]",
    )

    table: str | None = Field(
        None, description="table with one row per subject, joined to the images by id; adds columns, never labels"
    )
    table_columns: Mapped[ColumnKind] = Field(
        default_factory=dict,
        description="columns the classifier uses: a list, or with what they hold, as {age: number, site: category}",
    )
    harmonise: HarmoniseConfig | None = Field(
        None,
        description="remove differences between sites from columns of numbers by ComBat, fitted on the training set, "
        "for example {columns: [nWBV], site: site, keep: [age, sex]}",
    )

    @field_validator("table_columns", mode="before")
    @classmethod
    def _kinds(cls, value: object) -> object:
        names = [value] if isinstance(value, str) else value
        return dict.fromkeys(names, "auto") if isinstance(names, list | tuple) else value

    @field_validator("files", mode="before")
    @classmethod
    def _one_pattern(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _number_or_classes(self) -> DataConfig:
        if self.target and (self.classes or self.merge or self.ordered):
            raise ValueError(f"the target is the number '{self.target}', so give neither classes, ordered nor merge")
        return self

    @model_validator(mode="after")
    def _harmonises_its_columns(self) -> DataConfig:
        known = {name.casefold().strip() for name in self.table_columns}
        others = [name for name in (self.harmonise.columns if self.harmonise else ()) if name.casefold() not in known]
        if others:
            raise ValueError(f"harmonise.columns names '{others[0]}', which is not among table_columns; add it there")
        return self

    @property
    def columns_of_the_table(self) -> tuple[str, ...]:
        """All additional columns that the classifier depends on."""
        harmonise = self.harmonise
        return (*self.table_columns, *((harmonise.site, *harmonise.keep) if harmonise else ()))

    @model_validator(mode="after")
    def _stack_or_slices(self) -> DataConfig:
        if self.stack and self.slices:
            raise ValueError("give stack or slices, not both: a sample is a stack of slices, or one slice")
        return self

    @model_validator(mode="after")
    def _channels_are_sequences(self) -> DataConfig:
        if self.channels and self.slices and self.slices.neighbours:
            raise ValueError("give channels or slices.neighbours, not both: a channel is a sequence, or a slice")
        return self


class EvaluationConfig(Section):
    """Settings of the evaluation; see :func:`gyrus.evaluation.evaluate.evaluate`."""

    resamples: int = Field(2000, ge=0, description="bootstrap resamples of the subjects; 0 for no intervals")
    level: float = Field(0.95, gt=0, lt=1, description="coverage of the confidence intervals")
    baselines: bool = Field(True, description="also evaluate baselines without a network: on raw pixels, on metadata")
    shuffled_labels: bool = Field(False, description="also train with labels shuffled across subjects (chance control)")
    healthy: str | None = Field(
        None, description="negative class of the operating points; null: recognised by its name"
    )
    at_least: str | None = Field(
        None,
        description="lowest positive class of the operating points, of ordered classes; null: all classes but the "
        "healthy one, or but the first, are positive",
    )
    groups: tuple[str, ...] | None = Field(
        None, description="columns of subgroups; null: age, sex, site, scanner, slice if known, and image quality"
    )
    interval: Interval = Field("bca", description="bca: corrected for bias and skewness; or percentile")
    unlike_training: bool = Field(
        True, description="also fit a reference of the training data, by which new scans unlike them are recognised"
    )
    report: bool = Field(
        True,
        description="also write figures, report, calibration and subgroups; false: predictions and scores alone, for "
        "many runs that are scored together",
    )
    tta: int = Field(0, ge=0, description="augmented copies of each image to average over (test-time augmentation)")


class About(Section):
    """Where a recipe comes from, and how reliable its published score is."""

    title: str = Field(description="what the recipe is, in one line")
    project: str = Field(
        "",
        validation_alias=AliasChoices("project", "system"),  # "system" in files written before version 0.2
        description="the published project that it follows; see docs/published-projects.md",
    )
    expects: str = Field("", description="the data that it is intended for")
    published: str = Field("", description="the published score")
    measured: str = Field("", description="how the published score was measured")
    wrong: tuple[str, ...] = Field((), description="what is wrong with the score or the method")
    changed: tuple[str, ...] = Field((), description="differences from the original, and why")


class ExperimentConfig(Section):
    """Everything that determines a run. Strict: an unknown name is an error."""

    about: About | None = Field(None, description="where the config comes from")
    data: DataConfig = DataConfig()
    split: SplitConfig = SplitConfig()
    preprocessing: PreprocessingConfig = PreprocessingConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    seed: int = Field(0, ge=0, description="seed of the split, the initial weights and the order of training")

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_numbers(cls, document: object) -> object:
        """Loss and monitored score of a number, where they are not given."""
        if not isinstance(document, Mapping) or not _predicts_number(document):
            return document
        training = document.get("training") or {}
        if not isinstance(training, Mapping):
            return document
        return {**document, "training": {"loss": {"name": NUMBER_LOSS}, "monitor": NUMBER_MONITOR, **training}}

    @model_validator(mode="after")
    def _settings_fit_the_target(self) -> ExperimentConfig:
        number, training = self.data.target, self.training
        names = ", ".join(NUMBER_LOSS_NAMES)
        if bool(number) != isinstance(training.loss, NumberLoss):
            raise ValueError(
                f"training.loss {training.loss.name} is for classes, and data.target is the number '{number}'; use one "
                f"of {names}"
                if number
                else f"training.loss {training.loss.name} is for numbers; name the column of the number in data.target"
            )
        monitors = {
            "training.monitor": training.monitor,
            "training.early_stopping.monitor": getattr(training.early_stopping, "monitor", None),
            "training.schedule.monitor": getattr(training.schedule, "monitor", None),
        }
        for field, name in monitors.items():
            if name in (None, "epoch", "val_loss") or bool(number) == (name in NUMBER_MONITORS):
                continue
            scores = ", ".join(sorted(NUMBER_MONITORS)) if number else "val_loss, val_balanced_accuracy, val_auc"
            kind = "classes" if number else "numbers"
            raise ValueError(f"{field} {name} is a score of {kind}; use one such as {scores}")
        if number and training.sampler == "balanced":
            raise ValueError(
                "training.sampler balanced draws classes equally often, and a number has none; use shuffle"
            )
        if self.data.harmonise and self.split.method == "leave-one-group-out":
            raise ValueError(
                "data.harmonise needs training subjects of every site, and with split.method leave-one-group-out the "
                "test set is a group that the training set lacks; use another split, or leave harmonise out"
            )
        for field in ("healthy", "at_least"):
            if number and getattr(self.evaluation, field):
                raise ValueError(f"evaluation.{field} names a class, and data.target is a number; leave it out")
        return self


NUMBER_LOSS, NUMBER_MONITOR = "huber", "val_mae"
"""The loss and the score that selects the best epoch, where a number is predicted and none is given."""


def _predicts_number(document: Mapping[str, Any]) -> bool:
    data = document.get("data") or {}
    return bool(data.get("target") if isinstance(data, Mapping) else getattr(data, "target", None))


def _without_settings_of_classes(document: Mapping[str, Any]) -> dict[str, Any]:
    """A config without what only classes have: of a recipe for classes all else is used for a number."""
    data = {name: value for name, value in (document.get("data") or {}).items() if name not in _OF_CLASSES}
    if data.get("columns"):
        data["columns"] = {role: name for role, name in data["columns"].items() if role != "label"}
    training = dict(document.get("training") or {})
    if (training.get("loss") or {}).get("name", "") not in NUMBER_LOSS_NAMES:
        training.pop("loss", None)
    for holder in (training, training.get("schedule"), training.get("early_stopping")):
        if isinstance(holder, dict) and holder.get("monitor") not in (*NUMBER_MONITORS, "epoch"):
            holder.pop("monitor", None)
    if training.get("sampler") == "balanced":
        del training["sampler"]
    named = ("healthy", "at_least")
    evaluation = {name: value for name, value in (document.get("evaluation") or {}).items() if name not in named}
    return {**document, "data": data, "training": training, "evaluation": evaluation}


_OF_CLASSES = ("classes", "ordered", "merge", "merge_missing")


def recipes() -> dict[str, Path]:
    """The configs that come with Gyrus, by name."""
    folder = Path(str(resources.files("gyrus") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def lasting_fields(settings: ExperimentConfig) -> dict[str, Any]:
    """The part of a config that must not change while a run continues: all that its data and weights depend on."""
    free: Any = {"about": True, "evaluation": True, "data": {"path"}, "training": set(MAY_CHANGE)}
    fields: dict[str, Any] = document_without_secrets(settings.model_dump(mode="json", exclude=free))
    return fields


def load_run_config(run: Run) -> ExperimentConfig:
    """The config of a run, if it is still what the run was started with.

    Raises:
        ConfigError: The file cannot be read.
        RunError: It is damaged, or was changed after the start.
    """
    settings = load_config(run.config)
    if (started_with := run.facts.get("settings")) is not None:  # absent in runs of version 0.1
        before = parse(ExperimentConfig, started_with, where="run.json")
        require_same_settings(run, lasting_fields(before), settings)
    return settings


def require_same_settings(run: Run, before: Mapping[str, Any], settings: ExperimentConfig) -> None:
    """Refuse a config that differs from what a run was started with.

    Raises:
        RunError: It differs in :func:`lasting_fields`.
    """
    changes = [f"{name} was {old!r}, is {new!r}" for name, old, new in changed_fields(before, lasting_fields(settings))]
    if changes:
        raise RunError(
            f"The run in {run.folder} was started with other settings ({run.config.name}): {'; '.join(changes)}. "
            "Restore them, or start a new run in another folder."
        )


def changed_fields(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Difference]:
    """The fields that differ from what was started. A setting that is ``auto`` now keeps what was used then."""
    kept = tuple(f"training.{name}" for name in AUTOMATIC)
    return [one for one in differences(before, now) if not (one[0].endswith(kept) and one[2] == "auto")]


def load_config(
    config: ExperimentConfig | str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    data: str | Path | None = None,
) -> ExperimentConfig:
    """Load a config from a recipe or a YAML or JSON file, and override some of its fields.

    A file may have a field ``based_on``: the name of a recipe, or the path of another file from its own folder. It then
    holds only the fields that differ.

    Args:
        config: The name of a recipe, the path of a file, a config, or None for the defaults.
        overrides: Fields by dotted name, as ``{"training.epochs": 5}``.
        data: Overrides ``data.path``.

    Raises:
        ConfigError: Lists every mistake.
    """
    document: dict[str, Any] = {}
    where = "The config"
    if isinstance(config, ExperimentConfig):
        document = config.model_dump(mode="json")
    elif config is not None:
        document, where = _read_with_base(config), str(config)
    changes = {**(overrides or {}), **({"data.path": str(data)} if data else {})}
    if any(name.startswith("data.merge") for name in changes):
        # A recipe may name classes that only its own data have. A name that the user gives is a mistake if it is none.
        changes = {"data.merge_missing": "fail", **changes}
    if changes.get("data.target", _predicts_number(document)):
        document = _without_settings_of_classes(copy.deepcopy(document))
    return parse(ExperimentConfig, with_overrides(document, changes), where=where)


def _read_with_base(config: str | Path, dependents: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The document of a recipe or a file, laid over that of the config it is based on.

    Args:
        config: The name of a recipe, or a path.
        dependents: The files that are based on it, one on the other.

    Raises:
        ConfigError: A file cannot be read, or is based on itself.
    """
    path = Path(config)
    if isinstance(config, str) and path.suffix not in (".yaml", ".yml", ".json"):
        path = look_up(config, recipes(), "recipe")
    if path.resolve() in dependents:
        raise ConfigError(f"{path} is based on itself. Remove '{BASED_ON}' from one of the files.")
    document = read_document(path)
    base = document.pop(BASED_ON, None)
    if base is None:
        return document
    if not isinstance(base, str):
        raise ConfigError(f"{path}: {BASED_ON} must be the name of a recipe or the path of a file, got {base!r}.")
    named = str(path.parent / base) if Path(base).suffix else base
    return overlaid(_read_with_base(named, (*dependents, path.resolve())), document)
