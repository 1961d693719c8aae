from __future__ import annotations

import pandas as pd
import pytest

from gyrus.datasets.scan import scan
from gyrus.datasets.splits import SplitConfig, split
from gyrus.datasets.visits import months_of_visit, select_visits
from gyrus.errors import ConfigError, DataError
from gyrus.synthetic.phantom_layouts import phantom


@pytest.mark.parametrize(
    ("name", "months"),
    [
        ("bl", 0),
        ("ses-baseline", 0),
        ("sc", 0),
        ("M06", 6),
        ("ses-M012", 12),
        ("month 18", 18),
        ("24m", 24),
        ("y2", 24),
        ("d0000", 0),
        ("v3", None),
        ("12", None),
        (None, None),
    ],
)
def test_months_of_visits(name, months):
    assert months_of_visit(name) == months


def test_dates_are_months_apart():
    first, second = months_of_visit("2020-01-15"), months_of_visit("ses-20210115")
    assert first is not None
    assert second is not None
    assert round(second - first) == 12
    assert months_of_visit("2020-13-45") is None


ROWS = pd.DataFrame(
    {
        "subject": ["a", "a", "a", "b", "c", "c"],
        "session": ["m12", "bl", "bl", None, "s9", "s10"],
        "sample": list("012345"),
    }
)


@pytest.mark.parametrize(
    ("visits", "left"), [("first", "1234"), ("last", "035"), ("each", "012345"), ("stable", "012345")]
)
def test_the_first_or_last_visit_stays(visits, left):
    rows, notes = select_visits(ROWS, visits)
    assert "".join(rows["sample"]) == left
    assert notes == [] or notes[0].startswith("2 subjects have several visits")


def test_a_column_of_times_decides_before_the_names():
    rows, _ = select_visits(
        ROWS.assign(date=["2020-01-01", "2019-01-01", "2019-01-01", None, "2019-05-05", "2018-05-05"]), "first"
    )
    assert "".join(rows["sample"]) == "1235"


def test_an_unknown_visit_among_others_is_refused():
    with pytest.raises(DataError, match="visit of an image of 'a' is unknown"):
        select_visits(ROWS.assign(session=["m12", None, "bl", None, "s9", "s10"]), "last")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return phantom(tmp_path_factory.mktemp("study") / "visits", subjects=20, slices=2, size=32, layout="visits", seed=4)


def test_labels_by_visit_are_no_error_and_subjects_stay_on_one_side(study):
    assert scan(study).problems
    manifest = scan(study, visits="each")
    assert not manifest.problems
    by_subject = manifest.table.groupby("subject")["label"].nunique()
    assert (by_subject == 2).sum() > 3
    for fold in range(4):
        samples = split(manifest, SplitConfig(method="kfold", folds=4, fold=fold), seed=1).samples
        sets = [set(manifest.select(names).table["subject"]) for names in samples.values()]
        assert not (sets[0] & sets[1] | sets[0] & sets[2] | sets[1] & sets[2])


def test_the_choice_of_visits(study):
    first, last, stable = (scan(study, visits=choice).table for choice in ("first", "last", "stable"))
    assert set(first["session"]) == {"ses-M00"}
    assert last["subject"].is_unique
    assert {"AD", "MCI"} == set(last["label"])
    assert set(stable["label"]) == {"MCI"}
    assert scan(study, visits="first").classes == ("MCI",)


def test_contradicting_options_are_refused(study):
    with pytest.raises(ConfigError, match=r"leave out data\.label_changes=last"):
        scan(study, visits="each", label_changes="last")
