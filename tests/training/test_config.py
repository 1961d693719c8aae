from __future__ import annotations

import pytest
from pydantic import ValidationError

from gyrus.training import config
from gyrus.training.config import TrainingConfig


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"epoch": 3}, "Extra inputs"),
        ({"epochs": 0}, "greater than or equal to 1"),
        ({"optimiser": {"name": "adamv"}}, "adam"),
        ({"optimiser": {"name": "adam", "momentum": 0.9}}, "Extra inputs"),
        ({"optimiser": {"name": "sgd", "momentum": 0, "nesterov": True}}, "nesterov needs a momentum"),
        ({"schedule": {"name": "cosine", "final_share": 2}}, "less than or equal to 1"),
        ({"mining": {}, "mixing": {}}, "mining needs images as they are"),
        ({"mixing": {"schedule": {"explore_until": 0.9}}}, "must not fall"),
        ({"precision": "64"}, "32-true"),
        ({"loggers": ["tensorbored"]}, "tensorboard"),
    ],
)
def test_mistakes_are_refused(fields, message):
    with pytest.raises(ValidationError, match=message):
        TrainingConfig.model_validate(fields)


def test_a_config_survives_being_written():
    written = TrainingConfig(mixing={"schedule": {}}, averaging={"name": "swa"}).model_dump_json()
    assert TrainingConfig.model_validate_json(written).model_dump_json() == written


def test_imbalance_corrected_twice_is_a_concern():
    twice = TrainingConfig(sampler="balanced", loss={"name": "cross_entropy", "class_weights": "inverse"})
    assert "corrected twice" in twice.concerns()[0]
    assert TrainingConfig(sampler="balanced").concerns() == ()
    assert TrainingConfig(loss={"name": "focal", "class_weights": [1, 2]}).concerns() == ()


def sections() -> list[type]:
    return [kind for kind in vars(config).values() if isinstance(kind, type) and issubclass(kind, config._Section)]


def test_every_setting_is_explained():
    for section in sections():
        for name, field in section.model_fields.items():
            assert name == "name" or field.description, f"{section.__name__}.{name}"
