"""Choices on the validation set, evaluated on the test set."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gyrus.errors import DataError, LeakageError, UnknownNameError
from gyrus.evaluation.assessment import Assessment, assess
from gyrus.evaluation.calibrators import CALIBRATORS
from gyrus.evaluation.thresholds import GOALS
from gyrus.inference.predictions import Predictions
from gyrus.types import SPLIT_WARNINGS
from tests.support.predictions import CLASSES, study


def pair(people: tuple[int, ...] = (20, 14, 8, 8), **changes: object) -> tuple[Predictions, Predictions]:
    """Validation and test predictions of different people."""
    val, test = (study(people, seed=seed, subset=subset, **changes) for seed, subset in ((1, "val"), (2, "test")))
    others = {column: "t" + test.table[column] for column in ("sample", "subject")}
    return val, replace(test, table=test.table.assign(**others))


def assessed(people: tuple[int, ...] = (20, 14, 8, 8), **changes: object) -> Assessment:
    return assess(*pair(people), healthy="Non", **({"resamples": 50} | changes))


def test_everything_is_chosen_on_validation_and_evaluated_on_test() -> None:
    found = assessed()
    assert (found.unit, found.validation_count, found.test_count) == ("subject", 50, 50)
    assert found.before.count == found.after.count == 50
    assert [result.point.goal for result in found.points] == list(GOALS)
    assert {result.point.positive for result in found.points} == {CLASSES[1:]}
    assert len(found.sets) == 2
    assert found.notes == ()


def test_the_test_set_changes_no_choice() -> None:
    val, test = pair()
    one = assess(val, test, healthy="Non", resamples=0)
    other = assess(val, test.select(np.arange(60, 250)), healthy="Non", resamples=0)
    assert one.calibrator == other.calibrator
    assert [result.point for result in one.points] == [result.point for result in other.points]
    assert [each.sets for each in one.sets] == [each.sets for each in other.sets]
    assert one.before != other.before


def test_the_order_of_the_rows_changes_nothing() -> None:
    val, test = pair()
    mixed = [each.select(np.random.default_rng(0).permutation(len(each))) for each in (val, test)]
    assert assess(*mixed, healthy="Non", resamples=20) == assess(val, test, healthy="Non", resamples=20)


@pytest.mark.parametrize("calibrator", CALIBRATORS)
def test_it_survives_being_saved(calibrator: str, tmp_path: Path) -> None:
    found = assessed(calibrator=calibrator)
    found.save(tmp_path / "assessment.json")
    assert Assessment.load(tmp_path / "assessment.json") == found
    assert json.loads((tmp_path / "assessment.json").read_text())["schema"] == "gyrus.assessment/1"
    (tmp_path / "assessment.json").write_text('{"schema": "gyrus.assessment/9"}')
    with pytest.raises(DataError, match=r"gyrus\.assessment/9"):
        Assessment.load(tmp_path / "assessment.json")


@pytest.mark.parametrize(
    ("people", "words"),
    [
        ((8, 6, 4, 2), "The choices rest on 20 subjects of the validation set"),
        ((8, 6, 4, 1), "No calibration: The validation set has 1 of 'Moderate'"),
        ((8, 6, 4, 0), "No calibration: The validation set has 0 of 'Moderate'"),
        ((20, 0, 0, 0), "No operating points: A threshold cannot be chosen"),
        ((0, 3, 0, 0), "none is negative"),
        ((1, 1, 0, 0), "The choices rest on 2 subjects"),
    ],
)
def test_too_few_subjects_get_notes_not_nan(people: tuple[int, ...], words: str, tmp_path: Path) -> None:
    found = assessed(people)
    text = found.text()
    assert words in text
    assert "nan" not in text.lower().split()
    found.save(tmp_path / "assessment.json")
    content = (tmp_path / "assessment.json").read_text()
    assert "NaN" not in content
    assert "Infinity" not in content
    assert Assessment.load(tmp_path / "assessment.json") == found


def test_the_text_is_plain_and_short() -> None:
    lines = assessed().text().splitlines()
    assert 5 <= len(lines) <= 12
    assert lines[0].startswith("Chosen on 50 subjects of the validation set, evaluated on 50 subjects")
    assert any("NPV and sensitivity of at least 0.95" in line for line in lines)


def test_without_a_healthy_class_nothing_is_guessed() -> None:
    found = assess(*pair(), resamples=0)
    assert found.points == ()
    assert found.curve is None
    assert "no healthy class was given" in found.text()


@pytest.mark.parametrize("unit", SPLIT_WARNINGS)
def test_the_warning_of_the_split_comes_first(unit: str) -> None:
    found = assess(*pair(split_unit=unit), healthy="Non", resamples=0)
    assert found.text().startswith(f"WARNING: {SPLIT_WARNINGS[unit]}") == bool(SPLIT_WARNINGS[unit])
    assert found.group == ("scan" if unit == "scan" else "subject")


def test_where_subjects_are_unknown_images_are_evaluated() -> None:
    val, test = pair(split_unit="image")
    images = replace(test, table=test.table.assign(subject=None).astype({"subject": "string"}))
    found = assess(val, images, healthy="Non", resamples=20)
    assert (found.unit, found.group, found.test_count) == ("image", "image", 250)


def test_subjects_in_both_subsets_are_refused() -> None:
    val, test = pair()
    with pytest.raises(LeakageError, match="250 images are in the validation and in the test set"):
        assess(val, replace(val, subset="test"))
    both = test.table.assign(subject=val.table["subject"].to_numpy())
    with pytest.raises(LeakageError, match="50 subjects"):
        assess(val, replace(test, table=both))
    for unit in ("image", "copy"):
        assess(replace(val, split_unit=unit), replace(test, table=both, split_unit=unit), resamples=0)


def test_what_does_not_fit_is_refused() -> None:
    val, test = pair()
    with pytest.raises(DataError, match="test set"):
        assess(test, val)
    with pytest.raises(DataError, match="classes differ"):
        assess(study((9, 9), classes=("a", "b"), subset="val"), test)
    with pytest.raises(DataError, match="split by image"):
        assess(replace(val, split_unit="image"), test)
    with pytest.raises(DataError, match="has a true class"):
        assess(val, replace(test, table=test.table.assign(target=None).astype({"target": "string"})))
    with pytest.raises(UnknownNameError, match="class 'none'"):
        assess(val, test, healthy="none")
    with pytest.raises(UnknownNameError, match="calibration"):
        assess(val, test, calibrator="beta")


def test_files_written_before_version_0_2_are_read(tmp_path: Path) -> None:
    found = assessed()
    document = json.dumps(found.to_document())
    for name, former in {
        "selective_prediction": "abstention",
        "class_name": "of",
        "fraction": "share",
        "treat_all": "everybody",
        "ppv": "positive_precision",
        "npv": "negative_precision",
    }.items():
        document = document.replace(f'"{name}":', f'"{former}":')
    document = document.replace('"npv_with_sensitivity"', '"healthy_precision"')
    (tmp_path / "assessment.json").write_text(document)
    assert Assessment.load(tmp_path / "assessment.json") == found
