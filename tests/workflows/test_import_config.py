"""JSON configs of NeuroFlux, in all their forms."""

from __future__ import annotations

import json

import pytest

from gyrus.errors import ConfigError
from gyrus.workflows.experiment_config import load_config
from gyrus.workflows.import_config import import_config

DATASET = {
    "data_dir": "data",
    "image_size": [224, 224],
    "train_val_test_split": [0.7, 0.15, 0.15],
    "num_workers": 4,
    "random_seed": 42,
    "class_names": ["PTE", "LO", "EO", "IPTE", "IO"],
}
RESNET = {
    "learning_rate": 0.001,
    "weight_decay": 0.0001,
    "epochs": 50,
    "batch_size": 16,
    "lr_factor": 0.5,
    "lr_patience": 3,
    "model_save_path": "saved_models/resnet50_model.pth",
    "hyperparams": {"hidden_size": 256, "dropout_rate": 0.4},
}
CNN = {
    **RESNET,
    "model_save_path": "saved_models/neuroflux_model.pth",
    "hyperparams": {"conv_channels": 64, "dropout": 0.3},
}


def written(folder, **documents):
    paths = [folder / f"{name}.json" for name in documents]
    for path, document in zip(paths, documents.values(), strict=True):
        path.write_text(json.dumps(document))
    return paths


def test_every_key_is_translated_or_named(tmp_path):
    paths = written(tmp_path, dataset_config=DATASET, resnet50_config=RESNET)
    imported = import_config(*paths, out=tmp_path / "recipe.yaml")
    named = " ".join([*imported.translated, *imported.ignored])
    for key in [*DATASET, *RESNET, *RESNET["hyperparams"]]:
        assert key in named
    assert [line.partition(":")[0] for line in imported.ignored] == ["model_save_path"]
    assert imported.recipe == "neuroflux-resnet50"


def test_the_recipe_has_the_values(tmp_path):
    out = tmp_path / "recipe.yaml"
    import_config(*written(tmp_path, dataset_config=DATASET, neuroflux_config=CNN), out=out)
    config = load_config(out)
    assert config.data.path == "data"
    assert config.data.classes == tuple(DATASET["class_names"])
    assert (config.split.val, config.split.test, config.split.unit) == (0.15, 0.15, "subject")
    assert (config.seed, config.training.workers) == (42, 4)
    assert (config.training.optimiser.lr, config.training.schedule.patience) == (0.001, 3)
    assert config.model.name == "neuroflux-cnn"
    # C's command line dropped these two; here they count.
    assert config.model.options["channels"] == [64, 128, 256, 512]
    assert (config.model.head.name, config.model.head.options["dropout"]) == ("mlp", 0.3)
    assert config.model.head.options["hidden"] == [256]


@pytest.mark.parametrize(
    ("mode", "command"),
    [
        ("preprocess", "gyrus audit data --out audit"),
        ("train", "gyrus train --config OUT --out RUN"),
        ("evaluate", "gyrus evaluate RUN"),
        ("predict", "gyrus predict RUN x.jpg --out predictions.csv"),
    ],
)
def test_each_mode_becomes_a_command(tmp_path, mode, command):
    document = {**DATASET, **RESNET, "mode": mode, "image_path": "x.jpg"}
    out = tmp_path / "recipe.yaml"
    imported = import_config(*written(tmp_path, both=document), out=out)
    assert imported.command == command.replace("OUT", str(out))
    assert f"Run: {imported.command}" in imported.text()


def test_unknown_keys_are_named_with_the_nearest(tmp_path):
    document = {**RESNET, "lerning_rate": 1, "hyperparams": {"hidden_size": 256, "depth": 3}}
    imported = import_config(*written(tmp_path, resnet50=document), out=tmp_path / "recipe.yaml")
    ignored = "\n".join(imported.ignored)
    assert "lerning_rate: not a key of Neuroflux; did you mean 'learning_rate'?" in ignored
    assert "hyperparams.depth" in ignored


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"a": 1}, "no Neuroflux config"),
        ({**DATASET, "train_val_test_split": [0.7, 0.3]}, "three fractions"),
        ({**RESNET, "hyperparams": 3}, "must be a mapping"),
        ({**RESNET, "epochs": 0}, r"training\.epochs"),
        ({"model_name": "vgg16", "epochs": 3}, "no model 'vgg16'"),
        ({**DATASET, "mode": "fly"}, "no mode of Neuroflux"),
    ],
)
def test_invalid_values_are_refused_and_nothing_is_written(tmp_path, document, words):
    with pytest.raises(ConfigError, match=words):
        import_config(*written(tmp_path, config=document), out=tmp_path / "recipe.yaml")
    assert not (tmp_path / "recipe.yaml").exists()
