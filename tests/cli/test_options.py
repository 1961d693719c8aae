"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path

import pytest

from gyrus.cli.options import (
    ConfigOptions,
    DataOptions,
    NewDataOptions,
    TrainingDataOptions,
    lengths,
    whole_numbers,
)
from gyrus.errors import ConfigError

DATA = TrainingDataOptions(
    source="table",
    column=["label=diagnosis", "subject=id"],
    files=["*_t1.nii.gz"],
    bids=["suffix=T1w"],
    orientation="RAS",
    spacing="1,1,2.5",
    classes="CN, AD",
    subject_rule="bids",
    subjects="inferred",
    on_bad_file="skip",
)


def test_options_that_were_given_are_fields_of_the_data_config():
    assert DATA.fields() == {
        "source": "table",
        "columns": {"label": "diagnosis", "subject": "id"},
        "files": ("*_t1.nii.gz",),
        "bids": {"suffix": "T1w"},
        "orientation": "RAS",
        "spacing": (1.0, 1.0, 2.5),
        "classes": ["CN", "AD"],
        "subject_rule": "bids",
        "subjects": "inferred",
        "on_bad_file": "skip",
    }
    assert DataOptions().fields() == {}
    assert NewDataOptions().config().on_bad_file == "fail"
    assert NewDataOptions(on_bad_file="skip", orientation="LPS").config().orientation == "LPS"


def test_overrides_end_with_those_of_set():
    options = ConfigOptions(setting=["seed=3", "data.orientation=LPS"])
    assert options.overrides(DataOptions(orientation="RAS", classes="A,B"), seed=1, split__unit=None) == {
        "data.classes": ["A", "B"],
        "data.orientation": "LPS",
        "seed": 3,
    }
    assert ConfigOptions().overrides() == {}


def test_a_config_is_a_recipe_or_a_file():
    assert ConfigOptions().chosen is None
    assert ConfigOptions(recipe="dementia-baseline").chosen == "dementia-baseline"
    assert ConfigOptions(config=Path("x.yaml")).chosen == Path("x.yaml")
    with pytest.raises(ConfigError, match="not both"):
        _ = ConfigOptions(recipe="dementia-baseline", config=Path("x.yaml")).chosen


@pytest.mark.parametrize("options", [{"column": ["label"]}, {"column": ["=x"]}, {"bids": ["suffix="]}])
def test_assignments_of_another_form_are_refused(options):
    with pytest.raises(ConfigError, match="must have the form"):
        DataOptions(**options).fields()


@pytest.mark.parametrize("text", ["1,1", "1,1,0", "1,1,-1", "a,b,c", ""])
def test_lengths_are_three_numbers_above_0(text):
    with pytest.raises(ConfigError, match="--spacing must be three lengths"):
        lengths(text)


def test_whole_numbers():
    assert whole_numbers("0, 1,2", "--seeds") == [0, 1, 2]
    assert whole_numbers(None, "--seeds") == []
    with pytest.raises(ConfigError, match="--seeds must be whole numbers"):
        whole_numbers("0,one", "--seeds")
