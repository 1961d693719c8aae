from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from gyrus.configuration import parse, read_assignments, read_document, with_overrides, write_document
from gyrus.errors import ConfigError


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Adam(Strict):
    name: Literal["adam"] = "adam"
    beta: float = Field(0.9, gt=0, lt=1)


class Sgd(Strict):
    name: Literal["sgd"] = "sgd"
    momentum: float = 0.9


class Training(Strict):
    epochs: int = Field(10, ge=1)
    mode: Literal["fast", "careful"] = "fast"
    optimiser: Annotated[Adam | Sgd, Field(discriminator="name")] = Adam()
    others: tuple[Annotated[Adam | Sgd, Field(discriminator="name")], ...] = ()
    maximum: float | None = None


class Experiment(Strict):
    seed: int = 0
    training: Training = Training()


def test_all_mistakes_are_told_at_once_with_the_nearest_names():
    document = {
        "sed": 1,
        "training": {
            "epochs": 0,
            "epoch": 3,
            "mode": "carefull",
            "optimiser": {"name": "adam", "betta": 0.5},
            "others": [{"name": "sgdd"}, {"name": "sgd", "momentun": 1}],
            "maximum": "high",
        },
    }
    with pytest.raises(ConfigError) as caught:
        parse(Experiment, document, where="config.yaml")
    message = str(caught.value)
    assert message.startswith("config.yaml has 8 mistakes:")
    for line in (
        "sed: there is no such field. Did you mean 'seed'?",
        "training.epochs: input should be greater than or equal to 1 (got 0)",
        "training.epoch: there is no such field. Did you mean 'epochs'?",
        "training.mode: input should be 'fast' or 'careful'. Did you mean 'careful'?",
        "training.optimiser.betta: there is no such field. Did you mean 'beta'?",
        "training.others.0: there is no 'sgdd'. Did you mean 'sgd'?",
        "training.others.1.momentun: there is no such field. Did you mean 'momentum'?",
        "training.maximum: input should be a valid number",
    ):
        assert line in message


def test_a_written_config_reads_back_the_same(tmp_path):
    config = parse(Experiment, {"training": {"optimiser": {"name": "sgd"}}}, where="x")
    write_document(tmp_path / "config.yaml", config)
    assert parse(Experiment, read_document(tmp_path / "config.yaml"), where="x") == config


def test_overrides_reach_fields_lists_and_missing_sections_without_touching_the_original():
    document = {"steps": [{"size": [1, 2]}, {"size": [3, 4]}], "training": {"epochs": 1}}
    result = with_overrides(
        document, {"steps.1.size": [5, 6], "training.epochs": 7, "model.options.dropout": 0.5, "x": None}
    )
    assert result == {
        "steps": [{"size": [1, 2]}, {"size": [5, 6]}],
        "training": {"epochs": 7},
        "model": {"options": {"dropout": 0.5}},
        "x": None,
    }
    assert document["training"] == {"epochs": 1}


@given(st.text())
def test_any_override_is_applied_or_refused_in_words(text):
    with contextlib.suppress(ConfigError):
        result = with_overrides({"a": [1], "b": {"c": 2}}, read_assignments([text]))
        assert result != {"a": [1], "b": {"c": 2}} or text in ("b.c=2", "a.0=1")


@pytest.mark.parametrize(
    ("override", "words"),
    [("epochs", "NAME=VALUE"), ("a.5=1", "number below 1"), ("a.0.x=1", "has no field 'x'"), ("b=[", "as YAML")],
)
def test_overrides_of_another_form_are_refused(override, words):
    with pytest.raises(ConfigError, match=words):
        with_overrides({"a": [1]}, read_assignments([override]))


@pytest.mark.parametrize(
    ("content", "words"), [("[1, 2]", "must hold fields"), ("a: [", "neither YAML nor JSON"), (None, "Cannot read")]
)
def test_files_that_are_no_config_are_refused(tmp_path: Path, content, words):
    path = tmp_path / "config.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=words):
        read_document(path)
