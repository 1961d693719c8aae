"""Configs of other tools, translated: system C's JSON files.

C has two files, one about the data set and one about the model; either may be given, or both in one. What Gyrus has a
field for is translated; every other key is named with what is true instead. Nothing is left out in silence.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gyrus.configuration import read_document, write_document
from gyrus.errors import ConfigError
from gyrus.models.model_table import find
from gyrus.registry import nearest
from gyrus.workflows.experiment_config import ExperimentConfig, load_config

RECIPES = {"resnet50": "neuroflux-resnet50", "neuroflux": "neuroflux-cnn"}
"""C's model to the recipe that follows it."""


@dataclass
class _Translation:
    """What was found so far."""

    overrides: dict[str, Any] = field(default_factory=dict)
    translated: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)

    def set(self, key: str, name: str, value: Any) -> None:
        self.overrides[name] = value
        self.translated.append(f"{key} -> {name} = {json.dumps(value)}")

    def ignore(self, key: str, reason: str) -> None:
        self.ignored.append(f"{key}: {reason}")


@dataclass(frozen=True)
class Imported:
    """A translated config.

    Attributes:
        config: The config, which begins from a recipe.
        recipe: The recipe.
        translated: One line a key: what became of it.
        ignored: One line a key that has no place here: why.
        command: The Gyrus command that does what C's mode did; empty where the file names none.
    """

    config: ExperimentConfig
    recipe: str
    translated: tuple[str, ...]
    ignored: tuple[str, ...]
    command: str

    def text(self) -> str:
        """What was translated, what was not, and what to run."""
        lines = [f"Begins from the recipe {self.recipe}.", "Translated"]
        lines += [f"  {line}" for line in self.translated] or ["  nothing"]
        lines += ["Ignored", *[f"  {line}" for line in self.ignored]] if self.ignored else []
        return "\n".join([*lines, *([f"Run: {self.command}"] if self.command else [])])


def import_config(*paths: Path, out: Path) -> Imported:
    """Read JSON configs of system C and write one recipe.

    Args:
        paths: The data set config, the model config, or one file that holds both; keys of later files win.
        out: The recipe to write, YAML.

    Raises:
        ConfigError: A file cannot be read, is none of system C's, or has a value that cannot be used.
    """
    merged: dict[str, Any] = {}
    for path in paths:
        merged |= _document_of_c(path)
    model = _model_of(merged, paths)
    translation = _Translation()
    base = load_config(RECIPES[model])
    if base.model.head is None:  # so that a change of it does not begin another head
        translation.overrides["model.head"] = find(base.model.name).head.model_dump(mode="json")
    for key, value in merged.items():
        if key not in (*_MODEL_KEYS, "mode"):
            _RULES.get(key, _unknown)(translation, key, value)
    command = _command(str(merged.get("mode", "")), merged, out)
    config = load_config(RECIPES[model], translation.overrides)
    config = load_config(config, {"about.title": f"Imported from {paths[-1].name}"})
    write_document(out, config)
    return Imported(config, RECIPES[model], tuple(translation.translated), tuple(translation.ignored), command)


def _image_size(translation: _Translation, key: str, value: Any) -> None:
    translation.set(key, "preprocessing.steps.1.size", value if isinstance(value, list) else [value, value])


def _shares(translation: _Translation, key: str, value: Any) -> None:
    """C ignores its key and cuts 70/15/15 by image; here it counts, by person."""
    if not (isinstance(value, list) and len(value) == 3 and abs(sum(value) - 1) < 1e-6):
        raise ConfigError(f"{key} must be three shares that sum to 1, such as [0.7, 0.15, 0.15], got {value}.")
    translation.set(f"{key}[1]", "split.val", value[1])
    translation.set(f"{key}[2]", "split.test", value[2])


def _to(name: str) -> Callable[[_Translation, str, Any], None]:
    return lambda translation, key, value: translation.set(key, name, value)


def _never(reason: str) -> Callable[[_Translation, str, Any], None]:
    return lambda translation, key, _: translation.ignore(key, reason)


def _hyperparameters(translation: _Translation, key: str, value: Any) -> None:
    for name, inner in _mapping(key, value).items():
        if name not in _HYPERPARAMETERS:
            translation.ignore(f"{key}.{name}", f"not a key of system C's; known: {', '.join(_HYPERPARAMETERS)}")
        else:
            _HYPERPARAMETERS[name](translation, f"{key}.{name}", inner)


def _width(translation: _Translation, key: str, value: Any) -> None:
    translation.set(key, "model.options.channels", [value * factor for factor in (1, 2, 4, 8)])


def _hidden(translation: _Translation, key: str, value: Any) -> None:
    translation.set(key, "model.head.options.hidden", [value])


def _dropout(translation: _Translation, key: str, value: Any) -> None:
    translation.set(key, "model.head.options.dropout", value)


Rule = Callable[[_Translation, str, Any], None]

_HYPERPARAMETERS: dict[str, Rule] = {
    "hidden_size": _hidden,
    "dropout_rate": _dropout,
    "dropout": _dropout,
    "conv_channels": _width,
}

_FOLDER = "every run has a folder of its own, named with --out"
_RULES: dict[str, Rule] = {
    "data_dir": _to("data.path"),
    "image_size": _image_size,
    "train_val_test_split": _shares,
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
    "model_save_path": _never(_FOLDER),
    "output_dir": _never(_FOLDER),
    "augmented_data_dir": _never("classes are balanced in training; no altered copies are written before the split"),
    "outliers_csv": _never("`gyrus data prepare` leaves out images by stated rules, and `gyrus audit` finds them"),
    "freeze_layers": _never("impossible by number of children; the recipe freezes by stage: model.freezing.stages"),
    "image_path": _never("images are named on the command line: gyrus predict RUN IMAGE"),
    "dataset_config": _never("give that file as well: gyrus config import DATASET.json MODEL.json"),
    "model_config": _never("give that file as well: gyrus config import DATASET.json MODEL.json"),
}
_MODEL_KEYS = ("model_name", "model", "name")
_KNOWN = (*_RULES, *_MODEL_KEYS, "mode")


def _unknown(translation: _Translation, key: str, _: Any) -> None:
    hint = nearest(key, _KNOWN)
    translation.ignore(key, "not a key of system C's" + (f"; did you mean '{hint}'?" if hint else ""))


def _document_of_c(path: Path) -> dict[str, Any]:
    document = read_document(path)
    if not any(key in _KNOWN for key in document):
        raise ConfigError(f"{path} is no config of system C: it has none of the keys {', '.join(_KNOWN)}.")
    return document


def _model_of(document: Mapping[str, Any], paths: tuple[Path, ...]) -> str:
    """Named in the file, or told by its name or its hyperparameters."""
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
        raise ConfigError(f"System C has no model '{named}'. Known: {', '.join(RECIPES)}.")
    return "neuroflux"


def _command(mode: str, document: Mapping[str, Any], out: Path) -> str:
    data = document.get("data_dir", "DATA")
    commands = {
        "": f"gyrus train --config {out} --out RUN",
        "preprocess": f"gyrus audit {data} --out audit",
        "train": f"gyrus train --config {out} --out RUN",
        "evaluate": "gyrus evaluate RUN",
        "predict": f"gyrus predict RUN {document.get('image_path', 'IMAGE')} --out answers.csv",
    }
    if mode not in commands:
        raise ConfigError(f"mode '{mode}' is none of system C's: {', '.join(filter(None, commands))}.")
    return commands[mode]


def _mapping(key: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{key} must hold fields with values, got {value!r}.")
    return value
