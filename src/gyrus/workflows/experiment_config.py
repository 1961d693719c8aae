"""The config of an experiment, and the recipes that come with Gyrus."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gyrus.configuration import parse, read_document, with_overrides
from gyrus.datasets.patches import PatchConfig
from gyrus.datasets.slice_stacks import StackConfig
from gyrus.datasets.splits import SplitConfig
from gyrus.datasets.volume_slices import SliceConfig
from gyrus.evaluation.result import Interval
from gyrus.models.build import ModelConfig
from gyrus.registry import look_up
from gyrus.training.config import TrainingConfig
from gyrus.transforms.augmentation.config import AugmentationConfig
from gyrus.transforms.preprocessing import PreprocessingConfig


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataConfig(_Section):
    """Which data, and how to read them; see :func:`gyrus.datasets.scan.scan`."""

    path: str | None = Field(None, description="folder, table, parquet file, or hf:owner/name")
    source: str | None = Field(None, description="the kind of source, where it is not to be recognised")
    classes: tuple[str, ...] | None = Field(None, description="class names in the order of the model's outputs")
    columns: dict[str, str] = Field(default_factory=dict, description="role to column name of a table")
    merge: dict[str, tuple[str, ...]] = Field(
        default_factory=dict, description="classes to take together, as {Dementia: [Mild, Moderate]}"
    )
    subject_rule: str | None = Field(None, description="name of the rule that tells subjects from file names")
    subject_pattern: str | None = Field(None, description="regular expression with a group named subject")
    subjects: Literal["known", "inferred"] = Field(
        "known", description="inferred: found from the pixels, for data whose names do not tell people; results say so"
    )
    on_bad_file: Literal["fail", "skip"] = Field("fail", description="whether unusable files stop the run")
    stack: StackConfig | None = Field(None, description="volumes from the slices of each scan; null: single slices")
    slices: SliceConfig | None = Field(None, description="slices of volumes as samples; null: whole volumes")
    patches: PatchConfig | None = Field(None, description="learn from random patches; null: from whole images")
    bids: dict[str, str] = Field(default_factory=dict, description="entity to value: suffix, ses, desc, derivatives")
    orientation: str | None = Field(None, description="of volumes whose headers do not say it, such as RAS")
    spacing: tuple[float, float, float] | None = Field(None, description="likewise mm along each axis of the array")

    @model_validator(mode="after")
    def _stack_or_slices(self) -> DataConfig:
        if self.stack and self.slices:
            raise ValueError("give stack or slices, not both: a sample is a body of slices, or one slice")
        return self


class EvaluationConfig(_Section):
    """How sure the scores are; see :func:`gyrus.evaluation.evaluate.evaluate`."""

    resamples: int = Field(2000, ge=0, description="bootstrap resamples of the subjects; 0 for no intervals")
    level: float = Field(0.95, gt=0, lt=1, description="coverage of the intervals")
    baselines: bool = Field(True, description="judge answers without a network beside it: on raw pixels, on metadata")
    shuffled_labels: bool = Field(
        False, description="train the same network once more, with labels dealt out anew among the people"
    )
    healthy: str | None = Field(
        None, description="class that counts as negative in operating points; null: recognised by its name"
    )
    groups: tuple[str, ...] | None = Field(
        None, description="whose groups are judged; null: age, sex, site, scanner, slice where known, image quality"
    )
    interval: Interval = Field("bca", description="bca: corrected for bias and skewness; or percentile")
    tta: int = Field(0, ge=0, description="altered copies of each image to predict as well (test-time augmentation)")


class About(_Section):
    """Where a recipe comes from, and what to think of its published score."""

    title: str = Field(description="what it is, in one line")
    system: str = Field("", description="the reference system that it follows")
    expects: str = Field("", description="the data that it is meant for")
    published: str = Field("", description="the score that was published for it")
    measured: str = Field("", description="how that was measured")
    wrong: tuple[str, ...] = Field((), description="what is wrong with the score or the method")
    changed: tuple[str, ...] = Field((), description="what is changed against the original, and why")


class ExperimentConfig(_Section):
    """Everything that decides a run. Strict: an unknown name is an error."""

    about: About | None = Field(None, description="where the config comes from")
    data: DataConfig = DataConfig()
    split: SplitConfig = SplitConfig()
    preprocessing: PreprocessingConfig = PreprocessingConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    seed: int = Field(0, ge=0, description="of the split, the weights and the order of training")


def recipes() -> dict[str, Path]:
    """The configs that come with Gyrus, by name."""
    folder = Path(str(resources.files("gyrus") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_config(
    config: ExperimentConfig | str | Path | None = None, overrides: Mapping[str, Any] | None = None
) -> ExperimentConfig:
    """A config from a recipe's name or a YAML or JSON file, with some fields set anew.

    Args:
        config: A recipe's name, the path of a file, a config, or None for the defaults.
        overrides: Fields by dotted name, as ``{"training.epochs": 5}``.

    Raises:
        ConfigError: Lists every mistake.
    """
    document: dict[str, Any] = {}
    where = "The config"
    if isinstance(config, ExperimentConfig):
        document = config.model_dump(mode="json")
    elif config is not None:
        path = Path(config)
        if isinstance(config, str) and path.suffix not in (".yaml", ".yml", ".json"):
            path = look_up(config, recipes(), "recipe")
        document, where = read_document(path), str(config)
    return parse(ExperimentConfig, with_overrides(document, overrides or {}), where=where)
