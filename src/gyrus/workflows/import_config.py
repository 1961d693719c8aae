"""Import JSON configs of the Neuroflux project as a Gyrus config.

Neuroflux has two files, one for the data set and one for the model. Either may be given, or one file with the keys of
both. A key is translated if Gyrus has a field for it. Every other key is reported with the reason.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gyrus.configuration import read_document, write_document
from gyrus.errors import ConfigError
from gyrus.models.model_table import find_model
from gyrus.registry import nearest
from gyrus.workflows.experiment_config import ExperimentConfig, load_config

RECIPES = {"resnet50": "neuroflux-resnet50", "neuroflux": "neuroflux-cnn"}
"""Model of Neuroflux to the recipe that follows it."""


@dataclass
class _Translation:
    """The keys translated so far."""

    overrides: dict[str, Any] = field(default_factory=dict)
    translated: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)

    def set(self, key: str, name: str, value: Any) -> None:
        self.overrides[name] = value
        self.translated.append(f"{key} -> {name} = {json.dumps(value)}")

    def ignore(self, key: str, reason: str) -> None:
        self.ignored.append(f"{key}: {reason}")


Rule = Callable[[_Translation, str, Any], None]
"""Translates one key with its value."""


@dataclass(frozen=True)
class Imported:
    """A translated config.

    Attributes:
        config: The config, which is based on a recipe.
        recipe: The recipe.
        translated: One line per translated key.
        ignored: One line per ignored key, with the reason.
        command: The Gyrus command that does the same as the mode of the file.
    """

    config: ExperimentConfig
    recipe: str
    translated: tuple[str, ...]
    ignored: tuple[str, ...]
    command: str

    def text(self) -> str:
        """The translated keys, the ignored keys, and the command to run."""
        lines = [f"Based on the recipe {self.recipe}.", "Translated"]
        lines += [f"  {line}" for line in self.translated] or ["  nothing"]
        lines += ["Ignored", *[f"  {line}" for line in self.ignored]] if self.ignored else []
        return "\n".join([*lines, *([f"Run: {self.command}"] if self.command else [])])


def import_config(*files: str | Path, out: str | Path = "recipe.yaml") -> Imported:
    """Translate JSON configs of the Neuroflux project, and write one Gyrus config.

    Args:
        files: The data set config, the model config, or both; later files override earlier ones.
        out: The config to write, YAML.

    Raises:
        ConfigError: A file cannot be read, is no Neuroflux config, or has a value that cannot be used.
    """
    paths, out = tuple(Path(file) for file in files), Path(out)
    merged: dict[str, Any] = {}
    for path in paths:
        merged |= _read_neuroflux(path)
    model = _model_of(merged, paths)
    translation = _Translation()
    base = load_config(RECIPES[model])
    if base.model.head is None:  # spell out the default head, so that overrides change only some of its fields
        translation.overrides["model.head"] = find_model(base.model.name).head.model_dump(mode="json")
    for key, value in merged.items():
        if key not in (*_MODEL_KEYS, "mode"):
            _RULES.get(key, _unknown)(translation, key, value)
    command = _command(str(merged.get("mode", "")), merged, out)
    config = load_config(RECIPES[model], translation.overrides)
    config = load_config(config, {"about.title": f"Imported from {paths[-1].name}"})
    write_document(out, config)
    return Imported(config, RECIPES[model], tuple(translation.translated), tuple(translation.ignored), command)


def _fractions(translation: _Translation, key: str, value: Any) -> None:
    """Neuroflux ignores this key and splits 70/15/15 by image; Gyrus uses it, and splits by subject."""
    if not (isinstance(value, list) and len(value) == 3 and abs(sum(value) - 1) < 1e-6):
        raise ConfigError(f"{key} must be three fractions that sum to 1, for example [0.7, 0.15, 0.15], got {value}.")
    translation.set(f"{key}[1]", "split.val", value[1])
    translation.set(f"{key}[2]", "split.test", value[2])


def _to(name: str, convert: Callable[[Any], Any] = lambda value: value) -> Rule:
    return lambda translation, key, value: translation.set(key, name, convert(value))


def _ignored(reason: str) -> Rule:
    return lambda translation, key, _: translation.ignore(key, reason)


def _hyperparameters(translation: _Translation, key: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{key} must be a mapping, got {value!r}.")
    for name, inner in value.items():
        if name not in _HYPERPARAMETERS:
            translation.ignore(f"{key}.{name}", f"not a key of Neuroflux; known: {', '.join(_HYPERPARAMETERS)}")
        else:
            _HYPERPARAMETERS[name](translation, f"{key}.{name}", inner)


_HYPERPARAMETERS: dict[str, Rule] = {
    "hidden_size": _to("model.head.options.hidden", lambda width: [width]),
    "dropout_rate": _to("model.head.options.dropout"),
    "dropout": _to("model.head.options.dropout"),
    "conv_channels": _to("model.options.channels", lambda width: [width * factor for factor in (1, 2, 4, 8)]),
}

_FOLDER = "each run has its own folder, given with --out"
_RULES: dict[str, Rule] = {
    "data_dir": _to("data.path"),
    "image_size": _to("preprocessing.steps.1.size", lambda size: size if isinstance(size, list) else [size, size]),
    "train_val_test_split": _fractions,
    "num_workers": _to("training.workers"),
    "random_seed": _to("seed"),
    "class_names": _to("data.classes"),
    "learning_rate": _to("training.optimiser.lr"),
    "lr": _to("training.optimiser.lr"),
    "weight_decay": _to("training.optimiser.weight_decay"),
    "wd": _to("training.optimiser.weight_decay"),
    "epochs": _to("training.epochs"),
    "num_epochs": _to("training.epochs"),
    "batch_size": _to("training.batch_size"),
    "batch": _to("training.batch_size"),
    "lr_factor": _to("training.schedule.factor"),
    "lr_patience": _to("training.schedule.patience"),
    "early_stopping_patience": _to("training.early_stopping.patience"),
    "hyperparams": _hyperparameters,
    "model_save_path": _ignored(_FOLDER),
    "output_dir": _ignored(_FOLDER),
    "augmented_data_dir": _ignored("classes are balanced during training; no copies are written before the split"),
    "outliers_csv": _ignored("`gyrus audit` finds outliers, and `gyrus data prepare` removes them by documented rules"),
    "freeze_layers": _ignored("Gyrus freezes stages, not a number of layers; see model.freezing.stages in the recipe"),
    "image_path": _ignored("give images on the command line: gyrus predict RUN IMAGE"),
    "dataset_config": _ignored("also give that file: gyrus config import DATASET.json MODEL.json"),
    "model_config": _ignored("also give that file: gyrus config import DATASET.json MODEL.json"),
}
_MODEL_KEYS = ("model_name", "model", "name")
_KNOWN = (*_RULES, *_MODEL_KEYS, "mode")


def _unknown(translation: _Translation, key: str, _: Any) -> None:
    hint = nearest(key, _KNOWN)
    translation.ignore(key, "not a key of Neuroflux" + (f"; did you mean '{hint}'?" if hint else ""))


def _read_neuroflux(path: Path) -> dict[str, Any]:
    document = read_document(path)
    if not any(key in _KNOWN for key in document):
        raise ConfigError(f"{path} is no Neuroflux config: it has none of the keys {', '.join(_KNOWN)}.")
    return document


def _model_of(document: Mapping[str, Any], paths: tuple[Path, ...]) -> str:
    """The model that the file names, or that its file name or hyperparameters imply."""
    named = next((str(document[key]).lower() for key in _MODEL_KEYS if key in document), "")
    words = f"{named} {document.get('model_save_path', '')} {' '.join(path.stem for path in paths)}".lower()
    for model in RECIPES:
        if model in words:
            return model
    hyper = document.get("hyperparams", {})
    if "hidden_size" in hyper:
        return "resnet50"
    if "conv_channels" in hyper:
        return "neuroflux"
    if named:
        raise ConfigError(f"Neuroflux has no model '{named}'. Known: {', '.join(RECIPES)}.")
    return "neuroflux"


def _command(mode: str, document: Mapping[str, Any], out: Path) -> str:
    data = document.get("data_dir", "DATA")
    commands = {
        "": f"gyrus train --config {out} --out RUN",
        "preprocess": f"gyrus audit {data} --out audit",
        "train": f"gyrus train --config {out} --out RUN",
        "evaluate": "gyrus evaluate RUN",
        "predict": f"gyrus predict RUN {document.get('image_path', 'IMAGE')} --out predictions.csv",
    }
    if mode not in commands:
        raise ConfigError(f"mode '{mode}' is no mode of Neuroflux: {', '.join(filter(None, commands))}.")
    return commands[mode]
