"""``gyrus tune`` as a user meets it."""

from __future__ import annotations

import pytest

import gyrus as api
from gyrus.errors import ConfigError
from tests.support.command_line import refused

STUDY = ("tune", "--data", "x", "--recipe", "dementia-baseline", "--range", "training.optimiser.lr=1e-4:1e-2:log")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every study ends with a message about its arguments."""

    def stop(*arguments: object, **options: object) -> None:
        raise ConfigError(f"{arguments} {options}")

    monkeypatch.setattr(api, "tune", stop, raising=False)


@pytest.mark.usefixtures("asked")
def test_options_are_a_study_and_overrides(tmp_path):
    text = refused(*STUDY, "--out", tmp_path, "--trials", 7, "--subjects", "inferred", "--final-seeds", "0,1")
    for word in ("dementia-baseline", "trials=7", "'data.subjects': 'inferred'", "'final_seeds': [0, 1]"):
        assert word in text


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--sampler", "tpr"], "'tpe'"),
        (["--trials", 0], "trials"),
        (["--final-seeds", "0,one"], "whole numbers"),
        (["--range", "training.optimiser.lrr=1|2"], "lrr"),
        (["--with-default"], "seeds"),
        (["--config", "x.yaml"], "not both"),
    ],
)
def test_mistakes_are_reported_and_leave_nothing_behind(tmp_path, more, words):
    assert words in refused(*STUDY, "--out", tmp_path / "study", *more)
    assert not (tmp_path / "study").exists()
