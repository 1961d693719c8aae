"""Who converts, who does not, and of whom it is not known."""

from __future__ import annotations

import pandas as pd
import pytest

from gyrus.configuration import parse
from gyrus.datasets.conversion import ConversionConfig, conversion_targets, visits_of_table
from gyrus.datasets.scan import scan
from gyrus.errors import ConfigError, DataError
from gyrus.synthetic.phantom_layouts import phantom
from gyrus.synthetic.phantom_visits import AFTER, BEFORE, MONTHS, generate_visits

CONFIG = ConversionConfig(start=("MCI",), end=("AD",), months=36)

STUDY: dict[str, tuple[dict[str, str], str]] = {
    "converter": ({"bl": "MCI", "m12": "MCI", "m36": "AD"}, "converter"),
    "early": ({"bl": "MCI", "m06": "AD"}, "converter"),
    "stable": ({"bl": "MCI", "m36": "MCI"}, "stable"),
    "stable-late": ({"bl": "MCI", "m24": "MCI", "m48": "CN"}, "stable"),
    "later": ({"bl": "MCI", "m36": "MCI", "m48": "AD"}, "stable"),
    "lost": ({"bl": "MCI", "m24": "MCI"}, ""),
    "once": ({"bl": "MCI"}, ""),
    # Between month 24 and month 48 anything may have happened.
    "between": ({"bl": "MCI", "m24": "MCI", "m48": "AD"}, ""),
    "never": ({"bl": "CN", "m36": "CN"}, ""),
    "demented": ({"bl": "AD", "m12": "MCI", "m48": "MCI"}, ""),
    "declined": ({"bl": "CN", "m12": "MCI", "m48": "mci"}, "stable"),
    "no-label": ({"bl": "MCI", "m36": ""}, ""),
}


def _visits() -> pd.DataFrame:
    rows = [(name, visit, label) for name, (visits, _) in STUDY.items() for visit, label in visits.items()]
    return pd.DataFrame(rows, columns=["subject", "session", "label"])


def _images(visits: pd.DataFrame) -> pd.DataFrame:
    return visits.assign(sample=[f"{number}.nii" for number in range(len(visits))])


def test_every_course_has_its_class():
    visits = _visits()
    stay, notes = conversion_targets(_images(visits), visits, CONFIG)
    found = dict(zip(stay["subject"], stay["label"], strict=True))
    assert found == {name: outcome for name, (_, outcome) in STUDY.items() if outcome}
    assert len(stay) == len(found)
    assert stay.set_index("subject").loc["declined", "session"] == "m12"
    assert notes == [
        "conversion from MCI to AD within 36 months: 2 converters, 4 stable; left out: 4 censored (followed for less "
        "than 36 months), 2 without MCI at a visit with an image; times by the names of visits (data.conversion)"
    ]


@pytest.mark.parametrize(
    ("column", "cells"),
    [
        ("months", {"bl": "0", "m06": "6", "m12": "12,0", "m24": "24", "m36": "35.6", "m48": "48"}),
        ("days", {"bl": "0", "m06": "180", "m12": "365", "m24": "730", "m36": "1090", "m48": "1461"}),
        (
            "EXAMDATE",
            {
                "bl": "2010-01-05",
                "m06": "2010-07-01",
                "m12": "20110105",
                "m24": "2012-01-10T08:00:00",
                "m36": "2013-01-01",
                "m48": "2014-01-05",
            },
        ),
    ],
)
def test_times_may_stand_in_a_column(column, cells):
    visits = _visits()
    visits[column] = visits["session"].map(cells)
    named = visits.assign(
        session=visits["session"].map({"bl": "v1", "m06": "v2", "m12": "v3", "m24": "v4"}).fillna("v9")
    )
    stay, notes = conversion_targets(_images(named), named, CONFIG)
    assert dict(zip(stay["subject"], stay["label"], strict=True)) == {
        name: outcome for name, (_, outcome) in STUDY.items() if outcome
    }
    assert f"times by the column {column}" in notes[0]


