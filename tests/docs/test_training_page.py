"""The page on training names every setting with its default."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from gyrus.training import config

PAGE = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")

SECTIONS = {
    "training": [config.TrainingConfig],
    "training.optimiser": [config.Adam, config.AdamW, config.SGD, config.RMSprop],
    "training.schedule": [config.Constant, config.Cosine, config.OneCycle, config.Plateau],
    "training.loss": [config.CrossEntropy, config.Focal],
    "training.mining": [config.HardExamples],
    "training.mixing": [config.Mixing, config.MixingSchedule],
    "training.averaging": [config.EMA, config.SWA],
    "training.early_stopping": [config.EarlyStopping],
}


def text_of(section: str) -> str:
    return re.split(r"\n##+ ", PAGE.split(f"\n### {section}\n")[1])[0]


def written(value: object) -> str:
    if isinstance(value, BaseModel):
        fields = value.model_dump()
        return str(fields["name"]) if "name" in fields else ", ".join(str(number) for number in fields.values())
    words = {None: "null", True: "true", False: "false", (): "[]"}
    if isinstance(value, bool | tuple) or value is None:
        return words[value]
    return f"{value:.10g}" if isinstance(value, float) and value >= 100 else str(value)


@pytest.mark.parametrize("section", SECTIONS)
def test_settings_and_defaults_are_on_the_page(section):
    rows = [line for line in text_of(section).splitlines() if line.startswith("|")]
    for kind in SECTIONS[section]:
        for name, field in kind.model_fields.items():
            default = field.get_default(call_default_factory=True)
            mentions = [row for row in rows if re.search(rf"`(schedule\.)?{name}`", row)]
            if name == "name":
                assert f"`{default}`" in text_of(section), kind.__name__
            else:
                assert any(written(default) in row for row in mentions), f"{kind.__name__}.{name} {written(default)}"


def test_names_that_are_chosen_from_are_on_the_page():
    for name in (*config.OPTIMISER_NAMES, *config.SCHEDULE_NAMES, *config.LOSS_NAMES, *config.Monitor.__args__):
        assert f"`{name}`" in PAGE
