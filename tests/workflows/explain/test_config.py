"""Settings of an explanation: checks at construction, and the emphasis of classes."""

from __future__ import annotations

from pathlib import Path

import pytest

from gyrus.errors import ConfigError
from gyrus.explanation.methods import METHODS
from gyrus.workflows.explain.config import ExplainConfig, emphasis_by_class, parse_emphasis
from gyrus.workflows.explain.explain import explain

STAGES = ("Very_Mild_Demented", "Mild_Demented", "Moderate_Demented", "Non_Demented")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"methods": ("grad-cm",)}, "Did you mean 'grad-cam'"),
        ({"methods": ()}, "at least one method"),
        ({"grid": "bests"}, "Did you mean 'best'"),
        ({"colours": "rainbow"}, "inferno"),
        ({"shown": 0}, "`shown` must be at least 1"),
    ],
)
def test_unknown_names_are_refused_with_the_known_ones(wrong: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        ExplainConfig(**wrong)


def test_all_stands_for_every_method() -> None:
    assert ExplainConfig(methods=("all",)).methods == tuple(METHODS)


def test_emphasis_is_parsed() -> None:
    assert parse_emphasis(None) == {}
    assert parse_emphasis("Mild=1.3,Moderate=1.2") == {"Mild": 1.3, "Moderate": 1.2}
    for wrong in ("Mild", "Mild=much"):
        with pytest.raises(ConfigError, match="CLASS=POWER"):
            parse_emphasis(wrong)


@pytest.mark.parametrize("preset", ["dementia-stages", "system-d"])
def test_the_preset_assigns_powers_by_the_first_word_of_a_class(preset: str) -> None:
    assert list(emphasis_by_class(parse_emphasis(preset), STAGES).values()) == [1.5, 1.3, 1.2, 1.0]
    assert emphasis_by_class({}, STAGES) == {}


def test_the_former_name_of_the_preset_is_noted(tmp_path: Path) -> None:
    class Recorder:
        def __init__(self) -> None:
            self.lines: list[str] = []

        def say(self, text: str) -> None:
            self.lines.append(text)

    display = Recorder()
    with pytest.raises(Exception, match="nowhere"):
        explain(tmp_path / "nowhere", config=ExplainConfig(emphasis={"system-d": 1.0}), display=display)  # type: ignore[arg-type]
    assert display.lines == ["Note: the emphasis 'system-d' is called 'dementia-stages' now."]
