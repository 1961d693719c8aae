"""Settings of a study: checks at construction, objectives, and the settings of nested cross-validations."""

from __future__ import annotations

import json

import pytest

from gyrus.errors import ConfigError
from gyrus.tuning.nested_crossval import NestedTuning
from gyrus.tuning.search_space import read_space
from gyrus.tuning.study import StudyConfig
from tests.support.tiny_study import tiny_study


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"objectives": ("val_acuracy",)}, "'val_accuracy'"),
        ({"objectives": ("parameters",)}, "first objective"),
        ({"objectives": ("val_loss", "val_auc")}, "costs"),
        ({"folds": 1}, "--folds"),
        ({"trials": 0}, "--trials"),
        ({"lost_after": 0.0}, "--lost-after"),
    ],
)
def test_mistakes_are_refused_at_construction(wrong, words):
    with pytest.raises(ConfigError, match=words):
        tiny_study(**wrong)


def test_objectives_default_to_the_score_of_the_config():
    study = tiny_study()
    assert study.with_objectives("val_auc").objectives == ("val_auc",)
    assert tiny_study(objectives=("val_loss",)).with_objectives("epoch").monitor == "val_loss"
    with pytest.raises(ConfigError, match="no score to tune by"):
        study.with_objectives("epoch")


def test_directions_and_default_pruner_follow_the_objectives():
    study = tiny_study(objectives=("val_auc", "seconds"))
    assert study.directions == ("maximize", "minimize")
    assert (study.chosen_pruner, tiny_study().chosen_pruner) == ("none", "median")
    assert [tiny_study(objectives=(name,)).directions for name in ("val_mae", "val_r2")] == [
        ("minimize",),
        ("maximize",),
    ]


def test_settings_survive_being_written(tmp_path):
    study = StudyConfig(read_space("neuroflux"), trials=7, objectives=("val_auc",), folds=3)
    study.save(tmp_path / "study.json")
    assert StudyConfig.load(tmp_path / "study.json") == study


def test_a_nested_crossval_of_version_0_1_can_be_continued():
    """Its settings as ``crossval.json`` of that version holds them."""
    text = """{"space": {"title": "", "parameters": [{"field": "training.optimiser.lr", "values": [0.0001, 0.01],
        "low": null, "high": null, "log": false, "when": {}}]}, "trials": 2, "objectives": [], "folds": 2,
        "sampler": "tpe", "pruner": null, "storage": null, "seed": 0, "lost_after": 120.0}"""
    study = StudyConfig(read_space(None, ["training.optimiser.lr=1e-4|1e-2"]), trials=2, folds=2)
    assert NestedTuning(study).describe() == json.loads(text)
