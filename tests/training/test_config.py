from __future__ import annotations

import pytest
from pydantic import ValidationError

from gyrus.training import config
from gyrus.training.config import TrainingConfig
from tests.support.toy_training import changed, train


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"epoch": 3}, "Extra inputs"),
        ({"epochs": 0}, "greater than or equal to 1"),
        ({"optimiser": {"name": "adamv"}}, "adam"),
        ({"optimiser": {"name": "adam", "momentum": 0.9}}, "Extra inputs"),
        ({"optimiser": {"name": "sgd", "momentum": 0, "nesterov": True}}, "nesterov needs a momentum"),
        ({"schedule": {"name": "cosine", "final_share": 2}}, "less than or equal to 1"),
        ({"mining": {}, "mixing": {}}, "mining needs unmixed images"),
        ({"mixing": {"schedule": {"explore_until": 0.9}}}, "must be in ascending order"),
        ({"precision": "64"}, "32-true"),
        ({"loggers": ["tensorbored"]}, "tensorboard"),
    ],
)
def test_invalid_settings_are_refused(fields, message):
    with pytest.raises(ValidationError, match=message):
        TrainingConfig.model_validate(fields)


def test_a_config_survives_being_written():
    written = TrainingConfig(mixing={"schedule": {}}, averaging={"name": "swa"}).model_dump_json()
    assert TrainingConfig.model_validate_json(written).model_dump_json() == written


def test_imbalance_corrected_twice_is_a_warning():
    twice = TrainingConfig(sampler="balanced", loss={"name": "cross_entropy", "class_weights": "inverse"})
    assert "corrected twice" in twice.warnings()[0]
    assert TrainingConfig(sampler="balanced").warnings() == ()
    assert TrainingConfig(loss={"name": "focal", "class_weights": [1, 2]}).warnings() == ()


def sections() -> list[type]:
    return [kind for kind in vars(config).values() if isinstance(kind, type) and issubclass(kind, config.Section)]


def test_every_setting_is_explained():
    for section in sections():
        for name, field in section.model_fields.items():
            assert name == "name" or field.description, f"{section.__name__}.{name}"


def test_warnings_of_the_settings_are_in_the_result(tmp_path):
    config = changed(epochs=1, sampler="balanced", loss={"name": "cross_entropy", "class_weights": "balanced"})
    fitted, _ = train(tmp_path, config)
    assert "corrected twice" in fitted.warnings[0]


@pytest.mark.parametrize(
    ("fields", "words"),
    [({"averaging": {"name": "swa"}}, "swa is compared"), ({"early_stopping": {}}, "needs a score")],
)
def test_settings_that_need_a_score_are_refused_without_one(fields, words):
    with pytest.raises(ValidationError, match=words):
        TrainingConfig.model_validate({"monitor": "epoch", **fields})