def test_visits_need_no_images():
    visits = _visits()
    images = _images(visits)[visits["session"] == "bl"]
    stay, _ = conversion_targets(images, visits, CONFIG)
    assert sorted(stay["subject"]) == ["converter", "early", "later", "stable", "stable-late"]
    without_sessions = images.assign(session=None)
    again, _ = conversion_targets(without_sessions, visits, CONFIG)
    assert sorted(again["subject"]) == ["converter", "declined", "early", "later", "stable", "stable-late"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"session": "visit 3"}, "The time of 29 visits is unknown, first: 'visit 3'"),
        ({"label": "MCI"}, "No visit has the label 'AD'"),
        ({"subject": None}, "needs subjects"),
    ],
)
def test_what_cannot_be_known_is_refused(change, message):
    visits = _visits().assign(**change)
    with pytest.raises(DataError, match=message):
        conversion_targets(_images(visits), visits, CONFIG)


def test_one_class_is_refused():
    visits = _visits()
    visits = visits[visits["subject"].isin(["converter", "lost"])]
    with pytest.raises(DataError, match=r"has 1 converter and 0 stable among 2 subjects \(1 censored"):
        conversion_targets(_images(visits), visits, CONFIG)


def test_the_words_of_the_field_are_read():
    document = {"from": "MCI", "to": ["AD", "VaD"], "months": 24}
    config = parse(ConversionConfig, document, where="here")
    assert config == ConversionConfig(start=("MCI",), end=("AD", "VaD"), months=24)
    assert parse(ConversionConfig, config.model_dump(mode="json"), where="here") == config


def test_a_table_needs_subjects_and_labels():
    with pytest.raises(DataError, match="no column of the subject and the label"):
        visits_of_table(pd.DataFrame({"a": [1]}), {}, "visits.csv")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return phantom(tmp_path_factory.mktemp("study") / "visits", subjects=12, slices=2, size=32, layout="visits", seed=2)


def _truth(months: int) -> dict[str, str]:
    made = generate_visits(12, 2, 32, 2)
    truth = {}
    for number, name in enumerate(made.first.subjects):
        last, when = made.visits(number)[-1][0], made.converts_at[number]
        if when is not None and when <= min(months, last):
            truth[f"sub-{name}"] = "converter"
        elif any(label == BEFORE and month >= months for month, label in made.visits(number)):
            truth[f"sub-{name}"] = "stable"
    return truth


@pytest.mark.parametrize("months", [12, 24, 36])
def test_phantoms_have_the_classes_that_they_were_made_with(study, months):
    manifest = scan(study, conversion={"from": BEFORE, "to": AFTER, "months": months})
    assert manifest.classes == ("stable", "converter")
    assert dict(zip(manifest.table["subject"], manifest.table["label"], strict=True)) == _truth(months)
    assert set(manifest.table["session"]) == {"ses-M00"}
    assert manifest.files is not None
    assert manifest.files.used == len(manifest)


def test_a_table_of_its_own_decides(study, tmp_path):
    rows = [
        (f"P{number + 1:03d}", f"M{month:02d}", "AD" if number % 3 == 0 and month else "MCI")
        for number in range(12)
        for month in MONTHS
    ]
    pd.DataFrame(rows, columns=["subject_id", "visit", "dx"]).to_csv(tmp_path / "dx.csv", index=False)
    conversion = {"from": "MCI", "to": "AD", "months": 24, "table": str(tmp_path / "dx.csv")}
    with pytest.raises(DataError, match="0 converters and 0 stable"):
        scan(study, conversion=conversion)  # the folders are called sub-P001
    table = pd.read_csv(tmp_path / "dx.csv")
    table.assign(subject_id="sub-" + table["subject_id"]).to_csv(tmp_path / "dx.csv", index=False)
    manifest = scan(study, conversion=conversion)
    assert (manifest.table["label"] == "converter").tolist() == [number % 3 == 0 for number in range(12)]


@pytest.mark.parametrize("change", [{"visits": "last"}, {"target": "age"}])
def test_other_targets_and_visits_are_refused(study, change):
    with pytest.raises(ConfigError):
        scan(study, conversion=CONFIG, **change)
